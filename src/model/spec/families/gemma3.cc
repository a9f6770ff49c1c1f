// Gemma 3, text: norms before and after every branch and of query and key heads, their gains stored less one; five
// blocks with a window for one without, each kind with a rotary base of its own; looked-up rows times sqrt(width).
#include "model/spec/family.h"

namespace whit {

extern const Family kGemma3;
const Family kGemma3 = {
    .gguf = "gemma3",
    .model_type = "gemma3_text",
    .architecture = "Gemma3ForCausalLM",
    .names = {.activation = "hidden_activation"},
    .reads = {"attention_bias", "head_dim", "final_logit_softcapping"},
    // Of Gemma 2; the reference implementation of Gemma 3 reads it and does nothing with it.
    .inert = {"attn_logit_softcapping"},
    .kv_heads = 4,
    .head_size = 256,
    .context = 131072,
    .window = 4096,
    .theta = 1e6,
    .tied = true,
    .branch_norms = true,
    .head_norms = true,
    .activation = Activation::gelu_tanh,
    .pairs = RotaryPairs::halves,
    .windows = WindowRule::pattern,
    .two_rotaries = true,
    .scaled_embedding = true,
    .sizes_attention = true,
    .norms_less_one = true,
    .model_tensors = common_model_tensors(),
    .layer_tensors = {{"input_layernorm", "attn_norm"},
                      {"self_attn.q_proj", "attn_q"},
                      {"self_attn.k_proj", "attn_k"},
                      {"self_attn.v_proj", "attn_v"},
                      {"self_attn.o_proj", "attn_output"},
                      {"self_attn.q_norm", "attn_q_norm"},
                      {"self_attn.k_norm", "attn_k_norm"},
                      {"post_attention_layernorm", "post_attention_norm"},
                      {"pre_feedforward_layernorm", "ffn_norm"},
                      {"post_feedforward_layernorm", "post_ffw_norm"},
                      {"mlp.gate_proj", "ffn_gate"},
                      {"mlp.up_proj", "ffn_up"},
                      {"mlp.down_proj", "ffn_down"}},
    .refused = {"use_bidirectional_attention"},
};

}  // namespace whit
