#include "base/keyvalue.h"

#include <algorithm>
#include <array>
#include <optional>
#include <type_traits>

namespace whit {
namespace {

constexpr std::array<const char*, 12> kScalarNames = {"u8",   "i8",     "u16", "i16", "u32", "i32",
                                                      "f32", "bool", "string", "u64", "i64", "f64"};

std::optional<uint64_t> as_unsigned(const Value& value) {
  return std::visit(
      [](const auto& v) -> std::optional<uint64_t> {
        using T = std::decay_t<decltype(v)>;
        if constexpr (std::is_integral_v<T> && !std::is_same_v<T, bool>) {
          if constexpr (std::is_signed_v<T>)
            if (v < 0) return std::nullopt;
          return static_cast<uint64_t>(v);
        }
        return std::nullopt;
      },
      value);
}

std::optional<double> as_number(const Value& value) {
  return std::visit(
      [](const auto& v) -> std::optional<double> {
        using T = std::decay_t<decltype(v)>;
        if constexpr (std::is_arithmetic_v<T> && !std::is_same_v<T, bool>) return static_cast<double>(v);
        return std::nullopt;
      },
      value);
}

[[noreturn]] void missing(std::string_view key) {
  throw Error(ErrorKind::input, "a needed metadata key is missing", std::string(key));
}

}  // namespace

std::string type_name(const Value& value) {
  const size_t index = value.index();
  return index < kScalarNames.size() ? kScalarNames[index]
                                     : std::string("array of ") + kScalarNames[index - kScalarNames.size()];
}

void KeyValues::wrong_type(std::string_view key, std::string_view wanted, const Value& found) {
  throw Error(ErrorKind::input, "a metadata key has an unexpected type or value, wanted " + std::string(wanted),
              std::string(key), type_name(found));
}

void KeyValues::set(std::string key, Value value) {
  for (KeyValue& item : items_)
    if (item.key == key) {
      item.value = std::move(value);
      return;
    }
  items_.push_back({std::move(key), std::move(value)});
}

void KeyValues::erase(std::string_view key) {
  std::erase_if(items_, [&](const KeyValue& item) { return item.key == key; });
}

const Value* KeyValues::find(std::string_view key) const noexcept {
  for (const KeyValue& item : items_)
    if (item.key == key) return &item.value;
  return nullptr;
}

uint64_t KeyValues::unsigned_integer(std::string_view key) const {
  const Value* value = find(key);
  if (!value) missing(key);
  if (const auto integer = as_unsigned(*value)) return *integer;
  wrong_type(key, "a non-negative integer", *value);
}

uint64_t KeyValues::unsigned_integer(std::string_view key, uint64_t fallback) const {
  return has(key) ? unsigned_integer(key) : fallback;
}

double KeyValues::number(std::string_view key) const {
  const Value* value = find(key);
  if (!value) missing(key);
  if (const auto real = as_number(*value)) return *real;
  wrong_type(key, "a number", *value);
}

double KeyValues::number(std::string_view key, double fallback) const { return has(key) ? number(key) : fallback; }

bool KeyValues::boolean(std::string_view key, bool fallback) const {
  const Value* value = find(key);
  if (!value) return fallback;
  if (const bool* flag = std::get_if<bool>(value)) return *flag;
  wrong_type(key, "a boolean", *value);
}

const std::string& KeyValues::string(std::string_view key) const {
  const Value* value = find(key);
  if (!value) missing(key);
  if (const auto* text = std::get_if<std::string>(value)) return *text;
  wrong_type(key, "a string", *value);
}

std::string KeyValues::string(std::string_view key, std::string_view fallback) const {
  return has(key) ? string(key) : std::string(fallback);
}

}  // namespace whit
