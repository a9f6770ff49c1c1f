// Steps that the hand-written splitters share.
#pragma once

#include <string_view>

#include "data/unicode.h"

namespace whit {

// The offset after the run of characters from `at` on whose class satisfies `wanted`.
template <class Wanted>
size_t skip_while(std::string_view text, size_t at, const Wanted& wanted) {
  while (at < text.size()) {
    const CodePoint point = next_code_point(text.substr(at));
    if (!wanted(character_class(point.value))) break;
    at += point.length;
  }
  return at;
}

inline size_t skip_letters(std::string_view text, size_t at) {
  return skip_while(text, at, [](uint8_t c) { return (c & kLetter) != 0; });
}
inline size_t skip_numbers(std::string_view text, size_t at) {
  return skip_while(text, at, [](uint8_t c) { return (c & kNumber) != 0; });
}
// [^\s\p{L}\p{N}]+; bytes of invalid UTF-8 count as such signs.
inline size_t skip_signs(std::string_view text, size_t at) {
  return skip_while(text, at, [](uint8_t c) { return (c & (kLetter | kNumber | kSpace)) == 0; });
}

inline uint8_t class_at(std::string_view text, size_t at) {
  return at < text.size() ? character_class(next_code_point(text.substr(at)).value) : uint8_t{0};
}

// A run of white space: where it ends and where its last character begins.
struct SpaceRun {
  size_t end, last;
};
inline SpaceRun space_run(std::string_view text, size_t at) {
  SpaceRun run{at, at};
  while (run.end < text.size()) {
    const CodePoint point = next_code_point(text.substr(run.end));
    if (!(character_class(point.value) & kSpace)) break;
    run.last = run.end;
    run.end += point.length;
  }
  return run;
}

// \s+(?!\S)|\s+ at the start of a text that begins with white space: the last character of the run is left to what
// follows, unless nothing does.
inline size_t space_piece(std::string_view text) {
  const SpaceRun run = space_run(text, 0);
  return run.end == text.size() || run.last == 0 ? run.end : run.last;
}

inline bool is_newline(char c) { return c == '\r' || c == '\n'; }

// \s*[\r\n]+|\s+(?!\S)|\s+: up to the last line end of the run of white space, if it has one.
inline size_t line_or_space_piece(std::string_view text) {
  const SpaceRun run = space_run(text, 0);
  for (size_t end = run.end; end > 0; --end)
    if (is_newline(text[end - 1])) return end;
  return run.end == text.size() || run.last == 0 ? run.end : run.last;
}

inline bool begins_signs(std::string_view text, size_t at) {
  return at < text.size() && (class_at(text, at) & (kLetter | kNumber | kSpace)) == 0;
}

}  // namespace whit
