#include <fmt/format.h>

#include <bit>
#include <cstring>
#include <unordered_set>

#include "base/checked.h"
#include "format/ggml_types.h"
#include "format/gguf.h"
#include "format/gguf_records.h"

static_assert(std::endian::native == std::endian::little, "files are read as little-endian memory");

namespace whit {
namespace {

constexpr uint64_t kLargestAlignment = 1 << 20;

uint32_t read_version(Cursor& cursor) {
  if (std::memcmp(cursor.take(4, "the magic"), "GGUF", 4) != 0)
    cursor.fail("this is not a GGUF file", "another magic number");
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
    throw Error(ErrorKind::input, "the alignment is not usable", name + ": header: general.alignment",
                fmt::format("{}", alignment), fmt::format("powers of two from 8 to {} are read", kLargestAlignment));
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

// Tensors lie in the order of their infos without gaps but the padding, as ggml's reader demands; after a tensor of a
// type that we do not know, the next one may only not go back.
void place_data(GgufFile& gguf, std::span<const std::byte> bytes, const std::string& name) {
  gguf.data_start = gguf.tensors.empty() ? gguf.header_bytes : round_up(gguf.header_bytes, gguf.alignment);
  if (gguf.data_start > bytes.size())
    throw Error(ErrorKind::input, "the file ends before its tensors", name + ": header",
                fmt::format("{} bytes", bytes.size()), "the file is truncated: fetch it again");
  const std::span<const std::byte> data = bytes.subspan(gguf.data_start);
  uint64_t expected = 0;
  bool exact = true;
  for (GgufTensor& tensor : gguf.tensors) {
    const std::string where = fmt::format("{}: header: tensor {}", name, tensor.name);
    if (tensor.offset % gguf.alignment != 0 || tensor.offset < expected || (exact && tensor.offset != expected))
      throw Error(ErrorKind::input, "the tensor's data does not follow the tensor before it", where,
                  fmt::format("offset {}, wanted {}", tensor.offset, expected));
    const GgmlTypeRow* type = ggml_type_row(tensor.type);
    exact = type != nullptr;
    const uint64_t size = type ? data_bytes(tensor, *type, where) : 0;
    if (tensor.offset > data.size() || size > data.size() - tensor.offset)
      throw Error(ErrorKind::input, "the tensor's data is outside the file", where,
                  fmt::format("bytes {} + {} of {}", tensor.offset, size, data.size()),
                  "the file is truncated: fetch it again");
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

  RecordReader records(cursor);
  for (uint64_t i = 0; i < key_count; ++i) {
    records.read(gguf.metadata);
    if (gguf.metadata.all().back().key == kHeaderChecksumKey)
      gguf.header_checksum_at = cursor.position() - sizeof(uint64_t);
  }
  gguf.alignment = read_alignment(gguf.metadata, name);

  for (uint64_t i = 0; i < tensor_count; ++i) gguf.tensors.push_back(read_info(cursor));
  std::unordered_set<std::string_view> seen;
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
