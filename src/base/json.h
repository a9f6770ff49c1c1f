// JSON that comes from outside: bounded depth, no duplicate keys, errors that name the place.
#pragma once

#include <nlohmann/json.hpp>
#include <string>
#include <string_view>

namespace whit {

// Objects are sorted maps: look-ups stay fast with 100,000 keys (an ordered_json searches them one by one).
// Throws ErrorKind::input for a syntax error, nesting deeper than `depth`, or a key that is there twice.
nlohmann::json parse_json(std::string_view text, const std::string& where, int depth = 64);

}  // namespace whit
