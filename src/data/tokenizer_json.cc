#include "data/tokenizer_json.h"

#include "base/error.h"

namespace whit::tokenizer_json {

std::string shown(const json& value) {
  std::string text = value.dump(-1, ' ', false, json::error_handler_t::replace);
  constexpr size_t kMost = 400;
  if (text.size() > kMost) text = text.substr(0, kMost) + " ...";
  return text;
}

void refuse(const std::string& what, const std::string& where, const json& found, const std::string& hint) {
  throw Error(ErrorKind::input, what, where, shown(found), hint);
}

const json& member(const json& object, const char* key) {
  static const json kNull;
  if (!object.is_object()) return kNull;
  const auto found = object.find(key);
  return found == object.end() ? kNull : *found;
}

bool boolean(const json& object, const char* key, bool fallback, const std::string& where) {
  const json& value = member(object, key);
  if (value.is_null()) return fallback;
  if (!value.is_boolean()) refuse("true or false is wanted", where + "." + key, value);
  return value.get<bool>();
}

const std::string& text_of(const json& value, const std::string& where) {
  if (!value.is_string()) refuse("a string is wanted", where, value);
  return value.get_ref<const std::string&>();
}

int32_t id_of(const json& value, const std::string& where) {
  constexpr int64_t kMost = 16 << 20;  // more than any vocabulary; bounds what a hostile file can make us allocate
  if (!value.is_number_integer()) refuse("a token id is wanted", where, value);
  if (value.is_number_unsigned() ? value.get<uint64_t>() > static_cast<uint64_t>(kMost)
                                 : value.get<int64_t>() < 0 || value.get<int64_t>() > kMost)
    refuse("a token id is out of range", where, value, "0 to " + std::to_string(kMost));
  return static_cast<int32_t>(value.get<int64_t>());
}

bool is_type(const json& step, std::string_view name) {
  const json& type = member(step, "type");
  return type.is_string() && type.get_ref<const std::string&>() == name;
}

}  // namespace whit::tokenizer_json
