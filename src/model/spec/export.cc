#include "model/spec/export.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <optional>
#include <utility>

#include "base/error.h"
#include "base/json.h"
#include "format/format.h"
#include "model/spec/config.h"
#include "model/spec/family.h"
#include "model/spec/load.h"

namespace whit {
namespace {

using nlohmann::json;

// The shortest decimal number that is this float: 1e-05, not 9.999999747378752e-06.
double shortest(double value) { return std::stod(fmt::format("{}", static_cast<float>(value))); }

// The llama3 scaling that has these divisors, where there is one with the factors that models use (low 1, high 4).
std::optional<json> llama3_scaling(const RotarySpec& rotary) {
  const double factor = shortest(*std::max_element(rotary.frequency_divisors.begin(), rotary.frequency_divisors.end()));
  for (uint64_t original = 16; original <= uint64_t{1} << 24; original *= 2) {
    const json scaling = {{"rope_type", "llama3"},
                          {"factor", factor},
                          {"low_freq_factor", 1.0},
                          {"high_freq_factor", 4.0},
                          {"original_max_position_embeddings", original}};
    const std::vector<float> made = llama3_divisors(scaling, rotary.theta, rotary.dimensions);
    const auto same = [](float a, float b) { return std::abs(a - b) <= 1e-5f * std::abs(b); };
    if (std::equal(made.begin(), made.end(), rotary.frequency_divisors.begin(), rotary.frequency_divisors.end(), same))
      return scaling;
  }
  return std::nullopt;
}

json rope_scaling(const Model& model) {
  const ModelSpec& spec = model.spec;
  const RotarySpec& rotary = spec.rotaries.at(0);
  const std::string prefix = spec.family + ".rope.scaling.";
  const std::string kind = model.metadata.string(prefix + "type", "none");
  const std::vector<float>& divisors = rotary.frequency_divisors;
  json scaling;
  if (!rotary.long_divisors.empty()) {
    const auto list = [](const std::vector<float>& values) {
      json all = json::array();
      for (const float value : values) all.push_back(shortest(value));
      return all;
    };
    return {{"rope_type", "longrope"},
            {"short_factor", list(divisors)},
            {"long_factor", list(rotary.long_divisors)},
            {"attention_factor", shortest(rotary.attention_factor)},
            {"original_max_position_embeddings", rotary.original_context}};
  }
  if (kind == "yarn") {
    scaling = {
        {"rope_type", "yarn"},
        {"factor", shortest(model.metadata.number(prefix + "factor"))},
        {"original_max_position_embeddings", model.metadata.unsigned_integer(prefix + "original_context_length")}};
    for (const char* beta : {"beta_fast", "beta_slow"})
      if (model.metadata.has(prefix + "yarn_" + beta))
        scaling[beta] = shortest(model.metadata.number(prefix + "yarn_" + beta));
    if (model.metadata.has(prefix + "attn_factor")) scaling["attention_factor"] = rotary.attention_factor;
    if (!model.metadata.boolean(prefix + "yarn_truncate", true)) scaling["truncate"] = false;
    return scaling;
  }
  if (rotary.attention_factor != 1)
    throw Error(ErrorKind::input, "the factor of rotary attention has no key in config.json",
                model.path.string() + ": " + prefix + "attn_factor", fmt::format("{}", rotary.attention_factor));
  if (rotary.dynamic_factor != 1) return {{"rope_type", "dynamic"}, {"factor", shortest(rotary.dynamic_factor)}};
  if (divisors.empty()) return nullptr;
  if (std::all_of(divisors.begin(), divisors.end(), [&](float d) { return d == divisors[0]; }))
    return divisors[0] == 1 ? json() : json{{"rope_type", "linear"}, {"factor", shortest(divisors[0])}};
  if (const auto found = llama3_scaling(rotary)) return *found;
  throw Error(ErrorKind::input, "the divisors of the rotary frequencies are not those of a known scaling",
              model.path.string() + ": tensor rope_freqs.weight", {},
              "config.json can say linear, llama3, yarn, longrope");
}

[[noreturn]] void refuse_in_family(const Model& model, const Family& family, const std::string& what) {
  throw Error(ErrorKind::input, "config.json of this family cannot say what the model has", model.path.string(),
              fmt::format("{}: {}", family.model_type, what), "a GGUF file can");
}

void add_rotary(const Model& model, const Family& family, json& config) {
  const ModelSpec& spec = model.spec;
  if (spec.positions != PositionKind::rotary) return;
  const RotarySpec& rotary = spec.rotaries.at(0);
  const json scaling = rope_scaling(model);
  const std::string kind = scaling.is_null() ? "default" : scaling["rope_type"];
  if (family.longrope_only && kind != "default" && kind != "longrope")
    refuse_in_family(model, family, "rotary scaling " + kind);
  if (family.two_rotaries && scaling.contains("truncate"))
    refuse_in_family(model, family, "scaling yarn that is not truncated");
  if (!family.partly_rotated && rotary.dimensions != spec.head_size)
    refuse_in_family(model, family,
                     fmt::format("heads that are rotated in part, {} of {}", rotary.dimensions, spec.head_size));
  config["rope_theta"] = shortest(rotary.theta);
  config["rope_scaling"] = scaling;
  if (family.two_rotaries) config["rope_local_base_freq"] = shortest(spec.rotaries.at(1).theta);
  if (rotary.dimensions != spec.head_size) {
    const auto whole = static_cast<double>(spec.head_size), wanted = static_cast<double>(rotary.dimensions);
    double part = wanted / whole;
    if (part * whole < wanted) part = std::nextafter(part, 1.0);  // readers cut the product off
    config["partial_rotary_factor"] = part;
  }
  if (!rotary.long_divisors.empty()) config["original_max_position_embeddings"] = rotary.original_context;
  if (family.unrotated_every == 0) return;
  config["no_rope_layers"] = json::array();
  for (uint64_t n = 0; n < spec.layers; ++n) config["no_rope_layers"].push_back(spec.rotary_of(n) ? 1 : 0);
}

// attention_bias and its like say that several linears have biases; those that have none get zeros from readers.
void add_biases(const Model& model, const Family& family, json& config) {
  const auto any = [&](std::initializer_list<const char*> linears) {
    return std::any_of(linears.begin(), linears.end(), [&](const char* linear) { return model.spec.has_bias(linear); });
  };
  const auto reads = [&](const char* key) {
    return std::find(family.reads.begin(), family.reads.end(), key) != family.reads.end();
  };
  const bool attention = any({"attn_q", "attn_k", "attn_v", "attn_output"}),
             mlp = any({"ffn_gate", "ffn_up", "ffn_down"});
  if (reads("attention_bias")) config["attention_bias"] = attention;
  if (reads("mlp_bias")) config["mlp_bias"] = mlp;
  if (reads("enable_bias")) config["enable_bias"] = attention || mlp;
  for (const std::string& linear : model.spec.biases) {
    const bool of_attention = linear.starts_with("attn");
    if (reads("enable_bias") || reads(of_attention ? "attention_bias" : "mlp_bias")) continue;
    if (std::find(family.biases.begin(), family.biases.end(), linear) == family.biases.end())
      refuse_in_family(model, family, "a bias of " + linear);
  }
}

void add_windows(const Model& model, const Family& family, json& config) {
  if (family.windows == WindowRule::none) return;
  const ModelSpec& spec = model.spec;
  const uint64_t window = model.metadata.unsigned_integer(spec.family + ".attention.sliding_window", 0);
  config["sliding_window"] = window == 0 ? json() : json(window);
  if (family.windows == WindowRule::all) return;
  if (family.windows != WindowRule::pattern) config["use_sliding_window"] = window != 0;
  config["layer_types"] = json::array();
  for (uint64_t n = 0; n < spec.layers; ++n) {
    const BlockSpec block = spec.block(n);
    config["layer_types"].push_back(block.window != 0 || block.rotary != 0 ? "sliding_attention" : "full_attention");
  }
}

// The first field in which two descriptions say different functions; "" where none does.
std::string difference(const ModelSpec& a, const ModelSpec& b) {
  const auto near = [](double x, double y) { return std::abs(x - y) <= 2e-5 * std::abs(y); };  // as floats, and of llama3
  const std::pair<const char*, bool> same[] = {
      {"sizes", a.layers == b.layers && a.width == b.width && a.feed_forward == b.feed_forward &&
                    a.vocabulary == b.vocabulary && a.embedded() == b.embedded()},
      {"heads", a.heads == b.heads && a.kv_heads == b.kv_heads && a.head_size == b.head_size},
      {"context", a.context == b.context && a.longest_context() == b.longest_context()},
      {"norms", a.norm == b.norm && near(a.norm_epsilon, b.norm_epsilon) && a.norm_after == b.norm_after &&
                    a.final_norm == b.final_norm && a.branch_norms == b.branch_norms && a.head_norms == b.head_norms},
      {"activation", a.activation == b.activation && a.gated == b.gated},
      {"biases", a.biases == b.biases},
      {"positions", a.positions == b.positions && a.position_offset == b.position_offset && a.pairs == b.pairs},
      {"scales", near(a.embedding_scale, b.embedding_scale) && near(a.logit_cap, b.logit_cap)},
      {"tied matrices", a.tied_output == b.tied_output},
      {"rotation of the residual stream", !a.stream_rotation && !b.stream_rotation}};
  for (const auto& [field, equal] : same)
    if (!equal) return field;
  for (uint64_t n = 0; n < a.layers; ++n) {
    if (a.block(n).window != b.block(n).window) return fmt::format("window of block {}", n);
    if (!near(a.scale(n), b.scale(n))) return fmt::format("scale of attention in block {}", n);
    const RotarySpec *one = a.rotary_of(n), *two = b.rotary_of(n);
    if (!one && !two) continue;
    if (!one || !two || one->dimensions != two->dimensions || !near(one->attention_factor, two->attention_factor))
      return fmt::format("rotary positions of block {}", n);
    for (const uint64_t context : {uint64_t{1}, 2 * a.context, 64 * a.context}) {
      const std::vector<double> x = one->inverse_frequencies(context), y = two->inverse_frequencies(context);
      if (!std::equal(x.begin(), x.end(), y.begin(), y.end(), near)) return fmt::format("rotary frequencies of block {}", n);
    }
  }
  return {};
}

}  // namespace

json folder_config(const Model& model, const std::string& dtype) {
  json config;
  if (const auto own = model.tokenizer_files.find("config.json"); own != model.tokenizer_files.end()) {
    config = parse_json(own->second, "config.json");
    config.erase("quantization_config");
    config.erase("torch_dtype");
  } else {
    const ModelSpec& spec = model.spec;
    const Family& family = folder_family(model);
    const ConfigNames& names = family.names;
    config = {{"architectures", {family.architecture}},
              {"model_type", family.model_type},
              {"vocab_size", spec.vocabulary},
              {names.width, spec.width},
              {names.feed_forward, spec.feed_forward},
              {names.layers, spec.layers},
              {names.heads, spec.heads},
              {names.activation, activation_name(spec.activation)},
              {names.context, spec.context},
              {"use_cache", true}};
    if (names.kv_heads) config[names.kv_heads] = spec.kv_heads;
    if (names.epsilon) config[names.epsilon] = shortest(spec.norm_epsilon);
    if (spec.logit_cap != 0) config["final_logit_softcapping"] = shortest(spec.logit_cap);
    if (spec.positions == PositionKind::rotary) {
      config["head_dim"] = spec.head_size;
    } else if (family.position_offset != 0) {  // OPT
      config["do_layer_norm_before"] = !spec.norm_after;
      config["_remove_final_layer_norm"] = !spec.norm_after && !spec.final_norm;
      config["word_embed_proj_dim"] = spec.embedded();
    } else {  // GPT-2
      config["scale_attn_weights"] = spec.attention_scale != 1;
    }
    if (model.metadata.boolean(spec.family + ".attention.scale_by_layer", false))
      config["scale_attn_by_inverse_layer_idx"] = true;
    // transformers refuses a fraction here, and 1 / scale^2 of a float is one: 23.999998.
    if (family.sizes_attention)
      config["query_pre_attn_scalar"] = std::llround(1 / (double{spec.scale(0)} * spec.scale(0)));
    add_biases(model, family, config);
    add_rotary(model, family, config);
    add_windows(model, family, config);
    // Each is said, null where there is none: a family's default may lie outside a small vocabulary (Phi-3: 32000).
    for (const auto& [name, in_gguf] : {std::pair{"bos", "bos"}, {"eos", "eos"}, {"pad", "padding"}}) {
      const std::string key = fmt::format("tokenizer.ggml.{}_token_id", in_gguf);
      // All ones say that there is none where ggml has a default.
      const uint64_t id = model.metadata.unsigned_integer(key, std::numeric_limits<uint32_t>::max());
      config[fmt::format("{}_token_id", name)] = id == std::numeric_limits<uint32_t>::max() ? json() : json(id);
    }
  }
  config["tie_word_embeddings"] = model.spec.tied_output;
  config["dtype"] = dtype;
  config["torch_dtype"] = dtype;  // as it was called before; readers know one or the other
  return config;
}

void check_read_back(const Model& model, Model again) {
  constexpr const char* kWhat = "the output could not say what this model is";
  try {
    describe(again);
  } catch (const Error& error) {
    throw Error(ErrorKind::input, fmt::format("{}: {}", kWhat, error.message()), error.where(), error.found(),
                "another kind of output may: NAME.gguf, or a folder");
  }
  if (const std::string field = difference(model.spec, again.spec); !field.empty())
    throw Error(ErrorKind::input, kWhat, model.path.string() + ": " + field, "it would be read as another one",
                "another kind of output may: NAME.gguf, or a folder");
}

void check_read_back(const Model& model, const json& config) {
  Model again;
  again.path = model.path;
  const std::string name = "config.json of the output";
  FolderConfig read;
  try {
    read = read_config(config, name, model.spec.name);
  } catch (const Error& error) {
    throw Error(ErrorKind::input, "a folder cannot say what this model is: " + error.message(), error.where(), error.found(),
                "a name that ends in .gguf makes a GGUF");
  }
  again.metadata = std::move(read.metadata);
  for (const StoredTensor& tensor : model.tensors)
    if (!tensor.name.starts_with("rope_f")) again.tensors.push_back(tensor);
  for (const auto& [divisors, values] : read.divisors) {
    const Shape shape{1, values.size()};
    again.tensors.push_back(make_stored(divisors, std::make_shared<Packed>(pack_dense(make_format("f32"), shape, values))));
  }
  check_read_back(model, std::move(again));
}

const Family& folder_family(const Model& model) {
  if (const auto own = model.tokenizer_files.find("config.json"); own != model.tokenizer_files.end()) {
    const json config = parse_json(own->second, "config.json");
    if (const Family* family = family_of_folder(config.value("model_type", ""))) return *family;
  }
  const bool windowed = std::any_of(model.spec.blocks.begin(), model.spec.blocks.end(),
                                    [](const BlockSpec& block) { return block.window != 0; });
  for (const Family* family : families())  // of two with one name in GGUF: the one that knows windows, if there are any
    if (family->gguf == model.spec.family && (!windowed || family->windows != WindowRule::none)) return *family;
  throw Error(ErrorKind::input, "this family cannot be written as a folder", model.path.string(), model.spec.family);
}

uint64_t gguf_row_of_folder_row(const ModelSpec& spec, const std::string& gguf_name, uint64_t row) {
  const auto is = [&](std::string_view part) { return gguf_name.find(part) != std::string::npos; };
  const bool rotated = spec.positions == PositionKind::rotary && (is(".attn_q.") || is(".attn_k."));
  if (!rotated || spec.pairs != RotaryPairs::neighbours) return row;
  const uint64_t inside = row % spec.head_size, half = spec.head_size / 2;
  return row - inside + (inside < half ? 2 * inside : 2 * (inside - half) + 1);
}

std::vector<JoinedTensor> joined_tensors(const ModelSpec& spec, const Family& family, bool folder) {
  std::vector<JoinedTensor> joined;
  for (const FusedUnit& fused : family.fused)
    for (const UnitSpec& unit : units_of(spec)) {
      if (unit.block < 0 || unit.kind != fused.unit) continue;
      const std::string name = fmt::format("blk.{}.{}", unit.block, folder ? fused.unit : fused.gguf);
      joined.push_back({name + ".weight", unit.members});
      JoinedTensor bias{name + ".bias", {}};
      for (const std::string& member : unit.members) {
        const std::string linear = member.substr(0, member.rfind('.'));
        if (spec.has_bias(linear.substr(linear.rfind('.') + 1))) bias.parts.push_back(linear + ".bias");
      }
      if (bias.parts.empty()) continue;
      if (bias.parts.size() != unit.members.size())  // a vector of some of them would be read as that of another linear
        throw Error(ErrorKind::input, "an output of this family joins the biases of linears that it joins, and some have none",
                    bias.parts.front(), std::string(family.model_type), "our own formats keep them: whit compress");
      joined.push_back(std::move(bias));
    }
  return joined;
}

}  // namespace whit
