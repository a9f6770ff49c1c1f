// Steps that only cut at numbers and signs; GPT-2's pattern is applied to the parts, before or after.
#include "data/pre_tokenizers/scan.h"
#include "data/pre_tokenizers/splitter.h"

namespace whit {
namespace {

// [\p{P}$+<=>^~|]
bool is_sign(char32_t value, uint8_t type) {
  return (type & kPunctuation) != 0 ||
         (value < 128 && std::string_view("$+<=>^~|").find(static_cast<char>(value)) != std::string_view::npos);
}

bool three_digits_at(std::string_view text, size_t at) {
  const auto digit = [&](size_t i) { return text[i] >= '0' && text[i] <= '9'; };
  return at + 3 <= text.size() && digit(at) && digit(at + 1) && digit(at + 2);
}

}  // namespace

size_t next_piece_digits(std::string_view text) {
  const CodePoint first = next_code_point(text);
  if (character_class(first.value) & kNumber) return first.length;
  return skip_while(text, first.length, [](uint8_t c) { return (c & kNumber) == 0; });
}

size_t next_piece_numbers(std::string_view text) {
  const bool number = (class_at(text, 0) & kNumber) != 0;
  return skip_while(text, 0, [&](uint8_t c) { return ((c & kNumber) != 0) == number; });
}

size_t next_piece_signs(std::string_view text) {
  bool first_is_sign = false;
  for (size_t at = 0; at < text.size();) {
    const CodePoint point = next_code_point(text.substr(at));
    const bool sign = is_sign(point.value, character_class(point.value));
    if (at == 0) first_is_sign = sign;
    if (sign != first_is_sign) return at;
    at += point.length;
  }
  return text.size();
}

size_t next_piece_three_digits(std::string_view text) {
  if (three_digits_at(text, 0)) return 3;
  size_t at = 1;
  while (at < text.size() && !three_digits_at(text, at)) ++at;
  return at;
}

}  // namespace whit
