// Key-value records as GGUF has them (key, value type, value): in a file's header and inside whit.tokenizer.
// Shared by the reader, the writer and the container; used inside this room only.
#pragma once

#include <fmt/format.h>

#include <cstring>
#include <span>
#include <string>
#include <string_view>
#include <unordered_set>

#include "base/keyvalue.h"

namespace whit {

inline constexpr std::string_view kHeaderChecksumKey = "whit.checksum.header";
inline constexpr std::string_view kTensorChecksumsKey = "whit.checksum.tensors";

// Reads from the front of the bytes; nothing is believed before it is known to be inside the file.
class Cursor {
 public:
  // `name` stands for the file in messages and must outlive the cursor.
  Cursor(std::span<const std::byte> bytes, const std::string& name) : bytes_(bytes), name_(name) {}

  uint64_t position() const noexcept { return position_; }
  uint64_t left() const noexcept { return bytes_.size() - position_; }
  std::string place() const { return fmt::format("{}: header, byte {}", name_, position_); }

  template <class T>
  T read(const char* what) {
    T value;
    std::memcpy(&value, take(sizeof(T), what), sizeof(T));
    return value;
  }
  std::string_view string(const char* what, uint64_t limit) {
    const uint64_t length = read<uint64_t>(what);
    if (length > limit)
      throw Error(ErrorKind::input, fmt::format("{} is too long", what), place(), fmt::format("{} bytes", length),
                  fmt::format("at most {} bytes are allowed", limit));
    return {reinterpret_cast<const char*>(take(length, what)), static_cast<size_t>(length)};
  }
  const std::byte* take(uint64_t count, const char* what) {
    if (count > left())
      throw Error(ErrorKind::input, fmt::format("the file ends inside {}", what), place(),
                  fmt::format("{} bytes wanted, {} left", count, left()),
                  "the file is truncated or damaged: fetch it again");
    const std::byte* at = bytes_.data() + position_;
    position_ += count;
    return at;
  }
  // A count of things that take at least `least` bytes each.
  uint64_t count(const char* what, uint64_t least) {
    const uint64_t value = read<uint64_t>(what);
    if (value > left() / least)
      throw Error(ErrorKind::input, fmt::format("{} is more than the file can hold", what), place(),
                  fmt::format("{}", value), "the file is truncated or damaged: fetch it again");
    return value;
  }
  [[noreturn]] void fail(const std::string& what, const std::string& found) const {
    throw Error(ErrorKind::input, what, place(), found);
  }

 private:
  std::span<const std::byte> bytes_;
  const std::string& name_;
  uint64_t position_ = 0;
};

// Reads records one by one into `out`; a key that comes twice is an error.
class RecordReader {
 public:
  explicit RecordReader(Cursor& cursor) : cursor_(cursor) {}
  void read(KeyValues& out);

 private:
  Cursor& cursor_;
  std::unordered_set<std::string> seen_;
};

void append_string(std::string& out, std::string_view text);
template <class T>
void append_number(std::string& out, T value) {
  out.append(reinterpret_cast<const char*>(&value), sizeof(T));
}
void append_record(std::string& out, const KeyValue& record);

}  // namespace whit
