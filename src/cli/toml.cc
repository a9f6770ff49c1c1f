#include "cli/toml.h"

#include <toml++/toml.h>

#include <sstream>

#include "base/error.h"

namespace whit {
namespace {

void insert(toml::table& into, const std::string& key, const Json& json, bool top);
toml::array array_of(const Json& json, bool top);

template <class Into>
void put(Into&& into, const Json& json, bool top) {
  if (json.is_boolean()) {
    into(json.get<bool>());
  } else if (json.is_number_integer()) {
    if (json.is_number_unsigned() && json.get<uint64_t>() > static_cast<uint64_t>(INT64_MAX))
      throw Error(ErrorKind::input, "a number is too large for TOML", "recipe", json.dump());
    into(json.get<int64_t>());
  } else if (json.is_number()) {
    into(json.get<double>());
  } else if (json.is_string()) {
    into(json.get<std::string>());
  } else if (json.is_array()) {
    into(array_of(json, top));
  } else if (json.is_object()) {
    toml::table table;
    for (const auto& [key, value] : json.items()) insert(table, key, value, false);
    table.is_inline(!top);
    into(std::move(table));
  }
}

toml::array array_of(const Json& json, bool top) {
  toml::array array;
  for (const Json& item : json)
    put([&](auto&& value) { array.push_back(std::forward<decltype(value)>(value)); }, item, top);
  return array;
}

// `top`: a table here gets a header of its own ([calibrate], [[step]]); deeper ones stand inline.
void insert(toml::table& into, const std::string& key, const Json& json, bool top) {
  put([&](auto&& value) { into.insert_or_assign(key, std::forward<decltype(value)>(value)); }, json, top);
}

}  // namespace

std::string to_toml(const Json& json) {
  if (!json.is_object()) throw Error(ErrorKind::input, "a recipe must be a table", "recipe", json.type_name());
  toml::table table;
  for (const auto& [key, value] : json.items()) insert(table, key, value, true);
  std::ostringstream out;
  out << toml::toml_formatter{table} << "\n";
  return out.str();
}

}  // namespace whit
