#include "model/spec/export.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <optional>

#include "base/error.h"
#include "base/json.h"
#include "model/spec/config.h"

namespace whit {
namespace {

using nlohmann::json;

// What config.json calls a family.
struct FamilyRow {
  const char* family;        // of GGUF
  const char* model_type;    // of config.json
  const char* architecture;  // its class
};
constexpr FamilyRow kFamilies[] = {{"llama", "llama", "LlamaForCausalLM"}};

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
  const std::string prefix = spec.family + ".rope.scaling.";
  if (spec.rotary.attention_factor != 1)
    throw Error(ErrorKind::input, "the factor of rotary attention has no key in config.json",
                model.path.string() + ": " + prefix + "attn_factor", fmt::format("{}", spec.rotary.attention_factor));
  const std::vector<float>& divisors = spec.rotary.frequency_divisors;
  if (divisors.empty()) return nullptr;
  if (std::all_of(divisors.begin(), divisors.end(), [&](float d) { return d == divisors[0]; }))
    return divisors[0] == 1 ? json() : json{{"rope_type", "linear"}, {"factor", shortest(divisors[0])}};
  if (const auto scaling = llama3_scaling(spec.rotary)) return *scaling;
  throw Error(ErrorKind::input, "the divisors of the rotary frequencies are not those of a known scaling",
              model.path.string() + ": tensor rope_freqs.weight", {}, "config.json can say linear and llama3");
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
    const auto* row = std::find_if(std::begin(kFamilies), std::end(kFamilies),
                                   [&](const FamilyRow& family) { return spec.family == family.family; });
    if (row == std::end(kFamilies))
      throw Error(ErrorKind::input, "this family cannot be written as a folder", model.path.string(), spec.family);
    config = {{"architectures", {row->architecture}},
              {"model_type", row->model_type},
              {"vocab_size", spec.vocabulary},
              {"hidden_size", spec.width},
              {"intermediate_size", spec.feed_forward},
              {"num_hidden_layers", spec.layers},
              {"num_attention_heads", spec.heads},
              {"num_key_value_heads", spec.kv_heads},
              {"head_dim", spec.head_size},
              {"hidden_act", "silu"},
              {"max_position_embeddings", spec.context},
              {"rms_norm_eps", shortest(spec.norm_epsilon)},
              {"rope_theta", shortest(spec.rotary.theta)},
              {"rope_scaling", rope_scaling(model)},
              {"attention_bias", false},
              {"mlp_bias", false},
              {"tie_word_embeddings", spec.tied_output},
              {"use_cache", true}};
    for (const char* name : {"bos", "eos"}) {
      const std::string key = fmt::format("tokenizer.ggml.{}_token_id", name);
      config[fmt::format("{}_token_id", name)] =
          model.metadata.has(key) ? json(model.metadata.unsigned_integer(key)) : json();
    }
  }
  config["dtype"] = dtype;
  config["torch_dtype"] = dtype;  // as it was called before; readers know one or the other
  return config;
}

uint64_t gguf_row_of_folder_row(const ModelSpec& spec, const std::string& gguf_name, uint64_t row) {
  const bool rotated = gguf_name.ends_with(".attn_q.weight") || gguf_name.ends_with(".attn_k.weight");
  if (!rotated || spec.rotary.pairs != RotaryPairs::neighbours) return row;
  const uint64_t inside = row % spec.head_size, half = spec.head_size / 2;
  return row - inside + (inside < half ? 2 * inside : 2 * (inside - half) + 1);
}

}  // namespace whit
