// Mistral's pattern since Nemo (kTekkenPattern): words end where small letters are followed by a capital.
#include "data/pre_tokenizers/scan.h"
#include "data/pre_tokenizers/splitter.h"

namespace whit {
namespace {

// Letters without case and marks are in both classes of the pattern.
bool begins_word(uint8_t c) { return (c & kMark) || ((c & kLetter) && !(c & kLower)); }     // Lu Lt Lm Lo M
bool continues_word(uint8_t c) { return (c & kMark) || ((c & kLetter) && !(c & kUpper)); }  // Ll Lm Lo M

// Where a word that starts at `at` ends: [begins]*[continues]+ (what a pattern's backtracking would find), or, with
// `capitals`, [begins]+[continues]*. `at` where there is none.
size_t word_end(std::string_view text, size_t at, bool capitals) {
  size_t end = at, last_shared = at;  // last_shared: the end of the last character of the run that is in both classes
  while (end < text.size()) {
    const CodePoint point = next_code_point(text.substr(end));
    const uint8_t type = character_class(point.value);
    if (!begins_word(type)) break;
    end += point.length;
    if (continues_word(type)) last_shared = end;
  }
  if (class_at(text, end) & kLower) {
    if (capitals && end == at) return at;
    return skip_while(text, end, continues_word);
  }
  return capitals ? end : last_shared;
}

}  // namespace

size_t next_piece_tekken(std::string_view text) {
  const CodePoint first = next_code_point(text);
  const uint8_t type = character_class(first.value);
  const bool joins = !(type & (kLetter | kNumber)) && !is_newline(text[0]);  // [^\r\n\p{L}\p{N}]
  for (const bool capitals : {false, true}) {
    if (joins)
      if (const size_t end = word_end(text, first.length, capitals); end > first.length) return end;
    if (const size_t end = word_end(text, 0, capitals); end > 0) return end;
  }
  if (type & kNumber) return first.length;
  // ` ?[^\s\p{L}\p{N}]+[\r\n/]*`
  if (const size_t start = text[0] == ' ' ? 1 : 0; begins_signs(text, start)) {
    size_t end = skip_signs(text, start);
    while (end < text.size() && (is_newline(text[end]) || text[end] == '/')) ++end;
    return end;
  }
  return line_or_space_piece(text);
}

}  // namespace whit
