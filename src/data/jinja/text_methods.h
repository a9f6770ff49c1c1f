// Methods of Python's str.
#pragma once

#include "data/jinja/interpreter.h"

namespace whit::jinja::text_methods {

#define WHIT_TEXT_METHOD(name) Value name(Interpreter& in, const Value& self, const Call& call);
WHIT_TEXT_METHOD(capitalize)
WHIT_TEXT_METHOD(center)
WHIT_TEXT_METHOD(count)
WHIT_TEXT_METHOD(ends_with)
WHIT_TEXT_METHOD(find)
WHIT_TEXT_METHOD(format)
WHIT_TEXT_METHOD(index)
WHIT_TEXT_METHOD(is_alnum)
WHIT_TEXT_METHOD(is_alpha)
WHIT_TEXT_METHOD(is_ascii)
WHIT_TEXT_METHOD(is_decimal)
WHIT_TEXT_METHOD(is_digit)
WHIT_TEXT_METHOD(is_lower)
WHIT_TEXT_METHOD(is_space)
WHIT_TEXT_METHOD(is_upper)
WHIT_TEXT_METHOD(join)
WHIT_TEXT_METHOD(ljust)
WHIT_TEXT_METHOD(lower)
WHIT_TEXT_METHOD(lstrip)
WHIT_TEXT_METHOD(partition)
WHIT_TEXT_METHOD(remove_prefix)
WHIT_TEXT_METHOD(remove_suffix)
WHIT_TEXT_METHOD(replace)
WHIT_TEXT_METHOD(rfind)
WHIT_TEXT_METHOD(rindex)
WHIT_TEXT_METHOD(rjust)
WHIT_TEXT_METHOD(rpartition)
WHIT_TEXT_METHOD(rsplit)
WHIT_TEXT_METHOD(rstrip)
WHIT_TEXT_METHOD(split)
WHIT_TEXT_METHOD(split_lines)
WHIT_TEXT_METHOD(starts_with)
WHIT_TEXT_METHOD(strip)
WHIT_TEXT_METHOD(title)
WHIT_TEXT_METHOD(upper)
WHIT_TEXT_METHOD(zfill)
#undef WHIT_TEXT_METHOD

// Of str.replace and the filter: count below zero replaces all.
std::string replaced(Interpreter& in, std::string_view text, std::string_view old, std::string_view with,
                     int64_t count);
std::string capitalized(std::string_view text);

}  // namespace whit::jinja::text_methods
