#include <fmt/format.h>

#include <bit>
#include <cstring>
#include <unordered_set>

#include "base/checked.h"
#include "format/ggml_types.h"
#include "format/gguf.h"

static_assert(std::endian::native == std::endian::little, "files are read as little-endian memory");

namespace whit {
namespace {

constexpr uint64_t kLargestAlignment = 1 << 20;

// Reads from the front of the bytes; nothing is believed before it is known to be inside the file.
class Cursor {
 public:
  Cursor(std::span<const std::byte> bytes, const std::string& name) : bytes_(bytes), name_(name) {}

  uint64_t position() const noexcept { return position_; }
  uint64_t left() const noexcept { return bytes_.size() - position_; }
  std::string place() const { return fmt::format("{}, byte {}", name_, position_); }

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
                  fmt::format("{} bytes wanted, {} left", count, left()), "the file is truncated or damaged: fetch it again");
    const std::byte* at = bytes_.data() + position_;
    position_ += count;
    return at;
  }
  // A count of things that take at least `least` bytes each.
  uint64_t count(const char* what, uint64_t least) {
    const uint64_t value = read<uint64_t>(what);
    if (value > left() / least)
      throw Error(ErrorKind::input, fmt::format("{} is more than the file can hold", what), place(), fmt::format("{}", value),
                  "the file is truncated or damaged: fetch it again");
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
    case 0: return read_array_of<uint8_t>(cursor);
    case 1: return read_array_of<int8_t>(cursor);
    case 2: return read_array_of<uint16_t>(cursor);
    case 3: return read_array_of<int16_t>(cursor);
    case 4: return read_array_of<uint32_t>(cursor);
    case 5: return read_array_of<int32_t>(cursor);
    case 6: return read_array_of<float>(cursor);
    case 10: return read_array_of<uint64_t>(cursor);
    case 11: return read_array_of<int64_t>(cursor);
    case 12: return read_array_of<double>(cursor);
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
    case 9: cursor.fail("an array inside an array is not read (key " + key + ")", "nested array");
    default: cursor.fail("an array has an unknown element type (key " + key + ")", fmt::format("type {}", type));
  }
}

Value read_value(Cursor& cursor, int32_t type, const std::string& key) {
  switch (type) {
    case 0: return cursor.read<uint8_t>("a value");
    case 1: return cursor.read<int8_t>("a value");
    case 2: return cursor.read<uint16_t>("a value");
    case 3: return cursor.read<int16_t>("a value");
    case 4: return cursor.read<uint32_t>("a value");
    case 5: return cursor.read<int32_t>("a value");
    case 6: return cursor.read<float>("a value");
    case 7: return cursor.read<uint8_t>("a value") != 0;
    case 8: return std::string(cursor.string("a string", UINT64_MAX));
    case 9: return read_array(cursor, key);
    case 10: return cursor.read<uint64_t>("a value");
    case 11: return cursor.read<int64_t>("a value");
    case 12: return cursor.read<double>("a value");
    default: cursor.fail("a metadata key has an unknown value type (key " + key + ")", fmt::format("type {}", type));
  }
}

uint32_t read_version(Cursor& cursor) {
  if (std::memcmp(cursor.take(4, "the magic"), "GGUF", 4) != 0) cursor.fail("this is not a GGUF file", "another magic number");
  const uint32_t version = cursor.read<uint32_t>("the version");
  if (version != 2 && version != 3) {
    const bool big_endian = (version & 0xffff) == 0 && version != 0;
    throw Error(ErrorKind::input, "this version of GGUF is not read", cursor.place(),
                big_endian ? "a big-endian file" : fmt::format("version {}", version), "versions 2 and 3 are read");
  }
  return version;
}

uint64_t read_alignment(const KeyValues& metadata, const std::string& name) {
  const uint64_t alignment = metadata.unsigned_integer("general.alignment", 32);
  if (alignment < 8 || alignment > kLargestAlignment || !std::has_single_bit(alignment))
    throw Error(ErrorKind::input, "the alignment is not usable", name + ": general.alignment", fmt::format("{}", alignment),
                fmt::format("powers of two from 8 to {} are read", kLargestAlignment));
  return alignment;
}

GgufTensor read_info(Cursor& cursor) {
  GgufTensor tensor;
  tensor.name = cursor.string("a tensor's name", 63);
  const uint32_t dimensions = cursor.read<uint32_t>("a tensor's number of dimensions");
  if (dimensions > 4) cursor.fail("tensor " + tensor.name + " has too many dimensions", fmt::format("{}", dimensions));
  for (uint32_t i = 0; i < dimensions; ++i) tensor.dimensions.push_back(cursor.read<uint64_t>("a tensor's dimension"));
  tensor.type = cursor.read<int32_t>("a tensor's type");
  tensor.offset = cursor.read<uint64_t>("a tensor's offset");
  return tensor;
}

uint64_t data_bytes(const GgufTensor& tensor, const GgmlTypeRow& type, const std::string& where) {
  const uint64_t row = tensor.dimensions.empty() ? 1 : tensor.dimensions[0];
  if (row % type.block_weights != 0)
    throw Error(ErrorKind::input, fmt::format("the rows are no whole number of {} blocks", type.name), where,
                fmt::format("{} weights, blocks of {}", row, type.block_weights));
  uint64_t bytes = checked_mul(row / type.block_weights, type.block_bytes, where);
  for (size_t i = 1; i < tensor.dimensions.size(); ++i) bytes = checked_mul(bytes, tensor.dimensions[i], where);
  return bytes;
}

// Tensors lie in the order of their infos without gaps but the padding, as ggml's reader demands; after a tensor of a type
// that we do not know, the next one may only not go back.
void place_data(GgufFile& gguf, std::span<const std::byte> bytes, const std::string& name) {
  gguf.data_start = gguf.tensors.empty() ? gguf.header_bytes : round_up(gguf.header_bytes, gguf.alignment);
  if (gguf.data_start > bytes.size())
    throw Error(ErrorKind::input, "the file ends before its tensors", name, fmt::format("{} bytes", bytes.size()),
                "the file is truncated: fetch it again");
  const std::span<const std::byte> data = bytes.subspan(gguf.data_start);
  uint64_t expected = 0;
  bool exact = true;
  for (GgufTensor& tensor : gguf.tensors) {
    const std::string where = fmt::format("{}: tensor {}", name, tensor.name);
    if (tensor.offset % gguf.alignment != 0 || tensor.offset < expected || (exact && tensor.offset != expected))
      throw Error(ErrorKind::input, "the tensor's data does not follow the tensor before it", where,
                  fmt::format("offset {}, wanted {}", tensor.offset, expected));
    const GgmlTypeRow* type = ggml_type_row(tensor.type);
    exact = type != nullptr;
    const uint64_t size = type ? data_bytes(tensor, *type, where) : 0;
    if (tensor.offset > data.size() || size > data.size() - tensor.offset)
      throw Error(ErrorKind::input, "the tensor's data is outside the file", where,
                  fmt::format("bytes {} + {} of {}", tensor.offset, size, data.size()), "the file is truncated: fetch it again");
    tensor.data = data.subspan(tensor.offset, size);
    expected = round_up(tensor.offset + size, gguf.alignment);
  }
}

}  // namespace

GgufFile GgufFile::parse(std::span<const std::byte> bytes, const std::string& name) {
  Cursor cursor(bytes, name);
  GgufFile gguf;
  gguf.version = read_version(cursor);
  const uint64_t tensor_count = cursor.count("the number of tensors", 24);
  const uint64_t key_count = cursor.count("the number of metadata keys", 13);

  std::unordered_set<std::string_view> seen;
  for (uint64_t i = 0; i < key_count; ++i) {
    const std::string_view key = cursor.string("a metadata key", 65535);
    if (!seen.insert(key).second) cursor.fail("a metadata key is there twice", std::string(key.substr(0, 200)));
    const int32_t type = cursor.read<int32_t>("a value's type");
    std::string owned(key);
    Value value = read_value(cursor, type, owned);
    gguf.metadata.append(std::move(owned), std::move(value));
  }
  gguf.alignment = read_alignment(gguf.metadata, name);

  seen.clear();
  for (uint64_t i = 0; i < tensor_count; ++i) gguf.tensors.push_back(read_info(cursor));
  for (const GgufTensor& tensor : gguf.tensors)
    if (!seen.insert(tensor.name).second) cursor.fail("a tensor name is there twice", tensor.name);
  gguf.header_bytes = cursor.position();
  place_data(gguf, bytes, name);
  return gguf;
}

GgufFile GgufFile::open(const std::filesystem::path& path) {
  auto file = MappedFile::open(path);
  GgufFile gguf = parse(file->bytes(), path.string());
  gguf.file = std::move(file);
  return gguf;
}

const GgufTensor* GgufFile::find(std::string_view name) const noexcept {
  for (const GgufTensor& tensor : tensors)
    if (tensor.name == name) return &tensor;
  return nullptr;
}

}  // namespace whit
