// Writes GGUF headers by hand, right or wrong, for tests.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace whit {

class GgufBuilder {
 public:
  std::string bytes;

  template <class T>
  GgufBuilder& number(T value) {
    bytes.append(reinterpret_cast<const char*>(&value), sizeof(T));
    return *this;
  }
  GgufBuilder& string(std::string_view text) {
    number<uint64_t>(text.size());
    bytes.append(text);
    return *this;
  }
  GgufBuilder& header(uint64_t tensors, uint64_t keys, uint32_t version = 3, std::string_view magic = "GGUF") {
    bytes.append(magic);
    return number(version).number(tensors).number(keys);
  }
  template <class T>
  GgufBuilder& key(std::string_view name, int32_t type, T value) {
    return string(name).number(type).number(value);
  }
  GgufBuilder& text_key(std::string_view name, std::string_view value) {
    return string(name).number<int32_t>(8).string(value);
  }
  GgufBuilder& info(std::string_view name, const std::vector<uint64_t>& dimensions, int32_t type, uint64_t offset) {
    string(name).number(static_cast<uint32_t>(dimensions.size()));
    for (const uint64_t size : dimensions) number(size);
    return number(type).number(offset);
  }
  GgufBuilder& pad(size_t alignment = 32) {
    while (bytes.size() % alignment != 0) bytes.push_back('\0');
    return *this;
  }
  GgufBuilder& zeros(size_t count) {
    bytes.append(count, '\0');
    return *this;
  }
  std::span<const std::byte> span() const { return std::as_bytes(std::span(bytes.data(), bytes.size())); }
};

}  // namespace whit
