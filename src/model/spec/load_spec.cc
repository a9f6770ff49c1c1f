// A model's description from its GGUF keys and tensors, by the table of its family.
#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <map>
#include <numbers>

#include "base/checked.h"
#include "base/error.h"
#include "format/format.h"
#include "model/spec/config.h"
#include "model/spec/family.h"
#include "model/spec/load.h"
#include "model/spec/settle.h"

namespace whit {
namespace {

[[noreturn]] void refuse(const Model& model, const std::string& what, const std::string& place,
                         const std::string& found, const std::string& hint = {}) {
  throw Error(ErrorKind::input, what, model.path.string() + (place.empty() ? "" : ": " + place), found, hint);
}

// A number, or an array with the same number for every layer.
uint64_t per_layer(const Model& model, const std::string& key, uint64_t fallback) {
  const Value* value = model.metadata.find(key);
  const auto same = [&](const auto& items) -> uint64_t {
    if (items.empty() ||
        std::any_of(items.begin(), items.end(), [&](auto item) { return item != items[0] || item < 0; }))
      refuse(model, "layers of different sizes are not supported", key, "an array");
    return static_cast<uint64_t>(items[0]);
  };
  if (!value) return fallback;
  if (const auto* items = std::get_if<std::vector<uint32_t>>(value)) return same(*items);
  if (const auto* items = std::get_if<std::vector<int32_t>>(value)) return same(*items);
  return model.metadata.unsigned_integer(key);
}

uint64_t positive(const Model& model, const std::string& key, uint64_t value, uint64_t limit = uint64_t{1} << 32) {
  if (value == 0 || value > limit)
    refuse(model, "a size of the model is not usable", key, fmt::format("{}", value),
           fmt::format("1 to {} is read", limit));
  return value;
}

// Weights of the largest tensor, whose bytes are in the file.
uint64_t most_weights(const Model& model) {
  uint64_t most = 0;
  for (const StoredTensor& tensor : model.tensors) most = std::max(most, tensor.shape.count());
  return most;
}

double finite_positive(const Model& model, const std::string& key, double value) {
  // Executors compute in floats: what is none there would be another number for each of them.
  if (const auto single = static_cast<float>(value); !std::isnormal(single) || value <= 0)
    refuse(model, "a number of the model is not usable", key, fmt::format("{}", value));
  return value;
}

// A number for every block, or one for all; empty where the key is absent.
std::vector<bool> flags(const Model& model, const std::string& key, uint64_t layers) {
  const Value* value = model.metadata.find(key);
  if (!value) return {};
  std::vector<bool> flags;
  if (const auto* list = std::get_if<std::vector<bool>>(value)) {
    flags = *list;
  } else {  // every n-th block has it not
    const uint64_t period = positive(model, key, model.metadata.unsigned_integer(key));
    for (uint64_t n = 0; n < layers; ++n) flags.push_back((n + 1) % period != 0);
  }
  if (flags.size() != layers)
    refuse(model, "a key has another number of layers than the model", key,
           fmt::format("{} of {}", flags.size(), layers));
  return flags;
}

// Divisors of scaling yarn (2309.00071, section 3.2): the base frequencies divided by `factor` below, as they are
// above, a ramp between.
std::vector<float> yarn_divisors(double theta, uint64_t dimensions, double factor, double original, double fast,
                                 double slow, bool truncate) {
  const auto d = static_cast<double>(dimensions);
  const auto turning = [&](double turns) {  // the element that turns so often in the original context
    return d * std::log(original / (turns * 2 * std::numbers::pi)) / (2 * std::log(theta));
  };
  const double first = turning(fast), last = turning(slow);
  const double low = std::max(truncate ? std::floor(first) : first, 0.0);
  double high = std::min(truncate ? std::ceil(last) : last, d - 1);
  if (low == high) high += 0.001;
  std::vector<float> divisors(dimensions / 2);
  for (size_t i = 0; i < divisors.size(); ++i) {
    const double ramp = std::clamp((static_cast<double>(i) - low) / (high - low), 0.0, 1.0);
    divisors[i] = static_cast<float>(1 / (ramp / factor + 1 - ramp));
  }
  return divisors;
}

RotarySpec rotary_spec(const Model& model, const std::string& prefix, uint64_t head_size) {
  const KeyValues& keys = model.metadata;
  RotarySpec rotary;
  const auto number = [&](const char* key, double fallback) {
    return finite_positive(model, prefix + key, keys.number(prefix + key, fallback));
  };
  rotary.theta = number("rope.freq_base", 10000.0);
  rotary.dimensions = keys.unsigned_integer(prefix + "rope.dimension_count", head_size);
  if (rotary.dimensions > head_size || rotary.dimensions % 2 != 0 || rotary.dimensions == 0)
    refuse(model, "so many elements of a head cannot be rotated", prefix + "rope.dimension_count",
           fmt::format("{} of {}", rotary.dimensions, head_size));
  const uint64_t half = rotary.dimensions / 2;
  const auto divisors = [&](const char* name) {
    std::vector<float> values = model.vector(name, half);
    for (const float divisor : values) finite_positive(model, name, divisor);
    return values;
  };
  double factor = 1;
  rotary.attention_factor = number("rope.scaling.attn_factor", 1.0);
  const std::string kind = keys.string(prefix + "rope.scaling.type", "none");
  const bool freqs = static_cast<bool>(model.find("rope_freqs.weight"));
  const bool factors = model.find("rope_factors_long.weight") || model.find("rope_factors_short.weight");
  const auto alone = [&](const char* tensor, bool there) {
    if (there)
      refuse(model, "the rotary frequencies are scaled in two ways", "tensor " + std::string(tensor), kind,
             prefix + "rope.scaling.type says another one: which is meant is not known");
  };
  if (freqs) rotary.frequency_divisors = divisors("rope_freqs.weight");
  if (kind == "yarn" || factors) alone("rope_freqs.weight", freqs);
  if (kind == "linear" || kind == "yarn") alone("rope_factors_long.weight", factors);
  if (kind == "linear") {
    factor = finite_positive(model, prefix + "rope.scaling.factor", keys.number(prefix + "rope.scaling.factor"));
  } else if (kind == "yarn") {
    const double by =
        finite_positive(model, prefix + "rope.scaling.factor", keys.number(prefix + "rope.scaling.factor"));
    const std::string original = prefix + "rope.scaling.original_context_length";
    rotary.frequency_divisors =
        yarn_divisors(rotary.theta, rotary.dimensions, by,
                      static_cast<double>(positive(model, original, keys.unsigned_integer(original))),
                      number("rope.scaling.yarn_beta_fast", 32.0), number("rope.scaling.yarn_beta_slow", 1.0),
                      keys.boolean(prefix + "rope.scaling.yarn_truncate", true));
    rotary.attention_factor *= yarn_attention_factor(by);
  } else if (factors) {  // longrope, whether it is named or not
    rotary.frequency_divisors = divisors("rope_factors_short.weight");
    rotary.long_divisors = divisors("rope_factors_long.weight");
    const std::string original = prefix + "rope.scaling.original_context_length";
    rotary.original_context = positive(model, original, keys.unsigned_integer(original));
  } else if (keys.has(prefix + "rope.scaling.dynamic_factor")) {
    rotary.dynamic_factor = number("rope.scaling.dynamic_factor", 1.0);
    rotary.original_context =
        positive(model, prefix + "context_length", keys.unsigned_integer(prefix + "context_length"));
  } else if (kind != "none" && !kind.empty()) {
    refuse(model, "this kind of rotary scaling is not supported", prefix + "rope.scaling.type", kind,
           "none, linear, yarn, longrope and the divisors of rope_freqs.weight are");
  } else if (keys.has(prefix + "rope.scale_linear")) {  // the older spelling
    factor = number("rope.scale_linear", 1.0);
  }
  if (factor != 1) {
    rotary.frequency_divisors.resize(half, 1.0f);
    for (float& divisor : rotary.frequency_divisors) divisor = static_cast<float>(divisor * factor);
  }
  return rotary;
}

// Windows, rotary bases and blocks without positions.
void read_blocks(const Model& model, const Family& family, ModelSpec& spec) {
  const KeyValues& keys = model.metadata;
  const std::string prefix = spec.family + ".", window_key = prefix + "attention.sliding_window";
  const uint64_t window = keys.unsigned_integer(window_key, 0);
  std::vector<bool> windowed = flags(model, prefix + "attention.sliding_window_pattern", spec.layers);
  std::vector<bool> rotated = flags(model, prefix + "rope.layers", spec.layers);
  const bool by_layer = keys.boolean(prefix + "attention.scale_by_layer", false);
  spec.blocks.resize(spec.layers);
  for (uint64_t n = 0; n < spec.layers; ++n) {
    BlockSpec& block = spec.blocks[n];
    const bool has = windowed.empty() ? family.windows != WindowRule::pattern || (n + 1) % 6 != 0 : windowed[n];
    if (by_layer) block.attention_scale = 1.0 / static_cast<double>(n + 1);
    if (has && window < spec.context) block.window = window;  // a wider one changes nothing
    if (has && window != 0 && family.two_rotaries) block.rotary = 1;
    if (family.unrotated_every != 0)
      block.rotated = rotated.empty() ? (n + 1) % family.unrotated_every != 0 : rotated[n];
  }
  if (spec.positions != PositionKind::rotary) return;
  spec.rotaries = {rotary_spec(model, prefix, spec.head_size)};
  if (!family.two_rotaries) return;
  RotarySpec local;
  const std::string key = prefix + "rope.freq_base_swa";
  local.theta = finite_positive(model, key, keys.number(key, family.window_theta));
  local.dimensions = spec.rotaries[0].dimensions;
  spec.rotaries.push_back(local);
}

const Family& family_of(const Model& model) {
  const std::string name = model.metadata.string("general.architecture");
  const Family* family = family_of_gguf(name);
  if (const std::string type = model.metadata.string("general.type", "model"); type != "model")
    refuse(model, "this GGUF file is no model", "general.type", type,
           type == "adapter" ? "it is an adapter (LoRA): merge it into its model first" : "give the model's own file");
  if (model.tensors.empty())
    refuse(model, "this GGUF file has no weights", "tensors", "none", "a vocabulary alone? give the model's own file");
  if (!family)
    refuse(model, "this family of models is not supported", "general.architecture", name,
           "read are " + family_names(true));
  return *family;
}

ModelSpec read_spec(const Model& model, const Family& family) {
  const KeyValues& keys = model.metadata;
  ModelSpec spec;
  spec.family = family.gguf;
  spec.name = keys.string("general.name", "");
  spec.norm = family.norm;
  spec.branch_norms = family.branch_norms;
  spec.head_norms = family.head_norms;
  spec.activation = family.activation;
  spec.gated = family.gated;
  spec.positions = family.positions;
  spec.position_offset = family.position_offset;
  spec.pairs = family.pairs;
  const std::string prefix = spec.family + ".";
  const auto size = [&](const char* key) { return positive(model, prefix + key, keys.unsigned_integer(prefix + key)); };
  spec.layers = positive(model, prefix + "block_count", keys.unsigned_integer(prefix + "block_count"), 100000);
  // Sizes come from a file: a block takes some ten tensors, so a count beyond what is there is found before any loop.
  if (spec.layers > model.tensors.size())
    refuse(model, "the model lacks tensors", spec.family + ".block_count",
           fmt::format("{} layers, {} tensors", spec.layers, model.tensors.size()));
  spec.width = size("embedding_length");
  spec.context = size("context_length");
  const std::string epsilon =
      prefix + (spec.norm == NormKind::layer ? "attention.layer_norm_epsilon" : "attention.layer_norm_rms_epsilon");
  spec.norm_epsilon = finite_positive(model, epsilon, keys.number(epsilon));
  spec.feed_forward =
      positive(model, prefix + "feed_forward_length", per_layer(model, prefix + "feed_forward_length", 0));
  spec.heads = positive(model, prefix + "attention.head_count", per_layer(model, prefix + "attention.head_count", 0));
  spec.kv_heads = positive(model, prefix + "attention.head_count_kv",
                           per_layer(model, prefix + "attention.head_count_kv", spec.heads));
  if (spec.heads % spec.kv_heads != 0)
    refuse(model, "the query heads cannot be shared out among the key heads", prefix + "attention.head_count_kv",
           fmt::format("{} of {}", spec.kv_heads, spec.heads));
  if (!keys.has(prefix + "attention.key_length") && spec.width % spec.heads != 0)
    refuse(model, "the width is no multiple of the number of heads", prefix + "attention.head_count",
           fmt::format("{} of {}", spec.heads, spec.width));
  spec.head_size = positive(model, prefix + "attention.key_length",
                            keys.unsigned_integer(prefix + "attention.key_length", spec.width / spec.heads));
  // Before anything of a head's size is made: all heads together are rows of a tensor that is there.
  const std::string heads_key = prefix + "attention.head_count";
  if (const uint64_t all = checked_mul(spec.heads, spec.head_size, model.path.string() + ": " + heads_key);
      all > most_weights(model))
    refuse(model, "the heads are larger than any tensor", heads_key,
           fmt::format("{} heads of {}", spec.heads, spec.head_size));
  if (const uint64_t length = keys.unsigned_integer(prefix + "attention.value_length", spec.head_size);
      length != spec.head_size)
    refuse(model, "value heads of another size than key heads are not supported", prefix + "attention.value_length",
           fmt::format("{} and {}", length, spec.head_size));
  if (const uint64_t experts = keys.unsigned_integer(prefix + "expert_count", 0); experts != 0)
    refuse(model, "mixtures of experts are not supported", prefix + "expert_count", fmt::format("{}", experts));
  if (!keys.boolean(prefix + "attention.causal", true))
    refuse(model, "attention to later positions is not supported", prefix + "attention.causal", "false");
  if (const std::string name = keys.string(prefix + "activation", activation_name(spec.activation));
      const Activation* found = find_activation(name))
    spec.activation = *found;
  else
    refuse(model, "this activation is not supported", prefix + "activation", name, activation_names() + " are");
  if (const uint64_t embedded = keys.unsigned_integer(prefix + "embedding_length_input", spec.width);
      embedded != spec.width)
    spec.embedding_width = positive(model, prefix + "embedding_length_input", embedded);
  spec.norm_after = keys.boolean(prefix + "norm_after", false);
  spec.final_norm = !spec.norm_after && !keys.boolean(prefix + "final_norm_removed", false);
  if (const std::string cap = prefix + "final_logit_softcapping"; keys.has(cap))
    spec.logit_cap = finite_positive(model, cap, keys.number(cap));
  if (keys.has(prefix + "attention.scale"))
    spec.attention_scale = finite_positive(model, prefix + "attention.scale", keys.number(prefix + "attention.scale"));
  else if (family.sizes_attention && spec.layers == 62)  // Gemma 3 27B, whose files do not say it
    spec.attention_scale = 1 / std::sqrt(static_cast<double>(spec.width) / static_cast<double>(spec.heads));
  if (family.scaled_embedding) spec.embedding_scale = std::sqrt(static_cast<double>(spec.width));
  read_blocks(model, family, spec);

  const TensorView embedding = model.find("token_embd.weight");
  if (!embedding) refuse(model, "the model lacks a tensor", "tensor token_embd.weight", "");
  spec.vocabulary = positive(model, "token_embd.weight", embedding.rows, uint64_t{1} << 31);
  spec.tied_output = !model.find("output.weight");
  return spec;
}

// A tensor of 32-bit floats that is not in the file.
StoredTensor made_vector(const std::string& name, std::span<const float> values) {
  auto packed = std::make_shared<Packed>(pack_dense(make_format("f32"), {1, values.size()}, values));
  StoredTensor tensor = make_stored(name, std::move(packed));
  tensor.dimensions = 1;
  return tensor;
}

// Fused matrices become stacks of the linears that they are made of, their biases vectors of their own.
void split_fused(Model& model, const Family& family) {
  const std::vector<UnitSpec> units = units_of(model.spec);
  std::map<std::string, const UnitSpec*> named;
  for (const UnitSpec& unit : units)
    for (const FusedUnit& row : family.fused)
      if (unit.block >= 0 && unit.kind == row.unit)
        for (const std::string_view name : {row.unit, row.gguf})
          for (const char* kind : {"weight", "bias"})
            named[fmt::format("blk.{}.{}.{}", unit.block, name, kind)] = &unit;
  if (named.empty()) return;
  std::vector<StoredTensor> tensors;
  for (StoredTensor& tensor : model.tensors) {
    const auto found = named.find(tensor.name);
    const bool weight = tensor.name.ends_with(".weight");
    const UnitSpec* fused = found == named.end() || !tensor.members.empty() ? nullptr : found->second;
    if (fused && (weight ? tensor.shape.rows : tensor.shape.cols) != fused->rows) fused = nullptr;  // ffn_up by itself
    if (!fused) {
      tensors.push_back(std::move(tensor));
    } else if (weight) {
      tensor.name = fused->name;
      uint64_t begin = 0;
      for (size_t m = 0; m < fused->members.size(); ++m) {
        tensor.members.push_back({fused->members[m], begin, fused->member_rows[m]});
        begin += fused->member_rows[m];
      }
      tensors.push_back(std::move(tensor));
    } else {
      std::vector<float> values(fused->rows);
      unpack_rows({&tensor, 0, 1}, 0, 1, values);
      std::span<const float> rest = values;
      for (size_t m = 0; m < fused->members.size(); ++m) {
        const std::string& name = fused->members[m];
        tensors.push_back(made_vector(name.substr(0, name.rfind('.')) + ".bias", rest.first(fused->member_rows[m])));
        rest = rest.subspan(fused->member_rows[m]);
      }
    }
  }
  model.tensors = std::move(tensors);
}

// Norms that a folder leaves out because they multiply by 1 and add 0.
void add_plain_norms(Model& model) {
  if (!model.metadata.boolean(model.spec.family + ".norms_without_gain", false)) return;
  std::vector<TensorSpec> wanted = end_tensors(model.spec);
  for (uint64_t n = 0; n < model.spec.layers; ++n)
    for (TensorSpec& tensor : block_tensors(model.spec, n)) wanted.push_back(std::move(tensor));
  for (const TensorSpec& tensor : wanted) {
    const bool gain = tensor.name.ends_with("norm.weight");
    if ((gain || tensor.name.ends_with("norm.bias")) && !model.find(tensor.name))
      model.tensors.push_back(made_vector(tensor.name, std::vector<float>(tensor.shape.cols, gain ? 1.0f : 0.0f)));
  }
}

// That the tensors are exactly those that the description needs: none missing, none of another shape, none unknown.
void check_tensors(const Model& model) {
  const ModelSpec& spec = model.spec;
  std::map<std::string, Shape> wanted;
  for (const auto& [name, shape] : end_tensors(spec)) wanted[name] = shape;
  for (uint64_t n = 0; n < spec.layers; ++n)
    for (const auto& [name, shape] : block_tensors(spec, n)) wanted[name] = shape;

  std::map<std::string, Shape> found;
  for (const StoredTensor& tensor : model.tensors) {
    if (tensor.members.empty()) found[tensor.name] = tensor.shape;
    for (const Member& member : tensor.members) found[member.name] = {member.count, tensor.shape.cols};
  }
  if (spec.positions == PositionKind::rotary)
    for (const char* divisors : {"rope_freqs.weight", "rope_factors_short.weight", "rope_factors_long.weight"})
      found.erase(divisors);
  for (const auto& [name, shape] : wanted) {
    const auto it = found.find(name);
    if (it == found.end()) refuse(model, "the model lacks a tensor", "tensor " + name, "");
    if (it->second != shape)
      refuse(model, "a tensor has another shape than the model's description says", "tensor " + name,
             fmt::format("{} x {}, wanted {} x {}", it->second.rows, it->second.cols, shape.rows, shape.cols));
  }
  const TensorView embedding = model.find("token_embd.weight");
  if (!embedding.tensor->rotation.rows(embedding.begin, embedding.rows).outputs.empty())
    refuse(model, "an embedding with rotated outputs cannot be looked up row by row", "tensor token_embd.weight", "");
  for (const auto& [name, shape] : found)
    if (!wanted.contains(name))
      refuse(model, "the model has a tensor that is not supported", "tensor " + name,
             fmt::format("{} x {}", shape.rows, shape.cols), "leaving it out would change what the model says");
}

}  // namespace

void describe(Model& model) {
  const Family& family = family_of(model);
  model.spec = read_spec(model, family);
  split_fused(model, family);
  for (const char* linear : {"attn_q", "attn_k", "attn_v", "attn_output", "ffn_gate", "ffn_up", "ffn_down"})
    if (model.find(fmt::format("blk.0.{}.bias", linear))) model.spec.biases.push_back(linear);
  add_plain_norms(model);
  check_tensors(model);
  note_unread_keys(model);
}

}  // namespace whit
