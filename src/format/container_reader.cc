#include <fmt/format.h>
#include <zstd.h>

#include <algorithm>
#include <unordered_map>

#include "base/checked.h"
#include "base/json.h"
#include "base/names.h"
#include "format/container.h"
#include "format/container_keys.h"
#include "format/ggml_types.h"
#include "format/gguf_records.h"
#include "format/rotation_table.h"

namespace whit {
namespace {

constexpr uint64_t kLargestSide = uint64_t{1} << 32, kLargestCount = uint64_t{1} << 48;

// The format of the type's name, for those that have a row in formats.def.
FormatPtr format_of_type(const GgufTensor& tensor) {
  const GgmlTypeRow* row = ggml_type_row(tensor.type);
  const std::string name = small_letters(row ? row->name : "unknown");
  std::string known;
  for (const FormatRow& format : format_rows())
    if (format.name == name) return make_format(name);
  for (const FormatRow& format : format_rows())
    if (make_format(format.name)->is_ggml()) known += (known.empty() ? "" : ", ") + format.name;
  throw Error(ErrorKind::input, "a tensor has a type that is not read here", "tensor " + tensor.name,
              fmt::format("type {} ({})", tensor.type, row ? row->name : "unknown"), "these are read: " + known);
}

Shape matrix_shape(const GgufTensor& tensor) {
  if (tensor.dimensions.empty() || tensor.dimensions.size() > 2)
    throw Error(ErrorKind::input, "a tensor is no vector or matrix", "tensor " + tensor.name,
                fmt::format("{} dimensions", tensor.dimensions.size()));
  const Shape shape{tensor.dimensions.size() == 2 ? tensor.dimensions[1] : 1, tensor.dimensions[0]};
  if (shape.rows == 0 || shape.cols == 0) throw Error(ErrorKind::input, "a tensor is empty", "tensor " + tensor.name);
  return shape;
}

StoredTensor ordinary_tensor(const GgufFile& gguf, const GgufTensor& from) {
  StoredTensor tensor;
  tensor.name = from.name;
  tensor.format = format_of_type(from);
  tensor.shape = matrix_shape(from);
  tensor.dimensions = static_cast<int>(from.dimensions.size());
  tensor.parts = {from.data};
  tensor.owner = gguf.file;
  WHIT_CHECK(from.data.size() == tensor.format->bytes(tensor.shape));
  return tensor;
}

// ---- whit.units ----

[[noreturn]] void bad_units(const std::string& what, const std::string& unit, const std::string& found = {}) {
  throw Error(ErrorKind::input, what, fmt::format("{}: {}", kUnitsKey, unit.substr(0, 100)), found.substr(0, 200));
}

const nlohmann::json& field(const nlohmann::json& object, const char* key, const std::string& unit) {
  const auto found = object.is_object() ? object.find(key) : object.end();
  if (found == object.end()) bad_units(fmt::format("a unit lacks {}", key), unit);
  return *found;
}

std::string text_field(const nlohmann::json& object, const char* key, const std::string& unit) {
  const nlohmann::json& value = field(object, key, unit);
  if (!value.is_string()) bad_units(fmt::format("a unit's {} is no string", key), unit);
  return value.get<std::string>();
}

uint64_t size_of(const nlohmann::json& value, const std::string& unit, uint64_t least) {
  if (!value.is_number_unsigned() || value.get<uint64_t>() < least || value.get<uint64_t>() > kLargestSide)
    bad_units("a size of a unit is not usable", unit, value.dump());
  return value.get<uint64_t>();
}

// Members cover the rows of the stack one after another.
std::vector<Member> read_members(const nlohmann::json& list, uint64_t rows, const std::string& unit) {
  if (!list.is_array()) bad_units("a unit's members are no array", unit);
  std::vector<Member> members;
  uint64_t end = 0;
  for (const nlohmann::json& item : list) {
    Member member{text_field(item, "name", unit), size_of(field(item, "begin", unit), unit, 0),
                  size_of(field(item, "count", unit), unit, 1)};
    if (member.begin != end) bad_units("a unit's members do not follow each other", unit, member.name);
    end += member.count;
    members.push_back(std::move(member));
  }
  if (!members.empty() && end != rows)
    bad_units("a unit's members do not cover its rows", unit, fmt::format("{} of {}", end, rows));
  return members;
}

FormatPtr read_format(const nlohmann::json& json, const std::string& unit) {
  try {
    return make_format_from(Json(json), unit);
  } catch (const Error& error) {  // what is a mistake in a recipe is an unknown format in a file
    throw Error(ErrorKind::input, "a tensor has a format that is not read here", fmt::format("{}: {}", kUnitsKey, unit),
                error.what(), "the file was made by a newer whit");
  }
}

class FileTensors {
 public:
  explicit FileTensors(const GgufFile& gguf) : used_(gguf.tensors.size()) {
    for (size_t i = 0; i < gguf.tensors.size(); ++i) by_name_[gguf.tensors[i].name] = i;
  }
  // Index of the unit's tensor `name`, which no other unit has claimed.
  size_t claim(const std::string& name, const std::string& unit) {
    const auto found = by_name_.find(name);
    if (found == by_name_.end()) bad_units("a part of a unit is missing", unit, name);
    if (used_[found->second]) bad_units("a tensor is part of two units", unit, name);
    used_[found->second] = true;
    return found->second;
  }
  bool used(size_t index) const { return used_[index]; }

 private:
  std::unordered_map<std::string_view, size_t> by_name_;
  std::vector<bool> used_;
};

// The unit and the place of its first part in the file.
std::pair<size_t, StoredTensor> read_unit(const nlohmann::json& json, const GgufFile& gguf, FileTensors& file,
                                          RotationReader& rotations) {
  StoredTensor tensor;
  tensor.name = text_field(json, "name", "?");
  const nlohmann::json& shape = field(json, "shape", tensor.name);
  if (!shape.is_array() || shape.size() != 2) bad_units("a unit's shape is no pair", tensor.name, shape.dump());
  tensor.shape = {size_of(shape[0], tensor.name, 1), size_of(shape[1], tensor.name, 1)};
  if (checked_mul(tensor.shape.rows, tensor.shape.cols, tensor.name) > kLargestCount)
    bad_units("a unit is too large", tensor.name, shape.dump());
  tensor.format = read_format(field(json, "format", tensor.name), tensor.name);
  tensor.format->check_shape(tensor.shape, tensor.name);
  tensor.members = read_members(field(json, "members", tensor.name), tensor.shape.rows, tensor.name);
  tensor.owner = gguf.file;

  const std::vector<PartSpec> parts = tensor.format->parts(tensor.shape);
  const nlohmann::json& listed = field(json, "parts", tensor.name);
  if (!listed.is_array() || listed.size() != parts.size())
    bad_units("a unit has other parts than its format", tensor.name, listed.dump());
  size_t first = 0;
  for (size_t p = 0; p < parts.size(); ++p) {
    if (listed[p] != parts[p].suffix) bad_units("a unit has other parts than its format", tensor.name, listed.dump());
    const size_t index = file.claim(part_name(tensor.name, parts[p].suffix), tensor.name);
    const GgufTensor& part = gguf.tensors[index];
    if (part.type != static_cast<int32_t>(parts[p].type) || part.data.size() != parts[p].bytes)
      bad_units("a part of a unit has another type or size than its format says", tensor.name,
                fmt::format("{}: type {}, {} bytes, wanted type {}, {} bytes", part.name, part.type, part.data.size(),
                            static_cast<int32_t>(parts[p].type), parts[p].bytes));
    if (parts[p].type == GgmlType::f16 && !tensor.format->is_ggml() && !all_finite_halves(part.data))
      throw Error(ErrorKind::numeric, "a part of a unit holds NaN or infinity", fmt::format("{}: {}", kUnitsKey, tensor.name),
                  part.name, "the file was made from numbers that are none: make it again");
    tensor.parts.push_back(part.data);
    if (p == 0) first = index;
  }
  tensor.format->check_parts(tensor.shape, tensor.parts, tensor.name);
  tensor.rotation = rotations.unit(json, tensor);
  return {first, std::move(tensor)};
}

std::string unpack_tokenizer(const GgufFile& gguf, uint64_t raw_bytes) {
  const std::string where = "tensor " + std::string(kTokenizerTensor);
  const GgufTensor* tensor = gguf.find(kTokenizerTensor);
  if (!tensor || tensor->type != static_cast<int32_t>(GgmlType::i8))
    throw Error(ErrorKind::input, "the packed tokenizer is missing or of another type", where);
  if (raw_bytes > kLargestTokenizer)
    throw Error(ErrorKind::input, "the packed tokenizer is too large", where, fmt::format("{} bytes", raw_bytes),
                fmt::format("at most {} bytes are unpacked", kLargestTokenizer));
  if (ZSTD_getFrameContentSize(tensor->data.data(), tensor->data.size()) != raw_bytes)
    throw Error(ErrorKind::input, "the packed tokenizer has another size than the file says", where,
                fmt::format("{} bytes wanted", raw_bytes));
  std::string raw(raw_bytes, '\0');
  const size_t size = ZSTD_decompress(raw.data(), raw.size(), tensor->data.data(), tensor->data.size());
  if (ZSTD_isError(size) || size != raw_bytes)
    throw Error(ErrorKind::input, "the packed tokenizer cannot be unpacked", where,
                ZSTD_isError(size) ? ZSTD_getErrorName(size) : "");
  return raw;
}

}  // namespace

bool is_whit_file(const GgufFile& gguf) {
  const Value* architecture = gguf.metadata.find("general.architecture");
  const auto* text = architecture ? std::get_if<std::string>(architecture) : nullptr;
  return text && *text == kWhitArchitecture;
}

std::vector<StoredTensor> stored_tensors(const GgufFile& gguf) {
  std::vector<StoredTensor> tensors;
  if (!is_whit_file(gguf)) {
    for (const GgufTensor& tensor : gguf.tensors) tensors.push_back(ordinary_tensor(gguf, tensor));
    return tensors;
  }
  if (const uint64_t version = gguf.metadata.unsigned_integer(kVersionKey);
      version < kContainerVersion || version > kStreamVersion)
    throw Error(ErrorKind::input, "this version of our container is not read", std::string(kVersionKey),
                fmt::format("{}", version), fmt::format("versions {} to {} are", kContainerVersion, kStreamVersion));
  const nlohmann::json units = parse_json(gguf.metadata.string(kUnitsKey), std::string(kUnitsKey), 8);
  if (!units.is_array()) bad_units("the units are no array", "");
  FileTensors file(gguf);
  RotationReader rotations(gguf);
  std::unordered_map<size_t, StoredTensor> at;
  for (const nlohmann::json& unit : units) {
    auto [index, tensor] = read_unit(unit, gguf, file, rotations);
    at.emplace(index, std::move(tensor));
  }
  for (size_t i = 0; i < gguf.tensors.size(); ++i) {
    if (const auto unit = at.find(i); unit != at.end())
      tensors.push_back(std::move(unit->second));
    else if (!file.used(i) && gguf.tensors[i].name != kTokenizerTensor && gguf.tensors[i].name != kFactorsTensor)
      tensors.push_back(ordinary_tensor(gguf, gguf.tensors[i]));
  }
  return tensors;
}

RotationPtr stored_stream(const GgufFile& gguf) {
  return is_whit_file(gguf) ? RotationReader(gguf).stream() : nullptr;
}

KeyValues model_metadata(const GgufFile& gguf) {
  const bool ours = is_whit_file(gguf);
  KeyValues out;
  for (const KeyValue& item : gguf.metadata.all()) {
    if (item.key == "general.alignment" || (item.key.starts_with("whit.") && item.key != kManifestKey)) continue;
    if (ours && item.key.starts_with("tokenizer.")) continue;  // the packed ones are the true ones
    if (ours && item.key == "general.architecture")
      out.append(item.key, gguf.metadata.string(kBaseArchitectureKey));
    else
      out.append(item.key, item.value);
  }
  if (!ours || !gguf.metadata.has(kTokenizerBytesKey)) return out;
  const std::string raw = unpack_tokenizer(gguf, gguf.metadata.unsigned_integer(kTokenizerBytesKey));
  const std::string name(kTokenizerTensor);
  Cursor cursor(std::as_bytes(std::span(raw.data(), raw.size())), name);
  RecordReader records(cursor);
  while (cursor.left() > 0) {
    records.read(out);
    if (const std::string& key = out.all().back().key; !key.starts_with("tokenizer."))
      throw Error(ErrorKind::input, "the packed tokenizer holds a key that is none of a tokenizer", name,
                  key.substr(0, 200));
  }
  return out;
}

}  // namespace whit
