// Ordered, typed key-values, as GGUF metadata has them. In base, because format reads them, data makes tokenizers of
// them and model/spec configurations.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <variant>
#include <vector>

#include "base/error.h"

namespace whit {

// The alternatives are the value types of GGUF; an array has one element type.
using Value = std::variant<uint8_t, int8_t, uint16_t, int16_t, uint32_t, int32_t, float, bool, std::string, uint64_t,
                           int64_t, double, std::vector<uint8_t>, std::vector<int8_t>, std::vector<uint16_t>,
                           std::vector<int16_t>, std::vector<uint32_t>, std::vector<int32_t>, std::vector<float>,
                           std::vector<bool>, std::vector<std::string>, std::vector<uint64_t>, std::vector<int64_t>,
                           std::vector<double>>;

struct KeyValue {
  std::string key;
  Value value;
};

class KeyValues {
 public:
  // Replaces the value of an existing key in place.
  void set(std::string key, Value value);
  // For a parser that has seen to it that the key is new: set() looks through all keys, which hangs on 100,000 of them.
  void append(std::string key, Value value) { items_.push_back({std::move(key), std::move(value)}); }
  void erase(std::string_view key);
  const Value* find(std::string_view key) const noexcept;
  bool has(std::string_view key) const noexcept { return find(key) != nullptr; }
  const std::vector<KeyValue>& all() const noexcept { return items_; }

  // Typed reads. Any integer type is accepted for integers, float or double (or integer) for numbers.
  // A missing key without default, or another type, is ErrorKind::input and names key, type wanted and type found.
  uint64_t unsigned_integer(std::string_view key) const;
  uint64_t unsigned_integer(std::string_view key, uint64_t fallback) const;
  double number(std::string_view key) const;
  double number(std::string_view key, double fallback) const;
  bool boolean(std::string_view key, bool fallback) const;
  const std::string& string(std::string_view key) const;
  std::string string(std::string_view key, std::string_view fallback) const;
  // The array under `key` with exactly this element type, or nullptr where the key is absent.
  template <class Element>
  const std::vector<Element>* array(std::string_view key) const {
    const Value* value = find(key);
    if (!value) return nullptr;
    const auto* items = std::get_if<std::vector<Element>>(value);
    if (!items) wrong_type(key, "an array of another element type", *value);
    return items;
  }

 private:
  [[noreturn]] static void wrong_type(std::string_view key, std::string_view wanted, const Value& found);
  std::vector<KeyValue> items_;
};

// "u32", "array of string", ...
std::string type_name(const Value& value);

}  // namespace whit
