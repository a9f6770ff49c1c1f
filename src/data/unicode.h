// Unicode as the tokenizers need it: code points of UTF-8, and the classes that pre-tokenizer patterns are made of.
#pragma once

#include <array>
#include <cstdint>
#include <string>
#include <string_view>

namespace whit {

// One step through UTF-8. A byte that begins no valid sequence is a step of its own with value kInvalidCodePoint.
struct CodePoint {
  char32_t value;
  uint32_t length;
};
constexpr char32_t kInvalidCodePoint = 0xffffffff;

// `text` must not be empty. Overlong forms, surrogates and values above U+10FFFF are invalid.
CodePoint decode_multibyte(std::string_view text) noexcept;
inline CodePoint next_code_point(std::string_view text) noexcept {
  const auto first = static_cast<unsigned char>(text[0]);
  if (first < 0x80) return {first, 1};
  return decode_multibyte(text);
}
void append_utf8(std::string& out, char32_t value);

// The bytes as valid UTF-8: every maximal broken part of a sequence becomes one U+FFFD (as Unicode recommends, and as
// Rust's from_utf8_lossy does).
std::string replace_invalid_utf8(std::string_view bytes);
// The offset of the first byte that is not valid UTF-8, or npos.
size_t find_invalid_utf8(std::string_view bytes) noexcept;
// How many bytes at the end may be the beginning of a valid sequence that is not complete yet: 0 ... 3.
size_t incomplete_utf8_tail(std::string_view bytes) noexcept;

// Bits of the class of a code point. Of kLetter, kNumber and kSpace at most one is set; an invalid byte has none at
// all.
enum CharacterClass : uint8_t {
  kLetter = 1,        // \p{L}
  kNumber = 2,        // \p{N}
  kSpace = 4,         // \p{White_Space}
  kWord = 8,          // \w as Rust's regex crate has it
  kMark = 16,         // \p{M}
  kUpper = 32,        // \p{Lu} and \p{Lt}
  kLower = 64,        // \p{Ll}
  kPunctuation = 128  // \p{P}
};

namespace unicode_detail {
constexpr std::array<uint8_t, 128> make_ascii() {
  std::array<uint8_t, 128> table{};
  for (int c = 0; c < 128; ++c) {
    if (c >= 'a' && c <= 'z') table[c] = kLetter | kWord | kLower;
    if (c >= 'A' && c <= 'Z') table[c] = kLetter | kWord | kUpper;
    if (c >= '0' && c <= '9') table[c] = kNumber | kWord;
    if (c == ' ' || (c >= 9 && c <= 13)) table[c] = kSpace;
    if (std::string_view("!\"#%&'()*,-./:;?@[\\]_{}").find(static_cast<char>(c)) != std::string_view::npos)
      table[c] = kPunctuation;
    if (c == '_') table[c] |= kWord;
  }
  return table;
}
inline constexpr std::array<uint8_t, 128> kAscii = make_ascii();
uint8_t class_beyond_ascii(char32_t value);
}  // namespace unicode_detail

// The first call beyond ASCII asks PCRE2 for the classes of all code points (some milliseconds, then 256 KB are kept).
inline uint8_t character_class(char32_t value) {
  return value < 128 ? unicode_detail::kAscii[value] : unicode_detail::class_beyond_ascii(value);
}

}  // namespace whit
