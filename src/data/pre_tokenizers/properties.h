// Sets of characters by the names that Oniguruma knows, as PCRE2 writes them between the brackets of a class.
#pragma once

#include <string>
#include <string_view>

namespace whit {

// \w, and [[:word:]]: outside of brackets Oniguruma's table of Latin-1 counts superscripts and fractions in.
inline constexpr char kPosixWord[] = "\\p{Alphabetic}\\p{M}\\p{Nd}\\p{Pc}";
inline constexpr char kOnigurumaWord[] = "\\p{Alphabetic}\\p{M}\\p{Nd}\\p{Pc}\\x{b2}\\x{b3}\\x{b9}\\x{bc}-\\x{be}";

// Of \p{...}: `name` in small letters, without spaces, '-' and '_'. What is no property or category is taken for the
// name of a script, of which PCRE2 knows which there are. Empty for what can be none of them.
std::string property_class(std::string_view name);
// Of [:name:]; empty for an unknown one.
std::string posix_class(std::string_view name);

}  // namespace whit
