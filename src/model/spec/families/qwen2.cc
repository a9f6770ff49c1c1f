// Qwen 1.5, 2 and 2.5: biases of query, key and value; a window in the later blocks where the configuration turns it
// on.
#include "model/spec/family.h"

namespace whit {

extern const Family kQwen2;
const Family kQwen2 = {
    .gguf = "qwen2",
    .model_type = "qwen2",
    .architecture = "Qwen2ForCausalLM",
    .names = {},
    .reads = {"head_dim"},
    .kv_heads = 32,
    .context = 32768,
    .window = 4096,
    .biases = {"attn_q", "attn_k", "attn_v"},
    .pairs = RotaryPairs::halves,
    .windows = WindowRule::from_layer,
    .model_tensors = common_model_tensors(),
    .layer_tensors = common_layer_tensors(),
};

}  // namespace whit
