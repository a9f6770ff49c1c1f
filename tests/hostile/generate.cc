#include "hostile/generate.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <map>

#include "base/half.h"
#include "model/spec/family.h"

namespace whit::tests {
namespace {

bool chance(Rng& rng, double p) { return rng.uniform() < p; }
template <class T>
const T& one_of(Rng& rng, const std::vector<T>& all) {
  return all[rng.below(all.size())];
}
int draw(Rng& rng, std::initializer_list<int> all) { return all.begin()[rng.below(all.size())]; }

const std::filesystem::path kStories = WHIT_TESTS_DIR "/data/models/stories260K.gguf";

OutputTensor dense(const std::string& name, Shape shape, int dimensions, std::vector<float> values) {
  auto packed = std::make_shared<const Packed>(pack_dense(make_format("f32"), shape, values));
  return {name, shape, dimensions, {}, packed->format, [packed] { return packed; }};
}

std::vector<float> weights(Rng& rng, const std::string& name, Shape shape) {
  std::vector<float> values(shape.count());
  const bool gain = name.ends_with("norm.weight");
  const double scale = shape.rows == 1 ? 0.1 : 1 / std::sqrt(static_cast<double>(shape.cols));
  for (float& value : values) value = static_cast<float>((gain ? 1 : 0) + scale * rng.normal());
  return values;
}

// Sizes that fit each other.
ModelSpec drawn_spec(Rng& rng, const Family& family) {
  ModelSpec spec;
  spec.family = family.gguf;
  spec.layers = 1 + rng.below(3);
  spec.kv_heads = 1 + rng.below(3);
  spec.heads = spec.kv_heads * (family.names.kv_heads ? 1 + rng.below(3) : 1);
  spec.head_size = 2 * static_cast<uint64_t>(draw(rng, {1, 2, 4, 5, 7, 8, 8, 16}));
  spec.width = chance(rng, 0.7) ? spec.heads * spec.head_size : 8 + rng.below(72);
  spec.feed_forward = 8 + rng.below(90);
  spec.vocabulary = chance(rng, 0.3) ? 512 : 20 + rng.below(60);
  spec.context = 32 + rng.below(64);
  spec.norm = family.norm;
  spec.branch_norms = family.branch_norms;
  spec.head_norms = family.head_norms;
  spec.gated = family.gated;
  spec.positions = family.positions;
  spec.position_offset = family.position_offset;
  for (const char* linear : {"attn_q", "attn_k", "attn_v", "attn_output", "ffn_gate", "ffn_up", "ffn_down"})
    if ((spec.gated || linear != std::string("ffn_gate")) && chance(rng, 0.3)) spec.biases.push_back(linear);
  spec.tied_output = family.tied ? !chance(rng, 0.2) : chance(rng, 0.4);
  if (family.model_type == "opt") {
    spec.norm_after = chance(rng, 0.3);
    spec.final_norm = !spec.norm_after;
    if (chance(rng, 0.3)) spec.embedding_width = 8 + rng.below(40);
  }
  return spec;
}

// Keys that are as often a little odd as they are plain.
void add_keys(Rng& rng, const Family& family, const ModelSpec& spec, ModelOutput& output) {
  KeyValues& keys = output.metadata;
  const std::string prefix = spec.family + ".";
  const auto set = [&](const char* key, Value value) { keys.append(prefix + key, std::move(value)); };
  const auto number = [&](const char* key, uint64_t value) { set(key, static_cast<uint32_t>(value)); };
  keys.append("general.architecture", spec.family);
  keys.append("general.name", std::string("drawn"));
  number("block_count", spec.layers);
  number("context_length", chance(rng, 0.05) ? 4294967295u : spec.context);
  number("embedding_length", spec.width);
  number("feed_forward_length", spec.feed_forward);
  number("attention.head_count", spec.heads);
  number("attention.head_count_kv", spec.kv_heads);
  if (spec.heads * spec.head_size != spec.width || chance(rng, 0.2)) {
    number("attention.key_length", spec.head_size);
    number("attention.value_length", spec.head_size);
  }
  if (spec.projects()) number("embedding_length_input", spec.embedding_width);
  if (spec.norm_after) set("norm_after", true);
  set(spec.norm == NormKind::layer ? "attention.layer_norm_epsilon" : "attention.layer_norm_rms_epsilon",
      static_cast<float>(std::pow(10.0, -2 - static_cast<double>(rng.below(9)))));
  if (chance(rng, 0.2)) set("activation", std::string(draw(rng, {0, 1}) ? "relu" : "gelu_pytorch_tanh"));
  if (family.sizes_attention || chance(rng, 0.1)) set("attention.scale", static_cast<float>(0.05 + rng.uniform()));
  if (family.model_type == "gpt2" && chance(rng, 0.3)) set("attention.scale_by_layer", true);
  if (family.model_type == "gemma3_text" && chance(rng, 0.3)) set("final_logit_softcapping", 30.0f);
  if (chance(rng, 0.3)) number("attention.sliding_window", 2 + rng.below(20));
  if (spec.positions != PositionKind::rotary) return;
  if (chance(rng, 0.4)) number("rope.dimension_count", 2 * (1 + rng.below(spec.head_size / 2)));
  if (chance(rng, 0.5)) set("rope.freq_base", static_cast<float>(std::pow(10.0, 2 + 4 * rng.uniform())));
  const uint64_t half = keys.unsigned_integer(prefix + "rope.dimension_count", spec.head_size) / 2;
  const auto divisors = [&](const char* name) {
    std::vector<float> values(half);
    for (float& value : values) value = static_cast<float>(1 + 7 * rng.uniform());
    output.tensors.push_back(dense(name, {1, half}, 1, values));
  };
  switch (rng.below(8)) {
    case 0:
      set("rope.scaling.type", std::string("linear"));
      set("rope.scaling.factor", static_cast<float>(1 + 7 * rng.uniform()));
      break;
    case 1:
      set("rope.scaling.type", std::string("yarn"));
      set("rope.scaling.factor", static_cast<float>(1 + 7 * rng.uniform()));
      number("rope.scaling.original_context_length", 16 + rng.below(64));
      if (chance(rng, 0.3)) set("rope.scaling.yarn_beta_fast", 20.0f);
      if (chance(rng, 0.3)) set("rope.scaling.attn_factor", 1.25f);
      break;
    case 2: divisors("rope_freqs.weight"); break;
    case 3:
      divisors("rope_factors_short.weight");
      divisors("rope_factors_long.weight");
      number("rope.scaling.original_context_length", 16 + rng.below(64));
      break;
    case 4: set("rope.scaling.dynamic_factor", 2.0f); break;
    default: break;
  }
}

// A format with drawn options that can be packed by rounding or be filled with drawn parts.
FormatPtr drawn_format(Rng& rng, Shape shape) {
  for (;;) {
    Json json;
    switch (rng.below(9)) {
      case 0: json = {{"name", one_of<std::string>(rng, {"f32", "f16", "bf16", "q8_0", "q4_0", "q4_1", "q5_0", "q5_1"})}}; break;
      case 1:
      case 2:
        json = {{"name", "grid"}, {"bits", draw(rng, {2, 3, 4, 5, 6, 8})}, {"group", draw(rng, {0, 16, 24, 32, 64, 128})},
                {"zero", one_of<std::string>(rng, {"minimum", "integer", "symmetric"})}};
        json["parameter_bits"] = json["group"] == 0 ? 16 : draw(rng, {6, 8, 16});
        if (chance(rng, 0.3)) json = {{"name", "grid"}, {"bits", draw(rng, {2, 3, 4})}, {"columns", true}};
        break;
      case 3: {
        const int m = draw(rng, {1, 2, 3, 4, 8, 16, 32}), n = 1 + static_cast<int>(rng.below(static_cast<uint64_t>(m)));
        json = {{"name", "nm_grid"}, {"n", n}, {"m", m}, {"bits", draw(rng, {2, 3, 4, 8})}, {"group", m * draw(rng, {0, 2, 4, 8})},
                {"zero", one_of<std::string>(rng, {"minimum", "integer", "symmetric"})}};
        if (json["group"] == 0) json["parameter_bits"] = 16;
        break;
      }
      case 4: {
        const int m = draw(rng, {1, 2, 3, 4, 8, 16, 32});
        json = {{"name", "nm_f16"}, {"n", 1 + rng.below(static_cast<uint64_t>(m))}, {"m", m}};
        break;
      }
      case 5: {
        const int m = draw(rng, {2, 3, 4, 8, 16, 32});
        json = {{"name", "nm_sign"}, {"n", 1 + rng.below(static_cast<uint64_t>(m))}, {"m", m}, {"columns", chance(rng, 0.5)}};
        break;
      }
      case 6:
      case 7: {
        const bool columns = chance(rng, 0.4);
        json = {{"name", "binary_groups"}, {"regions", draw(rng, {1, 2, 3})}, {"block", draw(rng, {0, 8, 16, 64, 128})},
                {"columns", columns}};
        if (!columns) json["means"] = chance(rng, 0.5);
        if (chance(rng, 0.5)) json["residual"] = 1 + rng.below(8);
        if (chance(rng, 0.5)) {
          const int m = draw(rng, {2, 4, 8, 16, 32});
          json["m"] = m;
          json["n"] = 1 + rng.below(static_cast<uint64_t>(m));
        }
        break;
      }
      default:
        if (chance(rng, 0.5))
          json = {{"name", "lowrank_sign"}, {"rank", 8 * (1 + rng.below(6))}};
        else
          json = {{"name", "lowrank_sign"}, {"bits", 0.5 + 2 * rng.uniform()}};
    }
    try {
      FormatPtr format = make_format_from(json, "drawn");
      format->check_shape(shape, "drawn");
      if (format->is_ggml() && format->name().starts_with("q") && shape.cols % 32 != 0) continue;
      return format;
    } catch (const Error&) {  // options that do not fit each other
    }
  }
}

// Parts of a format of ours: bits as drawn, halves of the size that weights have.
Packed drawn_parts(Rng& rng, const FormatPtr& format, Shape shape) {
  Packed packed{format, shape, {}};
  const bool residual = format->options().contains("residual") && format->options()["residual"] > 0;
  for (const PartSpec& part : format->parts(shape)) {
    std::vector<std::byte> bytes(part.bytes);
    if (part.type == GgmlType::f16) {
      const bool factor = part.suffix.find("column") != std::string::npos || part.suffix == "residual_scales" ||
                          part.suffix == "l" || part.suffix == "g";
      for (uint64_t i = 0; i < part.count; ++i) {
        const double size = factor ? 0.5 + rng.uniform() : (part.suffix == "minima" || part.suffix == "means" ? -0.05 : 0.05) * rng.uniform();
        const uint16_t half = float_to_half(static_cast<float>(size));
        std::memcpy(bytes.data() + 2 * i, &half, 2);
      }
    } else if (!(part.suffix == "columns" && residual)) {
      for (std::byte& byte : bytes) byte = static_cast<std::byte>(rng.next());
    } else {  // no more columns than there is room for
      bytes[0] = std::byte{1};
    }
    packed.parts.push_back(std::move(bytes));
  }
  return packed;
}

RotationPtr drawn_rotation(Rng& rng, uint64_t size) {
  try {
    return make_rotation(size, rng.below(1000), 0, "drawn");
  } catch (const Error&) {
    return nullptr;
  }
}

OutputTensor drawn_unit(Rng& rng, const std::string& name, std::vector<Member> members, Shape shape, bool lookup) {
  const bool stack = members.size() > 1;
  FormatPtr format = drawn_format(rng, shape);
  UnitRotation rotation;
  if (chance(rng, 0.3)) rotation.inputs = drawn_rotation(rng, shape.cols);
  if (!lookup && chance(rng, 0.3))
    for (const Member& member : members)
      if (const RotationPtr one = chance(rng, 0.7) ? drawn_rotation(rng, member.count) : nullptr)
        rotation.outputs.push_back({member.begin, one});
  while (stack && format->is_ggml() && !rotation) format = drawn_format(rng, shape);
  auto packed = std::make_shared<Packed>(
      format->is_ggml() ? pack_rounded(format, shape, weights(rng, name, shape)) : drawn_parts(rng, format, shape));
  packed->rotation = rotation;
  if (!stack) members.clear();
  OutputTensor tensor{name, shape, 2, members, format, [packed] { return packed; }};
  tensor.rotation = rotation;
  return tensor;
}

}  // namespace

ModelOutput drawn_model(Rng& rng) {
  const Family& family = *one_of(rng, std::vector(families().begin(), families().end()));
  const ModelSpec spec = drawn_spec(rng, family);
  ModelOutput output;
  output.manifest = "{}";
  add_keys(rng, family, spec, output);
  std::vector<TensorSpec> tensors = end_tensors(spec);
  for (uint64_t n = 0; n < spec.layers; ++n)
    for (TensorSpec& tensor : block_tensors(spec, n)) tensors.push_back(std::move(tensor));
  for (const auto& [name, shape] : tensors) {
    const bool vector = name.ends_with("norm.weight") || name.ends_with(".bias");
    output.tensors.push_back(dense(name, shape, vector ? 1 : 2, weights(rng, name, shape)));
  }
  if (spec.vocabulary == 512) {
    static const KeyValues stories = GgufFile::open(kStories).metadata;
    for (const KeyValue& item : stories.all())
      if (item.key.starts_with("tokenizer.")) output.metadata.append(item.key, item.value);
  }
  return output;
}

ModelOutput in_drawn_formats(const ModelOutput& model, Rng& rng) {
  ModelOutput output;
  output.metadata = model.metadata;
  output.manifest = model.manifest;
  std::vector<const OutputTensor*> matrices;
  for (const OutputTensor& tensor : model.tensors) {
    const bool matrix = tensor.dimensions == 2 && (tensor.name.starts_with("blk.") || chance(rng, 0.7));
    if (matrix && chance(rng, 0.9))
      matrices.push_back(&tensor);
    else
      output.tensors.push_back(tensor);
  }
  // Stacks of matrices with as many inputs, whatever they read.
  const std::vector<size_t> order = chance(rng, 0.5) ? shuffled(matrices.size(), Rng(rng.next())) : [&] {
    std::vector<size_t> same(matrices.size());
    std::iota(same.begin(), same.end(), size_t{0});
    return same;
  }();
  for (size_t i = 0; i < order.size();) {
    const OutputTensor& first = *matrices[order[i]];
    std::vector<Member> members;
    Shape shape{0, first.shape.cols};
    bool lookup = false;
    const size_t most = 1 + rng.below(4);
    for (; i < order.size() && members.size() < most; ++i) {
      const OutputTensor& next = *matrices[order[i]];
      if (next.shape.cols != shape.cols) break;
      members.push_back({next.name, shape.rows, next.shape.rows});
      shape.rows += next.shape.rows;
      lookup = lookup || next.name == "token_embd.weight";
    }
    const std::string name = members.size() == 1 ? members[0].name : fmt::format("stack{}.weight", i);
    output.tensors.push_back(drawn_unit(rng, name, std::move(members), shape, lookup));
  }
  uint64_t width = 0;
  for (const OutputTensor& tensor : model.tensors)
    if (tensor.name == "blk.0.attn_norm.weight") width = tensor.shape.cols;
  if (chance(rng, 0.4)) output.stream = drawn_rotation(rng, width);
  return output;
}

void write_output(const ModelOutput& output, const std::filesystem::path& path) {
  AtomicFile file(path, true);
  write_model_file(file, output);
  file.commit();
}

}  // namespace whit::tests
