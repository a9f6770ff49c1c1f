// GPT-2's pattern (kGpt2Pattern).
#include "data/pre_tokenizers/scan.h"
#include "data/pre_tokenizers/splitter.h"

namespace whit {
namespace {

// 's 't 're 've 'm 'll 'd, in ASCII and lower case only. 0 where there is none.
size_t contraction(std::string_view text) {
  if (text.size() < 2 || text[0] != '\'') return 0;
  const char first = text[1];
  if (first == 's' || first == 't' || first == 'm' || first == 'd') return 2;
  if (text.size() < 3) return 0;
  const char second = text[2];
  if ((first == 'r' || first == 'v') && second == 'e') return 3;
  return first == 'l' && second == 'l' ? 3 : 0;
}

}  // namespace

size_t next_piece_gpt2(std::string_view text) {
  if (const size_t length = contraction(text)) return length;
  const size_t start = text[0] == ' ' ? 1 : 0;
  const uint8_t type = class_at(text, start);
  if (type & kLetter) return skip_letters(text, start);
  if (type & kNumber) return skip_numbers(text, start);
  if (start < text.size() && !(type & kSpace)) return skip_signs(text, start);
  return space_piece(text);
}

}  // namespace whit
