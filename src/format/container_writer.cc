#include <fmt/format.h>
#include <zstd.h>

#include <algorithm>
#include <map>

#include "format/container.h"
#include "format/container_keys.h"
#include "format/ggml_types.h"
#include "format/gguf_records.h"
#include "format/rotation_table.h"

namespace whit {
namespace {

constexpr int kZstdLevel = 19;

bool is_tokenizer_key(std::string_view key) { return key.starts_with("tokenizer."); }

// general.file_type of the format that holds most bytes of matrices; a numbering of its own (not the types').
std::optional<uint32_t> file_type(const ModelOutput& output) {
  // Of a K type that all matrices have: the number of its mix "small", which is nearest to that.
  static const std::map<std::string, uint32_t> kNumbers = {
      {"f32", 0},     {"f16", 1},     {"q4_0", 2},  {"q4_1", 3},   {"q8_0", 7},   {"q5_0", 8},
      {"q5_1", 9},    {"q2_k", 10},   {"q3_k", 11}, {"q4_k", 14},  {"q5_k", 16},  {"q6_k", 18},
      {"iq4_nl", 25}, {"iq4_xs", 30}, {"bf16", 32}, {"tq1_0", 36}, {"tq2_0", 37}, {"mxfp4", 38}};
  std::map<std::string, uint64_t> bytes;
  for (const OutputTensor& tensor : output.tensors)
    if (tensor.dimensions == 2) bytes[tensor.format->name()] += tensor.format->bytes(tensor.shape);
  const auto most =
      std::max_element(bytes.begin(), bytes.end(), [](const auto& a, const auto& b) { return a.second < b.second; });
  if (most == bytes.end()) return std::nullopt;
  const auto number = kNumbers.find(most->first);
  return number == kNumbers.end() ? std::nullopt : std::optional(number->second);
}

Json unit_json(const OutputTensor& tensor, const RotationTable& rotations) {
  Json unit = {{"name", tensor.name},
               {"format", format_to_json(*tensor.format)},
               {"shape", {tensor.shape.rows, tensor.shape.cols}},
               {"members", Json::array()},
               {"parts", Json::array()}};
  for (const Member& member : tensor.members)
    unit["members"].push_back({{"name", member.name}, {"begin", member.begin}, {"count", member.count}});
  for (const PartSpec& part : tensor.format->parts(tensor.shape)) unit["parts"].push_back(part.suffix);
  if (tensor.rotation) unit["rotation"] = rotations.unit_json(tensor.rotation);
  return unit;
}

RotationTable rotations_of(const ModelOutput& output) {
  RotationTable rotations;
  for (const OutputTensor& tensor : output.tensors) rotations.add(tensor.rotation);
  rotations.set_stream(output.stream);
  return rotations;
}

KeyValues file_metadata(const ModelOutput& output, const PackedTokenizer& tokenizer) {
  const bool ours = output.is_ours();
  KeyValues out;
  for (const KeyValue& item : output.metadata.all()) {
    if (item.key.starts_with("whit.") || item.key == "general.file_type" || item.key == "general.quantization_version")
      continue;
    if (ours && is_tokenizer_key(item.key)) continue;
    if (ours && item.key == "general.architecture")
      out.append(item.key, std::string(kWhitArchitecture));
    else
      out.append(item.key, item.value);
  }
  if (ours) {
    const RotationTable rotations = rotations_of(output);
    Json units = Json::array();
    for (const OutputTensor& tensor : output.tensors)
      if (tensor.is_ours()) units.push_back(unit_json(tensor, rotations));
    out.append(std::string(kVersionKey), output.stream        ? kStreamVersion
                                         : rotations.empty() ? kContainerVersion
                                                             : kRotatedVersion);
    out.append(std::string(kBaseArchitectureKey), output.metadata.string("general.architecture"));
    out.append(std::string(kUnitsKey), units.dump());
    if (!rotations.empty()) out.append(std::string(kRotationsKey), rotations.text());
    if (tokenizer.raw_bytes > 0) out.append(std::string(kTokenizerBytesKey), tokenizer.raw_bytes);
  } else {
    if (const auto number = file_type(output)) out.append("general.file_type", *number);
    const bool quantized = std::any_of(output.tensors.begin(), output.tensors.end(), [](const OutputTensor& tensor) {
      return ggml_type_row(static_cast<int32_t>(tensor.format->parts({1, 256})[0].type))->block_weights > 1;
    });
    if (quantized) out.append("general.quantization_version", uint32_t{2});
  }
  out.append(std::string(kManifestKey), output.manifest);
  return out;
}

// The parts of one tensor share its packed bytes: loaded with the first part, given back after the last.
struct Loading {
  const OutputTensor* tensor;
  std::shared_ptr<const Packed> packed;

  const std::vector<std::byte>& part(size_t index, const std::vector<PartSpec>& specs) {
    if (index == 0) packed = tensor->load();
    WHIT_CHECK(packed && packed->shape == tensor->shape && packed->format->label() == tensor->format->label());
    WHIT_CHECK(packed->rotation == tensor->rotation);
    WHIT_CHECK(packed->parts.size() == specs.size() && packed->parts[index].size() == specs[index].bytes);
    return packed->parts[index];
  }
};

std::vector<uint64_t> part_dimensions(const OutputTensor& tensor, const PartSpec& part) {
  if (tensor.format->is_ggml())
    return tensor.dimensions == 1 ? std::vector<uint64_t>{tensor.shape.cols}
                                  : std::vector<uint64_t>{tensor.shape.cols, tensor.shape.rows};
  if (part.row_bytes == 0) return {part.count};
  return {part.count / tensor.shape.rows, tensor.shape.rows};
}

std::vector<GgufOutput> file_tensors(const ModelOutput& output, const PackedTokenizer& tokenizer) {
  std::vector<GgufOutput> out;
  for (const OutputTensor& tensor : output.tensors) {
    WHIT_CHECK(tensor.members.empty() || tensor.is_ours());
    tensor.format->check_shape(tensor.shape, tensor.name);
    const std::vector<PartSpec> specs = tensor.format->parts(tensor.shape);
    auto loading = std::make_shared<Loading>(Loading{&tensor, nullptr});
    for (size_t p = 0; p < specs.size(); ++p) {
      const auto write = [loading, p, specs](const auto& sink) {
        sink(std::span(loading->part(p, specs)));
        if (p + 1 == specs.size()) loading->packed.reset();
      };
      out.push_back({part_name(tensor.name, specs[p].suffix), part_dimensions(tensor, specs[p]), specs[p].type,
                     specs[p].bytes, write});
    }
  }
  if (std::vector<float> factors = rotations_of(output).factors(); !factors.empty()) {
    const uint64_t count = factors.size();
    out.push_back({std::string(kFactorsTensor),
                   {count},
                   GgmlType::f32,
                   count * sizeof(float),
                   [factors = std::move(factors)](const auto& sink) { sink(std::as_bytes(std::span(factors))); }});
  }
  if (output.is_ours() && tokenizer.raw_bytes > 0) {
    const std::string& compressed = tokenizer.compressed;
    out.push_back(
        {std::string(kTokenizerTensor),
         {compressed.size()},
         GgmlType::i8,
         compressed.size(),
         [&compressed](const auto& sink) { sink(std::as_bytes(std::span(compressed.data(), compressed.size()))); }});
  }
  return out;
}

PackedTokenizer tokenizer_of(const ModelOutput& output) {
  if (!output.is_ours()) return {};
  return output.tokenizer ? *output.tokenizer : pack_tokenizer(output.metadata);
}

uint64_t alignment_of(const ModelOutput& output) { return output.is_ours() ? 64 : 32; }

}  // namespace

bool ModelOutput::is_ours() const {
  return stream || std::any_of(tensors.begin(), tensors.end(), [](const OutputTensor& tensor) { return tensor.is_ours(); });
}

PackedTokenizer pack_tokenizer(const KeyValues& metadata) {
  std::string records;
  for (const KeyValue& item : metadata.all())
    if (is_tokenizer_key(item.key)) append_record(records, item);
  PackedTokenizer packed;
  packed.raw_bytes = records.size();
  if (records.empty()) return packed;
  if (records.size() > kLargestTokenizer)
    throw Error(ErrorKind::input, "the tokenizer is too large for a file of ours", "tokenizer.*",
                fmt::format("{} bytes", records.size()),
                fmt::format("at most {} bytes can be stored", kLargestTokenizer));
  packed.compressed.resize(ZSTD_compressBound(records.size()));
  const size_t size =
      ZSTD_compress(packed.compressed.data(), packed.compressed.size(), records.data(), records.size(), kZstdLevel);
  WHIT_CHECK(!ZSTD_isError(size));
  packed.compressed.resize(size);
  return packed;
}

uint64_t model_file_bytes(const ModelOutput& output) {
  const PackedTokenizer tokenizer = tokenizer_of(output);
  return gguf_file_bytes(file_metadata(output, tokenizer), file_tensors(output, tokenizer), true, alignment_of(output));
}

void write_model_file(AtomicFile& file, const ModelOutput& output) {
  const PackedTokenizer tokenizer = tokenizer_of(output);
  write_gguf(file, file_metadata(output, tokenizer), file_tensors(output, tokenizer), true, alignment_of(output));
}

}  // namespace whit
