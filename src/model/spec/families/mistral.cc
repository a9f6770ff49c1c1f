// Mistral: Llama with a window in every block, as version 0.1 had it (later ones say null). llama.cpp has no name of
// its own for it and knows no window there.
#include "model/spec/family.h"

namespace whit {

extern const Family kMistral;
const Family kMistral = {
    .gguf = "llama",
    .model_type = "mistral",
    .architecture = "MistralForCausalLM",
    .names = {},
    .reads = {"head_dim"},
    .kv_heads = 8,
    .context = 131072,
    .window = 4096,
    .windows = WindowRule::all,
    .model_tensors = common_model_tensors(),
    .layer_tensors = common_layer_tensors(),
};

}  // namespace whit
