#include "data/unicode.h"

#define PCRE2_CODE_UNIT_WIDTH 8
#include <pcre2.h>

#include <memory>
#include <vector>

#include "base/error.h"

namespace whit {

CodePoint decode_multibyte(std::string_view text) noexcept {
  constexpr CodePoint invalid{kInvalidCodePoint, 1};
  const auto byte = [&](size_t i) { return static_cast<unsigned char>(text[i]); };
  const auto continues = [&](size_t i) { return i < text.size() && (byte(i) & 0xc0) == 0x80; };
  const unsigned first = byte(0);
  if (first < 0x80) return {first, 1};
  if (first < 0xc2 || first > 0xf4 || !continues(1)) return invalid;
  if (first < 0xe0) return {((first & 0x1fu) << 6) | (byte(1) & 0x3fu), 2};
  if (!continues(2)) return invalid;
  if (first < 0xf0) {
    const char32_t value = ((first & 0x0fu) << 12) | ((byte(1) & 0x3fu) << 6) | (byte(2) & 0x3fu);
    if (value < 0x800 || (value >= 0xd800 && value < 0xe000)) return invalid;
    return {value, 3};
  }
  if (!continues(3)) return invalid;
  const char32_t value =
      ((first & 0x07u) << 18) | ((byte(1) & 0x3fu) << 12) | ((byte(2) & 0x3fu) << 6) | (byte(3) & 0x3fu);
  if (value < 0x10000 || value > 0x10ffff) return invalid;
  return {value, 4};
}

void append_utf8(std::string& out, char32_t value) {
  const auto put = [&](char32_t byte) { out.push_back(static_cast<char>(byte)); };
  if (value < 0x80) {
    put(value);
  } else if (value < 0x800) {
    put(0xc0 | (value >> 6));
    put(0x80 | (value & 0x3f));
  } else if (value < 0x10000) {
    put(0xe0 | (value >> 12));
    put(0x80 | ((value >> 6) & 0x3f));
    put(0x80 | (value & 0x3f));
  } else {
    put(0xf0 | (value >> 18));
    put(0x80 | ((value >> 12) & 0x3f));
    put(0x80 | ((value >> 6) & 0x3f));
    put(0x80 | (value & 0x3f));
  }
}

namespace {

// Length of the longest prefix of a valid sequence at the start of `text` (1 at least), and whether more bytes could
// complete it, i.e. whether it ends because the text does.
struct Prefix {
  size_t length;
  bool cut_off;
};
Prefix broken_prefix(std::string_view text) noexcept {
  const auto byte = [&](size_t i) { return static_cast<unsigned char>(text[i]); };
  const unsigned first = byte(0);
  if (first < 0xc2 || first > 0xf4) return {1, false};
  const size_t wanted = first < 0xe0 ? 2 : first < 0xf0 ? 3 : 4;
  // The second byte is bounded so that no overlong form, surrogate or too large value begins.
  unsigned least = 0x80, most = 0xbf;
  if (first == 0xe0) least = 0xa0;
  if (first == 0xed) most = 0x9f;
  if (first == 0xf0) least = 0x90;
  if (first == 0xf4) most = 0x8f;
  size_t length = 1;
  while (length < wanted) {
    if (length == text.size()) return {length, true};
    if (byte(length) < least || byte(length) > most) return {length, false};
    least = 0x80, most = 0xbf;
    ++length;
  }
  return {length, false};
}

}  // namespace

std::string replace_invalid_utf8(std::string_view bytes) {
  std::string out;
  out.reserve(bytes.size());
  while (!bytes.empty()) {
    const CodePoint point = next_code_point(bytes);
    size_t length = point.length;
    if (point.value == kInvalidCodePoint) {
      length = broken_prefix(bytes).length;
      out += "\xef\xbf\xbd";
    } else {
      out.append(bytes.substr(0, length));
    }
    bytes.remove_prefix(length);
  }
  return out;
}

size_t find_invalid_utf8(std::string_view bytes) noexcept {
  for (size_t at = 0; at < bytes.size();) {
    const CodePoint point = next_code_point(bytes.substr(at));
    if (point.value == kInvalidCodePoint) return at;
    at += point.length;
  }
  return std::string_view::npos;
}

size_t incomplete_utf8_tail(std::string_view bytes) noexcept {
  for (size_t length = 1; length <= 3 && length <= bytes.size(); ++length) {
    const std::string_view tail = bytes.substr(bytes.size() - length);
    const auto first = static_cast<unsigned char>(tail[0]);
    if ((first & 0xc0) == 0x80) continue;
    if (first < 0x80) return 0;
    const Prefix prefix = broken_prefix(tail);
    return prefix.cut_off && prefix.length == length ? length : 0;
  }
  return 0;
}

namespace {

// Planes 0 to 3. The planes above hold no letters, numbers or spaces: they are unassigned, for format characters and
// for private use.
constexpr size_t kCodePoints = 0x40000;

// Sets `bit` for every code point that `pattern` (one character class, repeated) matches.
void mark(std::vector<uint8_t>& table, const std::string& all, const char* pattern, uint8_t bit) {
  int error = 0;
  PCRE2_SIZE where = 0;
  const std::unique_ptr<pcre2_code, decltype(&pcre2_code_free)> code(
      pcre2_compile(reinterpret_cast<PCRE2_SPTR>(pattern), PCRE2_ZERO_TERMINATED, PCRE2_UTF | PCRE2_UCP, &error, &where,
                    nullptr),
      pcre2_code_free);
  if (!code)
    throw Error(ErrorKind::internal, "PCRE2 refuses a character class", pattern,
                "error " + std::to_string(error) + " at " + std::to_string(where));
  pcre2_jit_compile(code.get(), PCRE2_JIT_COMPLETE);  // without JIT the match below is the same, slower
  const std::unique_ptr<pcre2_match_data, decltype(&pcre2_match_data_free)> match(pcre2_match_data_create(1, nullptr),
                                                                                  pcre2_match_data_free);
  WHIT_CHECK(match != nullptr);
  const auto* subject = reinterpret_cast<PCRE2_SPTR>(all.data());
  PCRE2_SIZE at = 0;
  while (at < all.size() &&
         pcre2_match(code.get(), subject, all.size(), at, PCRE2_NO_UTF_CHECK, match.get(), nullptr) > 0) {
    const PCRE2_SIZE* bounds = pcre2_get_ovector_pointer(match.get());
    for (at = bounds[0]; at < bounds[1];) {
      const CodePoint point = next_code_point(std::string_view(all).substr(at));
      table[point.value] |= bit;
      at += point.length;
    }
  }
}

std::vector<uint8_t> make_table() {
  std::string all;
  all.reserve(4 * kCodePoints);
  for (char32_t value = 0; value < kCodePoints; ++value)
    if (value < 0xd800 || value >= 0xe000) append_utf8(all, value);
  std::vector<uint8_t> table(kCodePoints);
  mark(table, all, "\\p{L}+", kLetter);
  mark(table, all, "\\p{N}+", kNumber);
  mark(table, all, "\\p{White_Space}+", kSpace);
  mark(table, all, "\\p{M}+", kMark);
  mark(table, all, "[\\p{Lu}\\p{Lt}]+", kUpper);
  mark(table, all, "\\p{Ll}+", kLower);
  mark(table, all, "\\p{P}+", kPunctuation);
  mark(table, all, "[\\p{Alphabetic}\\p{M}\\p{Nd}\\p{Pc}\\p{Join_Control}]+", kWord);
  return table;
}

}  // namespace

uint8_t unicode_detail::class_beyond_ascii(char32_t value) {
  static const std::vector<uint8_t> table = make_table();
  return value < kCodePoints ? table[value] : 0;
}

}  // namespace whit
