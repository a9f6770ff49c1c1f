// Qwen 3, dense: norms of query and key heads instead of biases, heads of a size of their own.
#include "model/spec/family.h"

namespace whit {

extern const Family kQwen3;
const Family kQwen3 = {
    .gguf = "qwen3",
    .model_type = "qwen3",
    .architecture = "Qwen3ForCausalLM",
    .names = {},
    .reads = {"attention_bias", "head_dim"},
    .kv_heads = 32,
    .head_size = 128,
    .context = 32768,
    .window = 4096,
    .head_norms = true,
    .pairs = RotaryPairs::halves,
    .windows = WindowRule::from_layer,
    .model_tensors = common_model_tensors(),
    .layer_tensors =
        [] {
          std::vector<TensorName> names = common_layer_tensors();
          names.push_back({"self_attn.q_norm", "attn_q_norm"});
          names.push_back({"self_attn.k_norm", "attn_k_norm"});
          return names;
        }(),
};

}  // namespace whit
