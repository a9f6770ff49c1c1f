// SmolLM3: Llama of which every fourth block knows no positions.
#include "model/spec/family.h"

namespace whit {

extern const Family kSmolLm3;
const Family kSmolLm3 = {
    .gguf = "smollm3",
    .model_type = "smollm3",
    .architecture = "SmolLM3ForCausalLM",
    .names = {},
    .reads = {"attention_bias", "mlp_bias", "head_dim"},
    .kv_heads = 4,
    .context = 32768,
    .theta = 2000000.0,
    .tied = true,
    .windows = WindowRule::unrotated,
    .unrotated_every = 4,
    .model_tensors = common_model_tensors(),
    .layer_tensors = common_layer_tensors(),
};

}  // namespace whit
