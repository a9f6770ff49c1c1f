// Rotary positions of config.json. Their parameters may stand in rope_parameters (transformers 5), in rope_scaling and
// beside it (4), or in several of these at once: what is read then is what transformers 5 reads, and a note says so.
#include <fmt/ranges.h>

#include <algorithm>
#include <numbers>

#include "model/spec/config_keys.h"

namespace whit {
namespace {

using nlohmann::json;

// 1 for short wavelengths, `factor` for long ones, a blend between.
std::vector<float> llama3_divisors(const ConfigKeys& rope, double theta, uint64_t head_size, double original) {
  const double factor = rope.number("factor"), low = rope.number("low_freq_factor"),
               high = rope.number("high_freq_factor");
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

const char* kind_key(const ConfigKeys& rope) { return rope.find("rope_type") ? "rope_type" : "type"; }

// One set of parameters, put together, and where its keys stand.
struct Rope {
  json table = json::object();
  std::string where;
};

class RotaryReader {
 public:
  RotaryReader(const ConfigKeys& keys, uint64_t context, FolderConfig& config)
      : keys_(keys), family_(*config.family), context_(context), config_(config) {}

  void read() {
    Rope full, windowed;
    if (family_.two_rotaries)
      by_layer_type(full, windowed);
    else
      for_all_layers(full);
    const ConfigKeys rope(full.table, full.where);
    const double theta = theta_of(rope, "rope_theta", family_.theta);
    const std::string kind = kind_of(rope);
    const uint64_t dimensions = rotated(rope, kind);
    set("rope.dimension_count", static_cast<uint32_t>(dimensions));
    set("rope.freq_base", static_cast<float>(theta));
    if (family_.two_rotaries) {
      const ConfigKeys local(windowed.table, windowed.where);
      if (const char* key = kind_key(local); local.string(key, "default") != "default")
        local.refuse("the rotary positions of blocks with a window are not scaled here", key);
      set("rope.freq_base_swa", static_cast<float>(theta_of(local, "rope_local_base_freq", family_.window_theta)));
      note_unread(local, "default");
    }
    read_scaling(rope, kind, theta, dimensions);
    note_unread(rope, kind);
  }

 private:
  template <class Value>
  void set(const char* key, Value value) {
    config_.metadata.set(fmt::format("{}.{}", family_.gguf, key), value);
  }
  void note(std::string text) { config_.notes.push_back("config.json: " + std::move(text)); }
  std::string place(const char* key) const { return fmt::format("{}: {}", keys_.where(), key); }

  // rope_scaling, where it says anything, stands for the whole of rope_parameters.
  void for_all_layers(Rope& rope) {
    const json *scaling = keys_.table("rope_scaling"), *parameters = keys_.table("rope_parameters");
    const bool has_scaling = scaling && !scaling->empty(), has_parameters = parameters && !parameters->empty();
    if (has_scaling && has_parameters && *scaling != *parameters)
      note(
          "rope_scaling and rope_parameters are both there: rope_scaling is read and rope_parameters is not, as "
          "transformers does it");
    rope.where = place(has_scaling ? "rope_scaling" : "rope_parameters");
    if (has_scaling || has_parameters) rope.table = has_scaling ? *scaling : *parameters;
    for (const char* type : {"full_attention", "sliding_attention"})
      if (rope.table.contains(type))
        ConfigKeys(rope.table, rope.where)
            .refuse("this family has one set of rotary parameters for all layers", type,
                    "its keys (rope_type, rope_theta, ...) stand in the table itself");
  }

  // A table for each kind of layer; rope_scaling adds to that of layers without a window.
  void by_layer_type(Rope& full, Rope& windowed) {
    const json *scaling = keys_.table("rope_scaling"), *parameters = keys_.table("rope_parameters");
    full.where = place("rope_parameters") + ".full_attention";
    windowed.where = place("rope_parameters") + ".sliding_attention";
    if (parameters) {
      const ConfigKeys types(*parameters, place("rope_parameters"));
      const json *one = types.table("full_attention"), *other = types.table("sliding_attention");
      for (const std::string& key : types.unread())
        types.refuse("rotary parameters of this family stand in a table for each kind of layer", key.c_str(),
                     "full_attention and sliding_attention");
      if (one) full.table = *one;
      if (other) windowed.table = *other;
    }
    if (!scaling || scaling->empty()) return;
    if (parameters)
      note(
          "rope_scaling and rope_parameters are both there: keys of rope_scaling stand before those of full_attention, "
          "as transformers does it");
    if (scaling->contains("type") && !scaling->contains("rope_type"))
      ConfigKeys(*scaling, place("rope_scaling"))
          .refuse("transformers does not read this key in this family", "type", "it is called rope_type");
    full.table.update(*scaling);
    full.where = place("rope_scaling");
  }

  double theta_of(const ConfigKeys& rope, const char* outside, double usual) {
    const double told = keys_.number(outside, usual);
    if (!rope.find("rope_theta")) return told;
    const double theta = rope.number("rope_theta");
    if (keys_.find(outside) && theta != told)
      note(fmt::format("{} is {} and the rope_theta of {} is {}: the latter is read, as transformers does it", outside,
                       told, rope.where().substr(keys_.where().size() + 2), theta));
    return theta;
  }

  std::string kind_of(const ConfigKeys& rope) {
    std::string kind = rope.string(kind_key(rope), "default");
    if (rope.find("rope_type") && rope.find("type") && *rope.find("type") != json(kind))
      note(fmt::format("rope_type is {} and type is {}: rope_type is read, as transformers does it", kind,
                       rope.string("type", "")));
    if (!family_.longrope_only) return kind;
    if (kind == "su" || kind == "yarn") kind = "longrope";  // as it was called
    if (kind != "default" && kind != "longrope")
      rope.refuse("this family has no such rotary scaling", kind_key(rope), "default and longrope");
    return kind;
  }

  // Elements of a head that are rotated.
  uint64_t rotated(const ConfigKeys& rope, const std::string& kind) {
    const uint64_t head = config_.head_size;
    const bool inside = rope.find("partial_rotary_factor") != nullptr;
    const ConfigKeys& from = inside ? rope : keys_;
    const double part = from.number("partial_rotary_factor", 1.0);
    if (part != 1 && !family_.partly_rotated) {
      // The class of the family rotates whole heads; only its scalings read the key, and then sizes do not fit.
      if (kind != "default") from.refuse("heads of this family are rotated as a whole", "partial_rotary_factor");
      note(fmt::format("partial_rotary_factor {} is not read: heads of {} are rotated as a whole, in transformers too",
                       part, family_.model_type));
    }
    if (part == 1 || !family_.partly_rotated) {
      if (head % 2 != 0) keys_.refuse("so many elements of a head cannot be rotated", "head_dim");
      return head;
    }
    if (inside && keys_.find("partial_rotary_factor") && keys_.number("partial_rotary_factor") != part)
      note(fmt::format(
          "partial_rotary_factor is {} outside of the rotary parameters and {} inside: the latter is read, as "
          "transformers does it",
          keys_.number("partial_rotary_factor"), part));
    const auto dimensions = static_cast<uint64_t>(static_cast<double>(head) * part);
    if (part > 1 || dimensions == 0 || dimensions % 2 != 0)
      from.refuse("so many elements of a head cannot be rotated", "partial_rotary_factor");
    return dimensions;
  }

  // The length that a scaling begins from. Outside of the parameters it stands before the one inside, but not where
  // each kind of layer has parameters of its own.
  uint64_t original(const ConfigKeys& rope) {
    constexpr const char* key = "original_max_position_embeddings";
    const uint64_t usual = family_.original_context != 0 ? family_.original_context : context_;
    const bool outside = !family_.two_rotaries && (keys_.find(key) || family_.original_context != 0);
    const uint64_t inside = rope.size(key, usual);
    const uint64_t used = outside ? keys_.size(key, usual) : inside;
    if (outside && rope.find(key) && used != inside)
      note(fmt::format(
          "{} is {} inside of the rotary parameters and {} outside: the latter is read, as transformers does it", key,
          inside, used));
    return used;
  }

  void read_scaling(const ConfigKeys& rope, const std::string& kind, double theta, uint64_t dimensions) {
    keys_.find("original_max_position_embeddings");  // whatever the kind, it is of this
    const auto set_number = [&](const char* key, double value) { set(key, static_cast<float>(value)); };
    if (kind == "linear") {
      set("rope.scaling.type", std::string("linear"));
      set_number("rope.scaling.factor", rope.number("factor"));
    } else if (kind == "llama3") {
      config_.divisors["rope_freqs.weight"] =
          llama3_divisors(rope, theta, dimensions, static_cast<double>(original(rope)));
    } else if (kind == "yarn") {
      const uint64_t length = original(rope);
      const double factor = rope.number("factor", static_cast<double>(context_) / static_cast<double>(length));
      set("rope.scaling.type", std::string("yarn"));
      set_number("rope.scaling.factor", factor);
      set("rope.scaling.original_context_length", static_cast<uint32_t>(length));
      if (rope.find("beta_fast")) set_number("rope.scaling.yarn_beta_fast", rope.number("beta_fast"));
      if (rope.find("beta_slow")) set_number("rope.scaling.yarn_beta_slow", rope.number("beta_slow"));
      // What cos and sin are multiplied by, over what they are where nothing is said.
      const double usual = yarn_attention_factor(factor);
      double wanted = usual;
      if (rope.find("mscale") && rope.find("mscale_all_dim"))
        wanted = yarn_attention_factor(factor, rope.number("mscale")) /
                 yarn_attention_factor(factor, rope.number("mscale_all_dim"));
      wanted = rope.number("attention_factor", wanted);
      if (!rope.boolean("truncate", true)) {
        if (family_.two_rotaries) rope.refuse("transformers does not read this key in this family", "truncate");
        set("rope.scaling.yarn_truncate", false);
      }
      if (wanted != usual) set_number("rope.scaling.attn_factor", wanted / usual);
    } else if (kind == "longrope") {
      for (const char* key : {"short_mscale", "long_mscale"})
        if (rope.find(key)) rope.refuse("this parameter of rotary scaling is not supported", key);
      config_.divisors["rope_factors_short.weight"] = rope.numbers("short_factor", dimensions / 2);
      config_.divisors["rope_factors_long.weight"] = rope.numbers("long_factor", dimensions / 2);
      const uint64_t length = original(rope);
      const double factor = rope.number("factor", static_cast<double>(context_) / static_cast<double>(length));
      const double usual = factor <= 1 ? 1.0 : std::sqrt(1 + std::log(factor) / std::log(static_cast<double>(length)));
      set("rope.scaling.original_context_length", static_cast<uint32_t>(length));
      set_number("rope.scaling.attn_factor", rope.number("attention_factor", usual));
    } else if (kind == "dynamic") {
      if (rope.number("factor") != 1) set_number("rope.scaling.dynamic_factor", rope.number("factor"));
    } else if (kind != "default") {
      rope.refuse("this kind of rotary scaling is not supported", kind_key(rope),
                  "default, linear, dynamic, llama3, yarn and longrope are");
    }
  }

  void note_unread(const ConfigKeys& rope, const std::string& kind) {
    for (const char* key : {"type", "finetuned", "original_max_position_embeddings", "partial_rotary_factor"})
      rope.find(key);
    if (const std::vector<std::string> keys = rope.unread(); !keys.empty())
      note(fmt::format("{} of the rotary parameters ({}) {} not read, by transformers neither", fmt::join(keys, ", "),
                       kind, keys.size() == 1 ? "is" : "are"));
  }

  const ConfigKeys& keys_;
  const Family& family_;
  uint64_t context_;
  FolderConfig& config_;
};

}  // namespace

double yarn_attention_factor(double factor, double scale) {
  return factor <= 1 ? 1.0 : 0.1 * scale * std::log(factor) + 1.0;
}

std::vector<float> llama3_divisors(const json& scaling, double theta, uint64_t dimensions) {
  const ConfigKeys rope(scaling, "rope_scaling");
  return llama3_divisors(rope, theta, dimensions, rope.number("original_max_position_embeddings"));
}

void read_rotary(const ConfigKeys& keys, uint64_t context, FolderConfig& config) {
  RotaryReader(keys, context, config).read();
}

}  // namespace whit
