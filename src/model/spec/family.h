// What a family of models is called and how it is built, as data: one file a family in families/. The readers of
// config.json and of GGUF keys, the names of tensors and the exporters are one piece of code each over these.
#pragma once

#include <cstdint>
#include <span>
#include <string_view>
#include <utility>
#include <vector>

#include "model/spec/spec.h"

namespace whit {

// What a tensor is called in a folder and in GGUF, without ".weight" or ".bias".
struct TensorName {
  std::string_view folder, gguf;
};

// Where config.json keeps a size; a null name: there is none.
struct ConfigNames {
  const char* width = "hidden_size";
  const char* layers = "num_hidden_layers";
  const char* heads = "num_attention_heads";
  const char* kv_heads = "num_key_value_heads";
  const char* feed_forward = "intermediate_size";
  const char* context = "max_position_embeddings";
  const char* epsilon = "rms_norm_eps";
  const char* activation = "hidden_act";
};

// Which blocks have the window of config.json's sliding_window, where layer_types does not say it.
enum class WindowRule {
  none,        // the family has no windows
  all,         // all blocks
  from_layer,  // with use_sliding_window: from max_window_layers on
  unrotated,   // with use_sliding_window: those without positions
  pattern,     // all but every sliding_window_pattern-th
};

// Linears that are one tensor, one under the other, in a GGUF of the family (and, where TensorName has the unit, in a
// folder).
struct FusedUnit {
  std::string_view unit;  // "ffn_gate_up"
  std::string_view gguf;  // "ffn_up"
};

struct Family {
  std::string_view gguf;          // general.architecture
  std::string_view model_type;    // of config.json
  std::string_view architecture;  // its class
  ConfigNames names;

  // Of config.json: keys that not every family reads, keys of this family that change nothing, second names of sizes.
  std::vector<std::string_view> reads = {}, inert = {};
  std::vector<std::pair<const char*, const char*>> aliases = {};

  // Where config.json is silent.
  uint64_t kv_heads = 0;    // 0: as many as heads
  uint64_t head_size = 0;   // 0: width / heads
  uint64_t feed_forward_factor = 0;  // times the width; 0: the key must be there
  uint64_t context = 2048;
  uint64_t window = 0;      // 0: none
  double epsilon = 1e-6;
  double theta = 10000.0;
  bool tied = false;
  std::vector<std::string_view> biases = {};  // linears that have one whatever config.json says (but enable_bias)

  // How it is built.
  NormKind norm = NormKind::rms;
  bool branch_norms = false, head_norms = false;
  Activation activation = Activation::silu;  // where nothing says another one
  bool gated = true;
  PositionKind positions = PositionKind::rotary;
  uint64_t position_offset = 0;
  RotaryPairs pairs = RotaryPairs::neighbours;  // of a GGUF; folders always pair halves
  WindowRule windows = WindowRule::none;
  uint64_t unrotated_every = 0;   // every n-th block has no positions, where nothing says it; 0: all have
  bool two_rotaries = false;      // blocks with a window have a rotary base of their own, without scaling
  double window_theta = 10000.0;  // that base, where nothing says it
  bool partly_rotated = false;    // partial_rotary_factor is read
  bool longrope_only = false;     // no other rotary scaling
  uint64_t original_context = 0;  // that longrope begins from, where nothing outside of its parameters says it; 0: context
  bool scaled_embedding = false;  // by sqrt(width)
  bool sizes_attention = false;   // query_pre_attn_scalar^-1/2 scales attention

  // How a folder stores it.
  bool norms_less_one = false;  // gains minus 1 (not those of layer norms)
  bool transposed = false;      // linears of blocks are [inputs, outputs]
  std::string_view layer_prefix = "model.layers.";
  std::string_view optional_prefix = {};  // that older folders leave out of every name
  std::vector<TensorName> model_tensors, layer_tensors;
  std::vector<std::string_view> ignored = {};  // endings of buffers that nobody reads
  std::vector<FusedUnit> fused = {};
  // Keys of config.json that must be absent, null, false or 0: what the description cannot say.
  std::vector<const char*> refused = {};
};

std::span<const Family* const> families();
// By config.json's model_type; null for another one.
const Family* family_of_folder(std::string_view model_type);
// By general.architecture. Two families may share one: the first of them then.
const Family* family_of_gguf(std::string_view architecture);
// "llama, mistral, ...": for messages.
std::string family_names(bool gguf);

// Names of activations in config.json ("gelu_new") and in GGUF keys of ours.
std::string_view activation_name(Activation activation);
const Activation* find_activation(std::string_view name);
std::string activation_names();  // "silu, relu, ...": for messages

// Tensor names that most families share.
std::vector<TensorName> common_model_tensors();
std::vector<TensorName> common_layer_tensors();

// "model.layers.3.mlp.up_proj.weight" -> "blk.3.ffn_up.weight"; "" for a name that is not known.
std::string folder_to_gguf_name(const Family& family, std::string_view name);
// The other way; "" for a name that folders do not have (rope_freqs.weight).
std::string gguf_to_folder_name(const Family& family, std::string_view name);

}  // namespace whit
