#include "data/normalizers/space_marks.h"

namespace whit {

std::string mark_spaces(std::string_view text, SpacePrefix prefix, bool first) {
  std::string out;
  if (text.empty()) return out;
  out.reserve(text.size() + text.size() / 2 + kSpaceMark.size());
  const bool marked = text[0] == ' ' || text.substr(0, kSpaceMark.size()) == kSpaceMark;
  if (prefix == SpacePrefix::always || (prefix == SpacePrefix::always_unmarked && !marked) ||
      (prefix == SpacePrefix::first_unmarked && first && !marked))
    out += kSpaceMark;
  for (const char c : text) {
    if (c == ' ')
      out += kSpaceMark;
    else
      out.push_back(c);
  }
  return out;
}

std::string unmark_spaces(std::string_view text) {
  std::string out;
  for (size_t at = 0; at < text.size();) {
    if (text.substr(at, kSpaceMark.size()) == kSpaceMark) {
      out.push_back(' ');
      at += kSpaceMark.size();
    } else {
      out.push_back(text[at++]);
    }
  }
  return out;
}

}  // namespace whit
