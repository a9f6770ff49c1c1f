#include "base/toml.h"

#include <fmt/format.h>

#define TOML_ENABLE_FORMATTERS 0
#include <toml++/toml.h>

namespace whit {
namespace {

Json convert(const toml::node& node, const std::string& where) {
  if (const auto* table = node.as_table()) {
    Json json = Json::object();
    for (const auto& [key, value] : *table) json[std::string(key.str())] = convert(value, where);
    return json;
  }
  if (const auto* array = node.as_array()) {
    Json json = Json::array();
    for (const auto& value : *array) json.push_back(convert(value, where));
    return json;
  }
  if (const auto* text = node.as_string()) return text->get();
  if (const auto* integer = node.as_integer())
    return integer->get() < 0 ? Json(integer->get()) : Json(static_cast<uint64_t>(integer->get()));
  if (const auto* real = node.as_floating_point()) return real->get();
  if (const auto* flag = node.as_boolean()) return flag->get();
  throw Error(ErrorKind::usage, "a recipe holds no dates or times", where,
              fmt::format("line {}", node.source().begin.line));
}

bool is_table_array(const Json& json) {
  if (!json.is_array() || json.empty()) return false;
  for (const Json& item : json)
    if (!item.is_object()) return false;
  return true;
}

void write_inline(const Json& json, std::string& out) {
  if (json.is_object()) {
    out += "{ ";
    bool first = true;
    for (const auto& [key, value] : json.items()) {
      if (value.is_null()) continue;
      if (!first) out += ", ";
      first = false;
      out += key + " = ";
      write_inline(value, out);
    }
    out += " }";
  } else if (json.is_array()) {
    out += "[";
    for (size_t i = 0; i < json.size(); ++i) {
      if (i) out += ", ";
      write_inline(json[i], out);
    }
    out += "]";
  } else {
    out += json.dump();  // strings, numbers and booleans are written alike in both languages
  }
}

void write_values(const Json& table, std::string& out) {
  for (const auto& [key, value] : table.items()) {
    if (value.is_null()) continue;
    out += key + " = ";
    write_inline(value, out);
    out += "\n";
  }
}

}  // namespace

Json toml_to_json(std::string_view text, const std::string& where) {
  try {
    return convert(toml::parse(text), where);
  } catch (const toml::parse_error& error) {
    throw Error(ErrorKind::usage, "not valid TOML: " + std::string(error.description()),
                fmt::format("{}, line {}, column {}", where, error.source().begin.line, error.source().begin.column));
  }
}

std::string json_to_toml(const Json& json) {
  std::string out;
  for (const auto& [key, value] : json.items()) {
    if (value.is_null()) continue;
    if (value.is_object()) {
      out += fmt::format("\n[{}]\n", key);
      write_values(value, out);
    } else if (is_table_array(value)) {
      for (const Json& item : value) {
        out += fmt::format("\n[[{}]]\n", key);
        write_values(item, out);
      }
    } else {
      out += key + " = ";
      write_inline(value, out);
      out += "\n";
    }
  }
  return out;
}

}  // namespace whit
