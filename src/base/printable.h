// Text from outside, shown rather than obeyed by a terminal.
#pragma once

#include <string>
#include <string_view>

namespace whit {

// Control characters but newline and tab, DEL, C1 controls (U+0080 to U+009F), marks that turn the direction of writing
// (U+202A to U+202E, U+2066 to U+2069) and bytes that are no UTF-8 become \x1b or \u202e; all else stays.
std::string printable(std::string_view text);

}  // namespace whit
