#include "hostile/mutate.h"

#include <fmt/format.h>

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstring>
#include <limits>

#include "base/file.h"
#include "base/half.h"
#include "base/hash.h"
#include "base/options.h"
#include "format/container.h"
#include "format/gguf.h"

namespace whit::tests {
namespace {

uint64_t odd_number(Rng& rng) {
  static constexpr uint64_t kOdd[] = {0,    1,    2,          3,          5,          7,          8,           31,          32,
                                      33,   63,   64,         65,         127,        128,        255,         256,         1000,
                                      4096, 65535, 1u << 20, 1u << 31, 4294967295u, 1ull << 32, 1ull << 40, 1ull << 62, ~0ull};
  return kOdd[rng.below(std::size(kOdd))];
}

double odd_real(Rng& rng) {
  static constexpr double kOdd[] = {0, -0.0, 1, -1, 0.5, 2, 1e-5, 1e-30, 1e-45, 1e-300, 1e10, 1e30, 3e38, 1e300,
                                    std::numeric_limits<double>::infinity(), -std::numeric_limits<double>::infinity(),
                                    std::numeric_limits<double>::quiet_NaN(), 65504, 10000, 1e6};
  return kOdd[rng.below(std::size(kOdd))];
}

uint64_t near(uint64_t value, Rng& rng) {
  switch (rng.below(6)) {
    case 0: return value + 1;
    case 1: return value - 1;
    case 2: return value * 2;
    case 3: return value / 2;
    default: return odd_number(rng);
  }
}

void change_value(Value& value, Rng& rng) {
  std::visit(
      [&](auto& held) {
        using T = std::decay_t<decltype(held)>;
        if constexpr (std::is_same_v<T, bool>) {
          held = !held;
        } else if constexpr (std::is_floating_point_v<T>) {
          held = static_cast<T>(rng.below(3) == 0 ? held * 1.5 : odd_real(rng));
        } else if constexpr (std::is_integral_v<T>) {
          held = static_cast<T>(near(static_cast<uint64_t>(held), rng));
        } else if constexpr (std::is_same_v<T, std::string>) {
          static const std::string kWords[] = {"", "none", "linear", "yarn", "longrope", "llama", "gpt2", "opt", "gemma3", "phi3",
                                               "qwen2", "whit", "relu", "gelu", std::string(300, 'x'), std::string("\0\x1b[31m", 6)};
          held = kWords[rng.below(std::size(kWords))];
        } else {
          if (held.empty() || rng.below(4) == 0) return held.resize(rng.below(2) == 0 ? 0 : held.size() + 1);
          const size_t at = rng.below(held.size());
          if constexpr (std::is_same_v<T, std::vector<bool>>)
            held[at] = !held[at];
          else if constexpr (std::is_same_v<T, std::vector<std::string>>)
            held[at] = held[rng.below(held.size())];
          else
            held[at] = static_cast<typename T::value_type>(odd_number(rng));
        }
      },
      value);
}

// The same number under another type of GGUF.
void change_type(Value& value, Rng& rng) {
  if (const auto* number = std::get_if<uint32_t>(&value)) {
    const uint32_t held = *number;
    switch (rng.below(5)) {
      case 0: value = static_cast<int32_t>(held); break;
      case 1: value = static_cast<uint64_t>(held); break;
      case 2: value = static_cast<int64_t>(held); break;
      case 3: value = std::vector<uint32_t>(1 + rng.below(4), held); break;
      default: value = static_cast<float>(held);
    }
  } else if (const auto* real = std::get_if<float>(&value)) {
    const float held = *real;
    value = rng.below(2) == 0 ? Value(static_cast<double>(held) * odd_real(rng)) : Value(static_cast<int32_t>(1));
  } else {
    value = std::string("another type");
  }
}

std::string change_key(FileParts& parts, Rng& rng) {
  std::vector<std::string> names;
  const bool model = rng.below(4) != 0;  // rather what the model is made of than its vocabulary
  for (const KeyValue& item : parts.keys.all())
    if (!model || (!item.key.starts_with("tokenizer.") && !item.key.starts_with("whit.") && !item.key.starts_with("general.")))
      names.push_back(item.key);
  if (names.empty()) return "nothing";
  const std::string key = names[rng.below(names.size())];
  Value value = *parts.keys.find(key);
  switch (rng.below(8)) {
    case 0: parts.keys.erase(key); return "key gone: " + key;
    case 1: change_type(value, rng); break;
    default: change_value(value, rng);
  }
  parts.keys.set(key, value);
  return "key changed: " + key;
}

std::string add_key(FileParts& parts, Rng& rng) {
  static constexpr const char* kKeys[] = {
      "attention.key_length", "attention.value_length", "attention.sliding_window", "attention.scale", "rope.dimension_count",
      "rope.freq_base", "rope.freq_base_swa", "rope.scaling.factor", "rope.scaling.attn_factor", "rope.scaling.dynamic_factor",
      "rope.scaling.original_context_length", "rope.scale_linear", "final_logit_softcapping", "embedding_length_input",
      "expert_count", "norm_after", "final_norm_removed", "attention.scale_by_layer", "rope.scaling.type", "activation"};
  const char* name = kKeys[rng.below(std::size(kKeys))];
  const Value* architecture = parts.keys.find("whit.base_architecture");
  if (!architecture) architecture = parts.keys.find("general.architecture");
  const auto* family = architecture ? std::get_if<std::string>(architecture) : nullptr;
  if (!family) return "nothing";
  Value value = static_cast<uint32_t>(odd_number(rng));
  switch (rng.below(4)) {
    case 0: value = static_cast<float>(odd_real(rng)); break;
    case 1: value = true; break;
    case 2: value = std::string(rng.below(2) == 0 ? "yarn" : "linear"); break;
    default: break;
  }
  parts.keys.set(*family + "." + name, value);
  return fmt::format("key new: {}", name);
}

// A drawn place of a JSON text of ours gets another value.
void walk(Json& json, std::vector<Json*>& leaves) {
  if (json.is_structured())
    for (auto& item : json.items()) walk(item.value(), leaves);
  else
    leaves.push_back(&json);
}
std::string change_json(FileParts& parts, const char* key, Rng& rng) {
  const Value* text = parts.keys.find(key);
  const auto* string = text ? std::get_if<std::string>(text) : nullptr;
  Json json = string ? Json::parse(*string, nullptr, false) : Json();
  std::vector<Json*> leaves;
  walk(json, leaves);
  if (leaves.empty()) return "nothing";
  if (json.is_array() && json.size() > 1 && rng.below(5) == 0) {  // whole units change places, are lost or come twice
    const size_t a = rng.below(json.size()), b = rng.below(json.size());
    if (rng.below(2) == 0)
      std::swap(json[a], json[b]);
    else if (rng.below(2) == 0)
      json.erase(a);
    else
      json.push_back(Json(json[a]));
  } else {
    Json& leaf = *leaves[rng.below(leaves.size())];
    const Json& other = *leaves[rng.below(leaves.size())];
    if (rng.below(4) == 0)
      leaf = Json(other);
    else if (leaf.is_number_float())
      leaf = odd_real(rng);
    else if (leaf.is_number())
      leaf = near(leaf.get<uint64_t>(), rng);
    else if (leaf.is_boolean())
      leaf = !leaf.get<bool>();
    else
      leaf = rng.below(2) == 0 ? "" : "blk.0.attn_q.weight";
  }
  parts.keys.set(key, json.dump(-1, ' ', false, Json::error_handler_t::replace));
  return fmt::format("{} changed", key);
}

// A unit in another format of other options, its parts of the sizes that these have.
std::string change_format(FileParts& parts, Rng& rng) {
  const Value* text = parts.keys.find("whit.units");
  const auto* string = text ? std::get_if<std::string>(text) : nullptr;
  Json units = string ? Json::parse(*string, nullptr, false) : Json();
  if (!units.is_array() || units.empty()) return "nothing";
  Json& unit = units[rng.below(units.size())];
  try {
    Json options = unit["format"];
    std::vector<Json*> leaves;
    walk(options, leaves);
    for (uint64_t changes = 1 + rng.below(2); changes > 0; --changes) {
      Json& leaf = *leaves[rng.below(leaves.size())];
      if (leaf.is_number())
        leaf = rng.below(2) == 0 ? near(leaf.get<uint64_t>(), rng) : rng.below(33);
      else if (leaf.is_boolean())
        leaf = !leaf.get<bool>();
    }
    const FormatPtr format = make_format_from(options, "mutated");
    const Shape shape{unit["shape"][0].get<uint64_t>(), unit["shape"][1].get<uint64_t>()};
    const std::string name = unit["name"];
    format->check_shape(shape, name);
    std::vector<FileTensor> made;
    for (const PartSpec& part : format->parts(shape)) {
      if (part.bytes > 1 << 20) return "nothing";
      FileTensor tensor{part.suffix.empty() ? name : name + ".whit." + part.suffix, {part.count}, static_cast<int32_t>(part.type),
                        std::vector<std::byte>(part.bytes)};
      for (const FileTensor& old : parts.tensors)  // what there was, again and again
        for (size_t i = 0; old.name == tensor.name && !old.bytes.empty() && i < tensor.bytes.size(); ++i)
          tensor.bytes[i] = old.bytes[i % old.bytes.size()];
      if (part.type != GgmlType::f16 && rng.below(2) == 0)
        for (std::byte& byte : tensor.bytes) byte = static_cast<std::byte>(rng.next());
      made.push_back(std::move(tensor));
    }
    std::erase_if(parts.tensors, [&](const FileTensor& tensor) {
      return tensor.name == name || tensor.name.starts_with(name + ".whit.");
    });
    Json suffixes = Json::array();
    for (const PartSpec& part : format->parts(shape)) suffixes.push_back(part.suffix);
    for (FileTensor& tensor : made) parts.tensors.push_back(std::move(tensor));
    unit["format"] = options;
    unit["parts"] = suffixes;
    parts.keys.set("whit.units", units.dump());
    return "format now " + options.dump();
  } catch (const std::exception&) {
    return "nothing";
  }
}

// A key of the tokenizer, wherever the file keeps them.
std::string change_tokenizer(FileParts& parts, Rng& rng) {
  const bool packed = parts.tokenizer.all().size() > 0;
  KeyValues& keys = packed ? parts.tokenizer : parts.keys;
  std::vector<std::string> names;
  for (const KeyValue& item : keys.all())
    if (item.key.starts_with("tokenizer.")) names.push_back(item.key);
  if (names.empty()) return "nothing";
  const std::string key = names[rng.below(names.size())];
  Value value = *keys.find(key);
  rng.below(5) == 0 ? change_type(value, rng) : change_value(value, rng);
  keys.set(key, value);
  if (packed) {
    const PackedTokenizer again = pack_tokenizer(keys);
    for (FileTensor& tensor : parts.tensors) {
      if (tensor.name != "whit.tokenizer") continue;
      const auto bytes = std::as_bytes(std::span(again.compressed));
      tensor.bytes.assign(bytes.begin(), bytes.end());
      tensor.dimensions = {tensor.bytes.size()};
    }
    parts.keys.set("whit.tokenizer.raw_bytes", rng.below(8) == 0 ? odd_number(rng) : again.raw_bytes);
  }
  return "tokenizer changed: " + key;
}

FileTensor& drawn_tensor(FileParts& parts, Rng& rng) { return parts.tensors[rng.below(parts.tensors.size())]; }

std::string change_numbers(FileParts& parts, Rng& rng) {
  FileTensor& tensor = drawn_tensor(parts, rng);
  if (tensor.bytes.empty()) return "nothing";
  const bool all = rng.below(4) == 0;
  const auto type = static_cast<GgmlType>(tensor.type);
  const size_t size = type == GgmlType::f32 ? 4 : type == GgmlType::f16 || type == GgmlType::bf16 ? 2 : 1;
  static constexpr double kExtreme[] = {0, 65504, -65504, 1e-7, 6e-8, 1e15, 1e20, 3e38, 1e-40, std::numeric_limits<double>::infinity(),
                                        std::numeric_limits<double>::quiet_NaN(), 1000, -1000, 100};
  const double extreme = kExtreme[rng.below(std::size(kExtreme))];
  const size_t count = tensor.bytes.size() / size;
  if (count == 0) return "nothing";
  for (size_t n = all ? count : 1 + rng.below(3); n > 0; --n) {
    const size_t at = all ? n - 1 : rng.below(count);
    std::byte* to = tensor.bytes.data() + at * size;
    const auto single = static_cast<float>(extreme);
    if (size == 4) std::memcpy(to, &single, 4);
    const uint16_t half = type == GgmlType::bf16 ? float_to_bfloat16(single) : float_to_half(single);
    if (size == 2) std::memcpy(to, &half, 2);
    if (size == 1) *to = all ? std::byte{0xff} : static_cast<std::byte>(rng.next());
  }
  return fmt::format("{}{}: {}", tensor.name, all ? " whole" : "", extreme);
}

std::string change_info(FileParts& parts, Rng& rng) {
  FileTensor &tensor = drawn_tensor(parts, rng), &other = drawn_tensor(parts, rng);
  const std::string name = tensor.name;
  switch (rng.below(7)) {
    case 0: std::swap(tensor.name, other.name); break;
    case 1: std::swap(tensor.bytes, other.bytes); break;
    case 2: std::reverse(tensor.dimensions.begin(), tensor.dimensions.end()); break;
    case 3: tensor.dimensions.push_back(1); if (tensor.dimensions.size() > 4) tensor.dimensions.resize(1); break;
    case 4: if (!tensor.dimensions.empty()) tensor.dimensions[rng.below(tensor.dimensions.size())] = near(tensor.dimensions[0], rng); break;
    case 5: tensor.type = static_cast<int32_t>(rng.below(42)); break;
    default: tensor.bytes.resize(near(tensor.bytes.size(), rng) % (1 << 20)); break;
  }
  return "info of " + name;
}

std::string lose_or_double(FileParts& parts, Rng& rng) {
  const size_t at = rng.below(parts.tensors.size());
  const std::string name = parts.tensors[at].name;
  if (rng.below(2) == 0) {
    parts.tensors.erase(parts.tensors.begin() + static_cast<std::ptrdiff_t>(at));
    return "gone: " + name;
  }
  FileTensor copy = parts.tensors[at];
  static constexpr const char* kNames[] = {"output.weight", "rope_freqs.weight", "rope_factors_long.weight", "blk.0.attn_q.bias",
                                           "blk.0.ffn_down.bias", "position_embd.weight"};
  copy.name = kNames[rng.below(std::size(kNames))];
  parts.tensors.push_back(std::move(copy));
  return name + " once more";
}

}  // namespace

FileParts read_parts(const std::filesystem::path& path) {
  const GgufFile gguf = GgufFile::open(path);
  FileParts parts;
  parts.alignment = gguf.alignment;
  for (const KeyValue& item : gguf.metadata.all())
    if (!item.key.starts_with("whit.checksum.") && item.key != "general.alignment") parts.keys.append(item.key, item.value);
  for (const GgufTensor& tensor : gguf.tensors)
    parts.tensors.push_back({tensor.name, tensor.dimensions, tensor.type, {tensor.data.begin(), tensor.data.end()}});
  if (!is_whit_file(gguf)) return parts;
  const KeyValues unpacked = model_metadata(gguf);
  for (const KeyValue& item : unpacked.all())
    if (item.key.starts_with("tokenizer.")) parts.tokenizer.append(item.key, item.value);
  return parts;
}

void write_parts(const FileParts& parts, const std::filesystem::path& path) {
  std::vector<GgufOutput> outputs;
  for (const FileTensor& tensor : parts.tensors)
    outputs.push_back({tensor.name.substr(0, 63), tensor.dimensions, static_cast<GgmlType>(tensor.type), tensor.bytes.size(),
                       [&tensor](const auto& sink) { sink(std::span(tensor.bytes)); }});
  AtomicFile file(path, true);
  write_gguf(file, parts.keys, outputs, true, parts.alignment == 64 ? 64 : 32);
  file.commit();
}

std::string mutate(FileParts& parts, Rng& rng) {
  if (parts.tensors.empty()) return "nothing";
  switch (rng.below(13)) {
    case 12: return change_tokenizer(parts, rng);
    case 0:
    case 1: return change_key(parts, rng);
    case 2: return add_key(parts, rng);
    case 3: return change_json(parts, "whit.units", rng);
    case 4: return change_json(parts, "whit.rotations", rng);
    case 5:
    case 6: return change_format(parts, rng);
    case 7:
    case 8:
    case 9: return change_numbers(parts, rng);
    case 10: return change_info(parts, rng);
    default: return lose_or_double(parts, rng);
  }
}

std::string move_offset(const std::filesystem::path& path, Rng& rng) {
  std::string file = read_file(path);
  GgufFile gguf;
  try {
    gguf = GgufFile::parse(std::as_bytes(std::span(file.data(), file.size())), "whole");
  } catch (const Error&) {
    return "nothing";
  }
  if (gguf.tensors.empty() || gguf.header_checksum_at == 0) return "nothing";
  uint64_t end = gguf.header_bytes;  // infos stand last in the header, their offsets last in each
  for (uint64_t back = rng.below(gguf.tensors.size()), i = gguf.tensors.size(); i-- > 0 && back-- > 0;)
    end -= 8 + gguf.tensors[i].name.size() + 4 + 8 * gguf.tensors[i].dimensions.size() + 4 + 8;
  uint64_t offset = 0;
  std::memcpy(&offset, file.data() + end - 8, 8);
  offset = rng.below(2) == 0 ? odd_number(rng) : offset + 64 * (rng.below(5) - 2);
  std::memcpy(file.data() + end - 8, &offset, 8);
  std::memset(file.data() + gguf.header_checksum_at, 0, 8);
  const uint64_t sum = xxh3_64(std::as_bytes(std::span(file.data(), gguf.header_bytes)));
  std::memcpy(file.data() + gguf.header_checksum_at, &sum, 8);
  write_file(path, file, true);
  return "offset moved";
}

}  // namespace whit::tests
