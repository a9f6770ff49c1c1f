// Texts by code points, and what Python's str does with characters.
#pragma once

#include <string>
#include <string_view>
#include <vector>

namespace whit::jinja {

bool is_python_space(char32_t value) noexcept;  // str.isspace
// Without the white space at its ends.
std::string_view stripped(std::string_view text, bool left, bool right) noexcept;
// Without the characters of `set` at its ends.
std::string_view stripped(std::string_view text, std::string_view set, bool left, bool right) noexcept;

size_t count_points(std::string_view text) noexcept;
// The byte where code point `index` begins; the size of the text for its end and beyond.
size_t offset_of_point(std::string_view text, size_t index) noexcept;
std::vector<std::string_view> points_of(std::string_view text);  // each character a text of its own

// Lines without their ends, or with them, split where str.splitlines does.
std::vector<std::string_view> split_lines(std::string_view text, bool keep_ends);

std::string upper(std::string_view text);
std::string lower(std::string_view text);
std::string title_first(std::string_view character);  // one character in title case
// Of str.isupper and str.islower: there are cased characters, and all of them are `wanted`.
bool all_cased(std::string_view text, bool upper) noexcept;
bool is_cased(char32_t value) noexcept;
bool is_alphabetic(char32_t value) noexcept;      // str.isalpha
bool is_decimal(char32_t value) noexcept;         // str.isdecimal
bool is_numeric_letter(char32_t value) noexcept;  // a number that is no decimal digit
bool is_printable(char32_t value) noexcept;       // str.isprintable: repr escapes the others

}  // namespace whit::jinja
