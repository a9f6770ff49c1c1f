// Llama-3's pattern (kLlama3Pattern), called llama-bpe in GGUF, and Qwen2's (kQwen2Pattern), which has one number to a
// piece where Llama-3's has up to three.
#include "data/pre_tokenizers/scan.h"
#include "data/pre_tokenizers/splitter.h"

namespace whit {
namespace {

// (?i:'s|'t|'re|'ve|'m|'ll|'d) under Unicode case folding: the long s (U+017F) is an s too. 0 where there is none.
size_t contraction(std::string_view text) {
  if (text.size() < 2 || text[0] != '\'') return 0;
  const auto lower = [](char c) { return c >= 'A' && c <= 'Z' ? static_cast<char>(c + 32) : c; };
  const char first = lower(text[1]);
  if (first == 's' || first == 't' || first == 'm' || first == 'd') return 2;
  if (text.size() < 3) return 0;
  if (text.substr(1, 2) == "\xc5\xbf") return 3;
  const char second = lower(text[2]);
  if ((first == 'r' || first == 'v') && second == 'e') return 3;
  return first == 'l' && second == 'l' ? 3 : 0;
}

template <int kNumbers>
size_t next_piece(std::string_view text) {
  if (const size_t length = contraction(text)) return length;
  const CodePoint first = next_code_point(text);
  const uint8_t type = character_class(first.value);
  if (type & kLetter) return skip_letters(text, first.length);
  // [^\r\n\p{L}\p{N}]?\p{L}+
  if (!(type & kNumber) && !is_newline(text[0]) && (class_at(text, first.length) & kLetter))
    return skip_letters(text, first.length);
  // \p{N}{1,3}
  if (type & kNumber) {
    size_t end = first.length;
    for (int more = 1; more < kNumbers && (class_at(text, end) & kNumber); ++more)
      end += next_code_point(text.substr(end)).length;
    return end;
  }
  // ` ?[^\s\p{L}\p{N}]+[\r\n]*`
  if (const size_t start = text[0] == ' ' ? 1 : 0; begins_signs(text, start)) {
    size_t end = skip_signs(text, start);
    while (end < text.size() && is_newline(text[end])) ++end;
    return end;
  }
  return line_or_space_piece(text);
}

}  // namespace

size_t next_piece_llama3(std::string_view text) { return next_piece<3>(text); }
size_t next_piece_qwen2(std::string_view text) { return next_piece<1>(text); }

}  // namespace whit
