#include "model/spec/config.h"

#include <fmt/format.h>

#include <cmath>
#include <numbers>

#include "base/error.h"

namespace whit {
namespace {

using nlohmann::json;

constexpr int64_t kLargestSize = int64_t{1} << 31;

// Reads keys of one JSON object; a null is an absent key.
class Keys {
 public:
  Keys(const json& object, std::string where) : object_(object), where_(std::move(where)) {}

  const json* find(const char* key) const {
    const auto found = object_.is_object() ? object_.find(key) : object_.end();
    return found == object_.end() || found->is_null() ? nullptr : &*found;
  }
  [[noreturn]] void refuse(const std::string& what, const char* key, const std::string& hint = {}) const {
    const json* value = find(key);
    throw Error(ErrorKind::input, what, fmt::format("{}: {}", where_, key),
                value ? value->dump(-1, ' ', false, json::error_handler_t::replace).substr(0, 200) : "nothing", hint);
  }
  uint64_t size(const char* key) const {
    const json* value = find(key);
    // 2^63 and above are negative as int64_t.
    if (!value || !value->is_number_integer() || value->get<int64_t>() < 1 || value->get<int64_t>() > kLargestSize)
      refuse("a size is missing or not usable", key, fmt::format("an integer from 1 to {} is wanted", kLargestSize));
    return static_cast<uint64_t>(value->get<int64_t>());
  }
  uint64_t size(const char* key, uint64_t fallback) const { return find(key) ? size(key) : fallback; }
  double number(const char* key) const {
    const json* value = find(key);
    if (!value || !value->is_number() || !std::isfinite(value->get<double>()) || value->get<double>() <= 0)
      refuse("a number is missing or not usable", key, "a positive number is wanted");
    return value->get<double>();
  }
  double number(const char* key, double fallback) const { return find(key) ? number(key) : fallback; }
  bool boolean(const char* key, bool fallback) const {
    const json* value = find(key);
    if (!value) return fallback;
    if (!value->is_boolean()) refuse("true or false is wanted", key);
    return value->get<bool>();
  }
  std::string string(const char* key, const char* fallback) const {
    const json* value = find(key);
    if (!value) return fallback;
    if (!value->is_string()) refuse("a string is wanted", key);
    return value->get<std::string>();
  }

 private:
  const json& object_;
  std::string where_;
};

void check_family(const Keys& keys) {
  if (keys.string("model_type", "") != "llama")
    keys.refuse("this family of models is not supported", "model_type", "llama is");
  if (const json* classes = keys.find("architectures"))
    if (!classes->is_array() || classes->empty() || (*classes)[0] != "LlamaForCausalLM")
      keys.refuse("this kind of model is not supported", "architectures", "LlamaForCausalLM is");
  if (keys.string("hidden_act", "silu") != "silu")
    keys.refuse("this activation is not supported", "hidden_act", "silu is");
  for (const char* bias : {"attention_bias", "mlp_bias"})
    if (keys.boolean(bias, false)) keys.refuse("biases are not supported", bias);
  for (const char* key : {"sliding_window", "layer_types"})
    if (keys.find(key)) keys.refuse("this kind of model is not supported", key);
}

// 1 for short wavelengths, `factor` for long ones, a blend between.
std::vector<float> llama3_divisors(const Keys& rope, double theta, uint64_t head_size) {
  const double factor = rope.number("factor"), low = rope.number("low_freq_factor"),
               high = rope.number("high_freq_factor");
  const double original = rope.number("original_max_position_embeddings");
  if (high <= low) rope.refuse("high_freq_factor must be above low_freq_factor", "high_freq_factor");
  std::vector<float> divisors(head_size / 2);
  for (size_t i = 0; i < divisors.size(); ++i) {
    const double wavelength =
        2 * std::numbers::pi * std::pow(theta, 2.0 * static_cast<double>(i) / static_cast<double>(head_size));
    const double blend = (original / wavelength - low) / (high - low);
    double divisor = 1 / ((1 - blend) / factor + blend);
    if (wavelength < original / high) divisor = 1;
    if (wavelength > original / low) divisor = factor;
    divisors[i] = static_cast<float>(divisor);
  }
  return divisors;
}

void read_rotary(const Keys& keys, const std::string& where, FolderConfig& config) {
  const char* spelling = keys.find("rope_parameters") ? "rope_parameters" : "rope_scaling";
  static const json kNone = json::object();
  const json* object = keys.find(spelling);
  if (object && !object->is_object()) keys.refuse("a table of rotary parameters is wanted", spelling);
  const Keys rope(object ? *object : kNone, fmt::format("{}: {}", where, spelling));

  const double theta = rope.number("rope_theta", keys.number("rope_theta", 10000.0));
  for (const Keys& place : {rope, keys})
    if (place.number("partial_rotary_factor", 1.0) != 1.0)
      place.refuse("only heads that are rotated as a whole are supported", "partial_rotary_factor");
  if (config.head_size % 2 != 0) keys.refuse("heads of an odd size cannot be rotated", "head_dim");
  config.metadata.set("llama.rope.dimension_count", static_cast<uint32_t>(config.head_size));
  config.metadata.set("llama.rope.freq_base", static_cast<float>(theta));

  const char* kind_key = rope.find("rope_type") ? "rope_type" : "type";
  const std::string kind = rope.string(kind_key, "default");
  if (kind == "linear") {
    config.metadata.set("llama.rope.scaling.type", std::string("linear"));
    config.metadata.set("llama.rope.scaling.factor", static_cast<float>(rope.number("factor")));
  } else if (kind == "llama3") {
    config.rope_freqs = llama3_divisors(rope, theta, config.head_size);
  } else if (kind != "default") {
    rope.refuse("this kind of rotary scaling is not supported", kind_key, "default, linear and llama3 are");
  }
}

}  // namespace

std::vector<float> llama3_divisors(const json& scaling, double theta, uint64_t dimensions) {
  return llama3_divisors(Keys(scaling, "rope_scaling"), theta, dimensions);
}

FolderConfig read_config(const json& object, const std::string& where, const std::string& name) {
  if (!object.is_object()) throw Error(ErrorKind::input, "the configuration is no JSON object", where);
  const Keys keys(object, where);
  check_family(keys);
  const uint64_t width = keys.size("hidden_size"), heads = keys.size("num_attention_heads");
  if (!keys.find("head_dim") && width % heads != 0)
    keys.refuse("the width is no multiple of the number of heads", "num_attention_heads");

  FolderConfig config;
  config.head_size = keys.size("head_dim", width / heads);
  KeyValues& out = config.metadata;
  const auto set = [&](const char* key, uint64_t value) { out.set(key, static_cast<uint32_t>(value)); };
  out.set("general.architecture", std::string("llama"));
  out.set("general.type", std::string("model"));
  out.set("general.name", name);
  set("llama.block_count", keys.size("num_hidden_layers"));
  set("llama.context_length", keys.size("max_position_embeddings", 2048));
  set("llama.embedding_length", width);
  set("llama.feed_forward_length", keys.size("intermediate_size"));
  set("llama.attention.head_count", heads);
  set("llama.attention.head_count_kv", keys.size("num_key_value_heads", heads));
  out.set("llama.attention.layer_norm_rms_epsilon", static_cast<float>(keys.number("rms_norm_eps", 1e-6)));
  if (config.head_size * heads != width) {
    set("llama.attention.key_length", config.head_size);
    set("llama.attention.value_length", config.head_size);
  }
  read_rotary(keys, where, config);
  return config;
}

}  // namespace whit
