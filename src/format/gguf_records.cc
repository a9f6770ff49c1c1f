#include "format/gguf_records.h"

#include <type_traits>

namespace whit {
namespace {

template <class T>
Value read_array_of(Cursor& cursor) {
  const uint64_t count = cursor.count("an array's count", sizeof(T));
  std::vector<T> items(count);
  const std::byte* from = cursor.take(count * sizeof(T), "an array");
  if (count > 0) std::memcpy(items.data(), from, count * sizeof(T));
  return items;
}

Value read_array(Cursor& cursor, const std::string& key) {
  const int32_t type = cursor.read<int32_t>("an array's type");
  switch (type) {
    case 0:
      return read_array_of<uint8_t>(cursor);
    case 1:
      return read_array_of<int8_t>(cursor);
    case 2:
      return read_array_of<uint16_t>(cursor);
    case 3:
      return read_array_of<int16_t>(cursor);
    case 4:
      return read_array_of<uint32_t>(cursor);
    case 5:
      return read_array_of<int32_t>(cursor);
    case 6:
      return read_array_of<float>(cursor);
    case 10:
      return read_array_of<uint64_t>(cursor);
    case 11:
      return read_array_of<int64_t>(cursor);
    case 12:
      return read_array_of<double>(cursor);
    case 7: {
      const uint64_t count = cursor.count("an array's count", 1);
      std::vector<bool> items(count);
      for (uint64_t i = 0; i < count; ++i) items[i] = cursor.read<uint8_t>("a boolean") != 0;
      return items;
    }
    case 8: {
      const uint64_t count = cursor.count("an array's count", 8);
      std::vector<std::string> items;
      items.reserve(count);
      for (uint64_t i = 0; i < count; ++i) items.emplace_back(cursor.string("a string of an array", UINT64_MAX));
      return items;
    }
    case 9:
      cursor.fail("an array inside an array is not read (key " + key + ")", "nested array");
    default:
      cursor.fail("an array has an unknown element type (key " + key + ")", fmt::format("type {}", type));
  }
}

Value read_value(Cursor& cursor, int32_t type, const std::string& key) {
  switch (type) {
    case 0:
      return cursor.read<uint8_t>("a value");
    case 1:
      return cursor.read<int8_t>("a value");
    case 2:
      return cursor.read<uint16_t>("a value");
    case 3:
      return cursor.read<int16_t>("a value");
    case 4:
      return cursor.read<uint32_t>("a value");
    case 5:
      return cursor.read<int32_t>("a value");
    case 6:
      return cursor.read<float>("a value");
    case 7:
      return cursor.read<uint8_t>("a value") != 0;
    case 8:
      return std::string(cursor.string("a string", UINT64_MAX));
    case 9:
      return read_array(cursor, key);
    case 10:
      return cursor.read<uint64_t>("a value");
    case 11:
      return cursor.read<int64_t>("a value");
    case 12:
      return cursor.read<double>("a value");
    default:
      cursor.fail("a metadata key has an unknown value type (key " + key + ")", fmt::format("type {}", type));
  }
}

// The type numbers of GGUF, in the order of the alternatives of Value: scalars first, then arrays of the same.
constexpr int32_t kTypeNumbers[] = {0, 1, 2, 3, 4, 5, 6, 7, 8, 10, 11, 12};
constexpr int32_t kArray = 9;

template <class T>
void append_scalar(std::string& out, const T& value) {
  if constexpr (std::is_same_v<T, std::string>)
    append_string(out, value);
  else if constexpr (std::is_same_v<T, bool>)
    append_number<uint8_t>(out, value ? 1 : 0);
  else
    append_number(out, value);
}

}  // namespace

void RecordReader::read(KeyValues& out) {
  std::string key(cursor_.string("a metadata key", 65535));
  if (!seen_.insert(key).second) cursor_.fail("a metadata key is there twice", key.substr(0, 200));
  const int32_t type = cursor_.read<int32_t>("a value's type");
  Value value = read_value(cursor_, type, key);
  out.append(std::move(key), std::move(value));
}

void append_string(std::string& out, std::string_view text) {
  append_number<uint64_t>(out, text.size());
  out.append(text);
}

void append_record(std::string& out, const KeyValue& record) {
  append_string(out, record.key);
  constexpr size_t kScalars = std::size(kTypeNumbers);
  const size_t index = record.value.index();
  if (index >= kScalars) append_number<int32_t>(out, kArray);
  append_number<int32_t>(out, kTypeNumbers[index % kScalars]);
  std::visit(
      [&]<class T>(const T& value) {
        if constexpr (std::is_same_v<T, std::vector<bool>>) {
          append_number<uint64_t>(out, value.size());
          for (const bool item : value) append_number<uint8_t>(out, item ? 1 : 0);
        } else if constexpr (requires { typename T::value_type; } && !std::is_same_v<T, std::string>) {
          append_number<uint64_t>(out, value.size());
          for (const auto& item : value) append_scalar(out, item);
        } else {
          append_scalar(out, value);
        }
      },
      record.value);
}

}  // namespace whit
