// Keys of config.json. Used by config.cc and config_rotary.cc only.
#pragma once

#include <fmt/format.h>

#include <cmath>
#include <nlohmann/json.hpp>
#include <set>
#include <string>
#include <string_view>
#include <vector>

#include "base/error.h"
#include "model/spec/config.h"

namespace whit {

inline constexpr int64_t kLargestConfigSize = int64_t{1} << 31;

// Reads keys of one JSON object, and remembers which; a null is an absent key. The object must outlive it.
class ConfigKeys {
 public:
  ConfigKeys(const nlohmann::json& object, std::string where) : object_(object), where_(std::move(where)) {}

  const nlohmann::json* find(const char* key) const {
    asked_.insert(key);
    const auto found = object_.is_object() && !ignored_.contains(key) ? object_.find(key) : object_.end();
    return found == object_.end() || found->is_null() ? nullptr : &*found;
  }
  // From now on as if the key were not there.
  void ignore(std::string_view key) { ignored_.emplace(key); }
  // Keys that say something and that nobody asked for. Null, false, 0 and what is empty say nothing.
  std::vector<std::string> unread() const {
    std::vector<std::string> keys;
    for (const auto& [key, value] : object_.items())
      if (!(asked_.contains(key) && !ignored_.contains(key)) && !says_nothing(value)) keys.push_back(key);
    return keys;
  }
  static bool says_nothing(const nlohmann::json& value) {
    return value.is_null() || value == nlohmann::json(false) || value == nlohmann::json(0) ||
           (value.is_string() && value == nlohmann::json("")) || (value.is_structured() && value.empty());
  }
  [[noreturn]] void refuse(const std::string& what, const char* key, const std::string& hint = {}) const {
    const nlohmann::json* value = find(key);
    throw Error(
        ErrorKind::input, what, fmt::format("{}: {}", where_, key),
        value ? value->dump(-1, ' ', false, nlohmann::json::error_handler_t::replace).substr(0, 200) : "nothing", hint);
  }
  uint64_t size(const char* key) const {
    const nlohmann::json* value = find(key);
    // 2^63 and above are negative as int64_t.
    if (!value || !value->is_number_integer() || value->get<int64_t>() < 1 ||
        value->get<int64_t>() > kLargestConfigSize)
      refuse("a size is missing or not usable", key,
             fmt::format("an integer from 1 to {} is wanted", kLargestConfigSize));
    return static_cast<uint64_t>(value->get<int64_t>());
  }
  uint64_t size(const char* key, uint64_t fallback) const { return find(key) ? size(key) : fallback; }
  double number(const char* key) const {
    const nlohmann::json* value = find(key);
    if (!value || !value->is_number() || !std::isfinite(value->get<double>()) || value->get<double>() <= 0)
      refuse("a number is missing or not usable", key, "a positive number is wanted");
    return value->get<double>();
  }
  double number(const char* key, double fallback) const { return find(key) ? number(key) : fallback; }
  // An absent key has a default; a null one says that there is none.
  bool says_null(const char* key) const {
    const auto found = object_.is_object() && !ignored_.contains(key) ? object_.find(key) : object_.end();
    return found != object_.end() && found->is_null();
  }
  const nlohmann::json* table(const char* key) const {
    const nlohmann::json* value = find(key);
    if (value && !value->is_object()) refuse("a table is wanted", key);
    return value;
  }
  std::vector<float> numbers(const char* key, size_t count) const {
    const nlohmann::json* value = find(key);
    if (!value || !value->is_array() || value->size() != count)
      refuse("a list of numbers is missing or has another length", key, fmt::format("{} numbers are wanted", count));
    std::vector<float> all;
    for (const nlohmann::json& one : *value) {
      if (!one.is_number() || !std::isfinite(one.get<double>()) || one.get<double>() <= 0)
        refuse("a number is not usable", key, "positive numbers are wanted");
      all.push_back(one.get<float>());
    }
    return all;
  }
  bool boolean(const char* key, bool fallback) const {
    const nlohmann::json* value = find(key);
    if (!value) return fallback;
    if (!value->is_boolean()) refuse("true or false is wanted", key);
    return value->get<bool>();
  }
  std::string string(const char* key, const char* fallback) const {
    const nlohmann::json* value = find(key);
    if (!value) return fallback;
    if (!value->is_string()) refuse("a string is wanted", key);
    return value->get<std::string>();
  }

  const std::string& where() const { return where_; }

 private:
  const nlohmann::json& object_;
  std::string where_;
  std::set<std::string, std::less<>> ignored_;
  mutable std::set<std::string, std::less<>> asked_;
};

// What config.json says of rotary positions, as transformers 5 puts it together where it stands in several places:
// rope_*, divisors, notes.
void read_rotary(const ConfigKeys& keys, uint64_t context, FolderConfig& config);

}  // namespace whit
