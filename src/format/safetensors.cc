#include "format/safetensors.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <nlohmann/json.hpp>

#include "base/checked.h"
#include "base/half.h"
#include "base/json.h"

namespace whit {
namespace {

constexpr uint64_t kLargestHeader = 100'000'000;  // the limit of the reference implementation

struct DtypeRow {
  const char* name;
  uint32_t bits;
};
constexpr DtypeRow kDtypes[] = {
    {"BOOL", 8},    {"U8", 8},      {"I8", 8},      {"I16", 16},    {"U16", 16},        {"I32", 32},
    {"U32", 32},    {"I64", 64},    {"U64", 64},    {"F16", 16},    {"BF16", 16},       {"F32", 32},
    {"F64", 64},    {"C64", 64},    {"F8_E4M3", 8}, {"F8_E5M2", 8}, {"F8_E4M3FNUZ", 8}, {"F8_E5M2FNUZ", 8},
    {"F8_E8M0", 8}, {"F6_E2M3", 6}, {"F6_E3M2", 6}, {"F4", 4},
};

[[noreturn]] void refuse(const std::string& what, const std::string& where, const std::string& found = {}) {
  throw Error(ErrorKind::input, what, where, found, "the file is truncated, damaged or no safetensors file");
}

uint64_t unsigned_of(const nlohmann::json& json, const std::string& what, const std::string& where) {
  if (!json.is_number_unsigned()) refuse(what + " is no non-negative integer", where, json.dump().substr(0, 100));
  return json.get<uint64_t>();
}

uint64_t tensor_bytes(const SafetensorsEntry& entry, const std::string& where) {
  const auto* dtype =
      std::find_if(std::begin(kDtypes), std::end(kDtypes), [&](const auto& row) { return row.name == entry.dtype; });
  if (dtype == std::end(kDtypes)) refuse("a tensor has an unknown dtype", where, entry.dtype.substr(0, 100));
  uint64_t bits = dtype->bits;
  for (const uint64_t size : entry.shape) bits = checked_mul(bits, size, where);
  if (bits % 8 != 0) refuse("a tensor does not end on a byte", where, fmt::format("{} bits", bits));
  return bits / 8;
}

const nlohmann::json& member(const nlohmann::json& info, const char* key, const std::string& where) {
  const auto found = info.is_object() ? info.find(key) : info.end();
  if (found == info.end()) refuse(fmt::format("a tensor lacks {}", key), where, info.dump().substr(0, 100));
  return *found;
}

SafetensorsEntry read_entry(const std::string& name, const nlohmann::json& info, std::span<const std::byte> buffer,
                            const std::string& file) {
  const std::string where = fmt::format("{}: tensor {}", file, name.substr(0, 200));
  SafetensorsEntry entry;
  entry.name = name;
  const nlohmann::json& dtype = member(info, "dtype", where);
  if (!dtype.is_string()) refuse("a tensor's dtype is no string", where, dtype.dump().substr(0, 100));
  entry.dtype = dtype.get<std::string>();
  const nlohmann::json& shape = member(info, "shape", where);
  if (!shape.is_array()) refuse("a tensor's shape is no array", where, shape.dump().substr(0, 100));
  for (const nlohmann::json& size : shape) entry.shape.push_back(unsigned_of(size, "a size of the shape", where));
  const nlohmann::json& offsets = member(info, "data_offsets", where);
  if (!offsets.is_array() || offsets.size() != 2)
    refuse("a tensor's data_offsets are no pair", where, offsets.dump().substr(0, 100));
  const uint64_t begin = unsigned_of(offsets[0], "an offset", where), end = unsigned_of(offsets[1], "an offset", where);
  if (begin > end || end > buffer.size())
    refuse("a tensor's data is outside the file", where,
           fmt::format("bytes {} to {} of {}", begin, end, buffer.size()));
  if (const uint64_t bytes = tensor_bytes(entry, where); bytes != end - begin)
    refuse("a tensor's shape and offsets disagree", where,
           fmt::format("{} bytes by shape, {} by offsets", bytes, end - begin));
  entry.data = buffer.subspan(begin, end - begin);
  return entry;
}

}  // namespace

SafetensorsFile SafetensorsFile::parse(std::span<const std::byte> bytes, const std::string& name) {
  uint64_t header = 0;
  if (bytes.size() < sizeof(header)) refuse("the file is too short", name, fmt::format("{} bytes", bytes.size()));
  std::memcpy(&header, bytes.data(), sizeof(header));
  if (header > kLargestHeader || header > bytes.size() - sizeof(header))
    refuse("the header is larger than is possible", name, fmt::format("{} bytes", header));
  const std::string_view text(reinterpret_cast<const char*>(bytes.data()) + sizeof(header), header);
  if (!text.starts_with('{')) refuse("the header is no JSON object", name);
  const nlohmann::json json = parse_json(text, name + ": header", 8);
  const std::span<const std::byte> buffer = bytes.subspan(sizeof(header) + header);

  SafetensorsFile file;
  for (const auto& [key, info] : json.items()) {
    if (key != "__metadata__") {
      file.tensors.push_back(read_entry(key, info, buffer, name));
      continue;
    }
    if (!info.is_object()) refuse("__metadata__ is no object", name, info.dump().substr(0, 100));
    for (const auto& [word, value] : info.items()) {
      if (!value.is_string()) refuse("a value of __metadata__ is no string", name + ": " + word.substr(0, 100));
      file.metadata[word] = value.get<std::string>();
    }
  }
  // Empty tensors share their place with the tensor after them.
  std::sort(file.tensors.begin(), file.tensors.end(), [](const auto& a, const auto& b) {
    return std::pair(a.data.data(), a.data.size()) < std::pair(b.data.data(), b.data.size());
  });
  const std::byte* expected = buffer.data();
  for (const SafetensorsEntry& entry : file.tensors) {
    if (entry.data.data() != expected)
      refuse("the tensors do not cover the file's data one after another",
             fmt::format("{}: tensor {}", name, entry.name),
             fmt::format("offset {}, wanted {}", entry.data.data() - buffer.data(), expected - buffer.data()));
    expected += entry.data.size();
  }
  if (expected != buffer.data() + buffer.size())
    refuse("the file has bytes that belong to no tensor", name,
           fmt::format("{}", buffer.data() + buffer.size() - expected));
  return file;
}

SafetensorsFile SafetensorsFile::open(const std::filesystem::path& path) {
  auto mapped = MappedFile::open(path);
  SafetensorsFile file = parse(mapped->bytes(), path.string());
  file.file = std::move(mapped);
  return file;
}

const SafetensorsEntry* SafetensorsFile::find(std::string_view name) const noexcept {
  for (const SafetensorsEntry& entry : tensors)
    if (entry.name == name) return &entry;
  return nullptr;
}

uint64_t safetensors_bytes(const SafetensorsOutput& tensor) {
  uint64_t bytes = tensor.dtype == "F32" ? 4 : 2;
  for (const uint64_t size : tensor.shape) bytes = checked_mul(bytes, size, tensor.name);
  return bytes;
}

namespace {

void write_values(AtomicFile& file, const SafetensorsOutput& tensor, std::span<const float> values) {
  if (tensor.dtype == "F32") return file.write(std::as_bytes(values));
  WHIT_CHECK(tensor.dtype == "F16" || tensor.dtype == "BF16");
  const bool half = tensor.dtype == "F16";
  std::vector<uint16_t> stored(values.size());
  for (size_t i = 0; i < values.size(); ++i) {
    stored[i] = half ? float_to_half(values[i]) : float_to_bfloat16(values[i]);
    if (half && std::isfinite(values[i]) && !std::isfinite(half_to_float(stored[i])))
      throw Error(ErrorKind::numeric, "a weight is too large for F16", "tensor " + tensor.name,
                  fmt::format("{}", values[i]), "use BF16 or F32");
  }
  file.write(std::as_bytes(std::span(stored)));
}

}  // namespace

void write_safetensors(AtomicFile& file, std::span<const SafetensorsOutput> tensors,
                       const std::map<std::string, std::string>& metadata) {
  nlohmann::ordered_json header = nlohmann::ordered_json::object();
  if (!metadata.empty()) header["__metadata__"] = metadata;
  uint64_t offset = 0;
  for (const SafetensorsOutput& tensor : tensors) {
    const uint64_t bytes = safetensors_bytes(tensor);
    header[tensor.name] = {
        {"dtype", tensor.dtype}, {"shape", tensor.shape}, {"data_offsets", {offset, offset + bytes}}};
    offset += bytes;
  }
  std::string text = header.dump();
  text.resize(round_up(text.size(), 8), ' ');
  const uint64_t length = text.size();
  file.write(std::as_bytes(std::span(&length, 1)));
  file.write(text);
  for (const SafetensorsOutput& tensor : tensors) {
    const uint64_t begin = file.size();
    tensor.write([&](std::span<const float> values) { write_values(file, tensor, values); });
    WHIT_CHECK(file.size() - begin == safetensors_bytes(tensor));
  }
}

void write_safetensors(const std::filesystem::path& path, std::span<const SafetensorsOutput> tensors, bool overwrite) {
  AtomicFile file(path, overwrite);
  write_safetensors(file, tensors);
  file.commit();
}

}  // namespace whit
