// Llama 1 to 3, SmolLM, SmolLM2 and many others: rms norms, gated silu, rotary positions, grouped heads.
#include "model/spec/family.h"

namespace whit {

extern const Family kLlama;
const Family kLlama = {
    .gguf = "llama",
    .model_type = "llama",
    .architecture = "LlamaForCausalLM",
    .names = {},
    .reads = {"attention_bias", "mlp_bias", "head_dim"},
    .model_tensors = common_model_tensors(),
    .layer_tensors = common_layer_tensors(),
    .refused = {"sliding_window", "layer_types"},
};

}  // namespace whit
