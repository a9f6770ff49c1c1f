// Phi-3, Phi-3.5 and Phi-4 (mini): Llama with query, key and value in one matrix and gate and up in another; longrope.
#include "model/spec/family.h"

namespace whit {

extern const Family kPhi3;
const Family kPhi3 = {
    .gguf = "phi3",
    .model_type = "phi3",
    .architecture = "Phi3ForCausalLM",
    .names = {},
    .reads = {"head_dim"},
    .context = 4096,
    .epsilon = 1e-5,
    .pairs = RotaryPairs::halves,
    .windows = WindowRule::all,
    .partly_rotated = true,
    .longrope_only = true,
    .original_context = 4096,
    .model_tensors = common_model_tensors(),
    .layer_tensors = {{"input_layernorm", "attn_norm"},
                      {"self_attn.qkv_proj", "attn_qkv"},
                      {"self_attn.o_proj", "attn_output"},
                      {"post_attention_layernorm", "ffn_norm"},
                      {"mlp.gate_up_proj", "ffn_gate_up"},
                      {"mlp.down_proj", "ffn_down"}},
    .fused = {{"attn_qkv", "attn_qkv"}, {"ffn_gate_up", "ffn_up"}},
};

}  // namespace whit
