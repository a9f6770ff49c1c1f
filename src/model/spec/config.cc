#include "model/spec/config.h"

#include <fmt/format.h>

#include <algorithm>
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
  // An absent key has a default; a null one says that there is none.
  bool says_null(const char* key) const {
    const auto found = object_.is_object() ? object_.find(key) : object_.end();
    return found != object_.end() && found->is_null();
  }
  const json* table(const char* key) const {
    const json* value = find(key);
    if (value && !value->is_object()) refuse("a table is wanted", key);
    return value;
  }
  std::vector<float> numbers(const char* key, size_t count) const {
    const json* value = find(key);
    if (!value || !value->is_array() || value->size() != count)
      refuse("a list of numbers is missing or has another length", key, fmt::format("{} numbers are wanted", count));
    std::vector<float> all;
    for (const json& one : *value) {
      if (!one.is_number() || !std::isfinite(one.get<double>()) || one.get<double>() <= 0)
        refuse("a number is not usable", key, "positive numbers are wanted");
      all.push_back(one.get<float>());
    }
    return all;
  }
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

  const std::string& where() const { return where_; }

 private:
  const json& object_;
  std::string where_;
};

const Family& find_family(const Keys& keys) {
  const std::string type = keys.string("model_type", "");
  const Family* family = family_of_folder(type);
  if (!family) keys.refuse("this family of models is not supported", "model_type", "read are " + family_names(false));
  if (const json* classes = keys.find("architectures"))
    if (!classes->is_array() || classes->empty() || (*classes)[0] != family->architecture)
      keys.refuse("this kind of model is not supported", "architectures", std::string(family->architecture) + " is");
  for (const char* key : family->refused) {
    const json* value = keys.find(key);
    if (value && *value != json(false) && *value != json(0)) keys.refuse("this kind of model is not supported", key);
  }
  return *family;
}

void read_activation(const Keys& keys, const Family& family, KeyValues& out) {
  const char* key = family.names.activation;
  const std::string name = keys.string(key, std::string(activation_name(family.activation)).c_str());
  const Activation* found = find_activation(name);
  if (!found) keys.refuse("this activation is not supported", key, activation_names() + " are");
  if (*found != family.activation)
    out.set(fmt::format("{}.activation", family.gguf), std::string(activation_name(*found)));
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

// Which blocks have a window: layer_types, or the family's rule. Empty: none has.
std::vector<bool> read_windows(const Keys& keys, const Family& family, uint64_t layers, uint64_t& window) {
  std::vector<bool> windowed;
  if (family.windows == WindowRule::none || keys.says_null("sliding_window")) return windowed;
  const bool asked = family.windows == WindowRule::from_layer || family.windows == WindowRule::listed;
  if (asked && !keys.boolean("use_sliding_window", false)) return windowed;
  window = keys.size("sliding_window", family.window);
  if (window == 0) return windowed;
  const json* types = keys.find("layer_types");
  if (types && (!types->is_array() || types->size() != layers))
    keys.refuse("a kind for every layer is wanted", "layer_types");
  const uint64_t period = keys.size("sliding_window_pattern", 6), first = keys.find("max_window_layers") ? [&] {
    const json* value = keys.find("max_window_layers");
    return value->is_number_integer() && value->get<int64_t>() == 0 ? uint64_t{0} : keys.size("max_window_layers");
  }() : 28;
  for (uint64_t n = 0; n < layers; ++n) {
    bool has = family.windows == WindowRule::all;
    if (types) {
      const json& type = (*types)[n];
      if (type != "full_attention" && type != "sliding_attention")
        keys.refuse("this kind of layer is not supported", "layer_types", "full_attention and sliding_attention are");
      has = type == "sliding_attention";
    } else if (family.windows == WindowRule::listed) {
      keys.refuse("the kinds of layers are missing", "layer_types");
    } else if (family.windows == WindowRule::from_layer) {
      has = n >= first;
    } else if (family.windows == WindowRule::pattern) {
      has = (n + 1) % period != 0;
    }
    windowed.push_back(has);
  }
  if (std::none_of(windowed.begin(), windowed.end(), [](bool has) { return has; })) windowed.clear();
  return windowed;
}

// One set of rotary parameters; `top` has what older files say outside of it.
void read_scaling(const Keys& rope, const Keys& top, const std::string& prefix, double theta, uint64_t dimensions,
                  uint64_t context, FolderConfig& config) {
  const char* kind_key = rope.find("rope_type") ? "rope_type" : "type";
  std::string kind = rope.string(kind_key, "default");
  if (config.family->model_type == "phi3" && (kind == "su" || kind == "yarn")) kind = "longrope";  // as it was called
  KeyValues& out = config.metadata;
  const auto set = [&](const char* key, double value) { out.set(prefix + key, static_cast<float>(value)); };
  const auto original = [&] {
    return rope.find("original_max_position_embeddings") ? rope.size("original_max_position_embeddings")
                                                         : top.size("original_max_position_embeddings", context);
  };
  if (kind == "linear") {
    out.set(prefix + "rope.scaling.type", std::string("linear"));
    set("rope.scaling.factor", rope.number("factor"));
  } else if (kind == "llama3") {
    config.divisors["rope_freqs.weight"] = llama3_divisors(rope, theta, dimensions);
  } else if (kind == "yarn") {
    const double factor = rope.number("factor", static_cast<double>(context) / static_cast<double>(original()));
    out.set(prefix + "rope.scaling.type", std::string("yarn"));
    set("rope.scaling.factor", factor);
    out.set(prefix + "rope.scaling.original_context_length", static_cast<uint32_t>(original()));
    if (rope.find("beta_fast")) set("rope.scaling.yarn_beta_fast", rope.number("beta_fast"));
    if (rope.find("beta_slow")) set("rope.scaling.yarn_beta_slow", rope.number("beta_slow"));
    // What cos and sin are multiplied by, over what they are where nothing is said.
    const double usual = yarn_attention_factor(factor);
    double wanted = usual;
    if (rope.find("mscale") && rope.find("mscale_all_dim"))
      wanted = yarn_attention_factor(factor, rope.number("mscale")) /
               yarn_attention_factor(factor, rope.number("mscale_all_dim"));
    wanted = rope.number("attention_factor", wanted);
    if (!rope.boolean("truncate", true)) out.set(prefix + "rope.scaling.yarn_truncate", false);
    if (wanted != usual) set("rope.scaling.attn_factor", wanted / usual);
  } else if (kind == "longrope") {
    for (const char* key : {"short_mscale", "long_mscale"})
      if (rope.find(key)) rope.refuse("this parameter of rotary scaling is not supported", key);
    config.divisors["rope_factors_short.weight"] = rope.numbers("short_factor", dimensions / 2);
    config.divisors["rope_factors_long.weight"] = rope.numbers("long_factor", dimensions / 2);
    const auto length = static_cast<double>(original());
    const double factor = rope.number("factor", static_cast<double>(context) / length);
    const double usual = factor <= 1 ? 1.0 : std::sqrt(1 + std::log(factor) / std::log(length));
    out.set(prefix + "rope.scaling.original_context_length", static_cast<uint32_t>(original()));
    set("rope.scaling.attn_factor", rope.number("attention_factor", usual));
  } else if (kind == "dynamic") {
    if (rope.number("factor") != 1) set("rope.scaling.dynamic_factor", rope.number("factor"));
  } else if (kind != "default") {
    rope.refuse("this kind of rotary scaling is not supported", kind_key,
                "default, linear, dynamic, llama3, yarn and longrope are");
  }
}

void read_rotary(const Keys& keys, const std::string& where, uint64_t context, FolderConfig& config) {
  const Family& family = *config.family;
  const std::string prefix = fmt::format("{}.", family.gguf);
  const char* spelling = keys.find("rope_parameters") ? "rope_parameters" : "rope_scaling";
  static const json kNone = json::object();
  const json* object = keys.table(spelling);
  Keys rope(object ? *object : kNone, fmt::format("{}: {}", where, spelling));
  double window_theta = keys.number("rope_local_base_freq", family.window_theta);
  std::string inner = rope.where();
  if (family.two_rotaries && object && rope.table("full_attention")) {
    if (const json* windowed = rope.table("sliding_attention")) {
      const Keys local(*windowed, rope.where() + ".sliding_attention");
      if (local.string("rope_type", "default") != "default")
        local.refuse("the rotary positions of blocks with a window are not scaled here", "rope_type");
      window_theta = local.number("rope_theta", window_theta);
    }
    inner += ".full_attention";
    object = rope.table("full_attention");
  }
  const Keys full(object ? *object : kNone, inner);

  const double theta = full.number("rope_theta", keys.number("rope_theta", family.theta));
  const Keys& part_of = full.find("partial_rotary_factor") ? full : keys;
  const double part = part_of.number("partial_rotary_factor", 1.0);
  const auto dimensions = static_cast<uint64_t>(static_cast<double>(config.head_size) * part);
  if (part > 1 || dimensions == 0 || dimensions % 2 != 0)
    (part == 1 ? keys : part_of)
        .refuse("so many elements of a head cannot be rotated", part == 1 ? "head_dim" : "partial_rotary_factor");
  if (dimensions != config.head_size && family.pairs == RotaryPairs::neighbours)
    part_of.refuse("only heads that are rotated as a whole are supported in this family", "partial_rotary_factor");
  config.metadata.set(prefix + "rope.dimension_count", static_cast<uint32_t>(dimensions));
  config.metadata.set(prefix + "rope.freq_base", static_cast<float>(theta));
  if (family.two_rotaries) config.metadata.set(prefix + "rope.freq_base_swa", static_cast<float>(window_theta));
  read_scaling(full, keys, prefix, theta, dimensions, context, config);
}

// Blocks without positions: 1 in no_rope_layers says that a block has them.
void read_unrotated(const Keys& keys, const Family& family, uint64_t layers, KeyValues& out) {
  if (family.unrotated_every == 0) return;
  const uint64_t period = keys.size("no_rope_layer_interval", family.unrotated_every);
  const json* list = keys.find("no_rope_layers");
  if (list && (!list->is_array() || list->size() != layers))
    keys.refuse("a number for every layer is wanted", "no_rope_layers");
  std::vector<bool> rotated, usual;
  for (uint64_t n = 0; n < layers; ++n) {
    usual.push_back((n + 1) % family.unrotated_every != 0);
    rotated.push_back(list ? (*list)[n] != json(0) : (n + 1) % period != 0);
  }
  if (rotated != usual) out.set(fmt::format("{}.rope.layers", family.gguf), rotated);
}

}  // namespace

double yarn_attention_factor(double factor, double scale) {
  return factor <= 1 ? 1.0 : 0.1 * scale * std::log(factor) + 1.0;
}

std::vector<float> llama3_divisors(const json& scaling, double theta, uint64_t dimensions) {
  return llama3_divisors(Keys(scaling, "rope_scaling"), theta, dimensions);
}

FolderConfig read_config(const json& object, const std::string& where, const std::string& name) {
  if (!object.is_object()) throw Error(ErrorKind::input, "the configuration is no JSON object", where);
  const Keys keys(object, where);
  FolderConfig config;
  config.family = &find_family(keys);
  const Family& family = *config.family;
  const ConfigNames& names = family.names;
  const uint64_t width = keys.size(names.width), heads = keys.size(names.heads), layers = keys.size(names.layers);
  const uint64_t usual_head = family.head_size != 0 ? family.head_size : width / heads;
  if (!keys.find("head_dim") && family.head_size == 0 && width % heads != 0)
    keys.refuse("the width is no multiple of the number of heads", names.heads);
  if (const uint64_t embedded = keys.size("word_embed_proj_dim", width); embedded != width)
    config.metadata.set(fmt::format("{}.embedding_length_input", family.gguf), static_cast<uint32_t>(embedded));
  if (!keys.boolean("scale_attn_weights", true))
    config.metadata.set(fmt::format("{}.attention.scale", family.gguf), 1.0f);

  config.head_size = keys.size("head_dim", usual_head);
  KeyValues& out = config.metadata;
  const std::string prefix = fmt::format("{}.", family.gguf);
  const auto set = [&](const char* key, uint64_t value) { out.set(prefix + key, static_cast<uint32_t>(value)); };
  const uint64_t context = keys.size(names.context, family.context);
  out.set("general.architecture", std::string(family.gguf));
  out.set("general.type", std::string("model"));
  out.set("general.name", name);
  set("block_count", layers);
  set("context_length", context);
  set("embedding_length", width);
  set("feed_forward_length", family.feed_forward_factor != 0 && !keys.find(names.feed_forward)
                                 ? family.feed_forward_factor * width
                                 : keys.size(names.feed_forward));
  set("attention.head_count", heads);
  const uint64_t usual_kv = keys.says_null("num_key_value_heads") || family.kv_heads == 0 ? heads : family.kv_heads;
  if (names.kv_heads) set("attention.head_count_kv", keys.size(names.kv_heads, usual_kv));
  out.set(prefix + (family.norm == NormKind::layer ? "attention.layer_norm_epsilon" : "attention.layer_norm_rms_epsilon"),
          static_cast<float>(names.epsilon ? keys.number(names.epsilon, family.epsilon) : family.epsilon));
  if (config.head_size * heads != width) {
    set("attention.key_length", config.head_size);
    set("attention.value_length", config.head_size);
  }
  read_activation(keys, family, out);
  if (keys.boolean("scale_attn_by_inverse_layer_idx", false)) out.set(prefix + "attention.scale_by_layer", true);
  if (!keys.boolean("do_layer_norm_before", true)) out.set(prefix + "norm_after", true);
  if (keys.boolean("_remove_final_layer_norm", false)) out.set(prefix + "final_norm_removed", true);
  if (!keys.boolean("layer_norm_elementwise_affine", true)) out.set(prefix + "norms_without_gain", true);
  if (keys.find("final_logit_softcapping"))
    out.set(prefix + "final_logit_softcapping", static_cast<float>(keys.number("final_logit_softcapping")));
  if (family.sizes_attention)
    out.set(prefix + "attention.scale", static_cast<float>(1 / std::sqrt(keys.number("query_pre_attn_scalar", 256.0))));
  uint64_t window = 0;
  const std::vector<bool> windowed = read_windows(keys, family, layers, window);
  if (!windowed.empty()) {
    set("attention.sliding_window", window);
    if (std::find(windowed.begin(), windowed.end(), false) != windowed.end())
      out.set(prefix + "attention.sliding_window_pattern", windowed);
  }
  if (family.positions == PositionKind::rotary) {
    read_rotary(keys, where, context, config);
    read_unrotated(keys, family, layers, out);
  }
  return config;
}

}  // namespace whit
