// GPT-2: layer norms, learned positions, a plain network of two layers with the tanh form of gelu; matrices of a folder
// are stored [inputs, outputs], query, key and value side by side.
#include "model/spec/family.h"

namespace whit {

extern const Family kGpt2;
const Family kGpt2 = {
    .gguf = "gpt2",
    .model_type = "gpt2",
    .architecture = "GPT2LMHeadModel",
    .names = {.width = "n_embd",
              .layers = "n_layer",
              .heads = "n_head",
              .kv_heads = nullptr,
              .feed_forward = "n_inner",
              .context = "n_positions",
              .epsilon = "layer_norm_epsilon",
              .activation = "activation_function"},
    .reads = {"scale_attn_weights", "scale_attn_by_inverse_layer_idx"},
    .aliases = {{"hidden_size", "n_embd"},
                {"num_hidden_layers", "n_layer"},
                {"num_attention_heads", "n_head"},
                {"max_position_embeddings", "n_positions"}},
    .feed_forward_factor = 4,
    .context = 1024,
    .epsilon = 1e-5,
    .tied = true,
    .biases = {"attn_q", "attn_k", "attn_v", "attn_output", "ffn_up", "ffn_down"},
    .norm = NormKind::layer,
    .activation = Activation::gelu_tanh,
    .gated = false,
    .positions = PositionKind::learned,
    .transposed = true,
    .layer_prefix = "transformer.h.",
    .optional_prefix = "transformer.",
    .model_tensors = {{"transformer.wte", "token_embd"},
                      {"transformer.wpe", "position_embd"},
                      {"transformer.ln_f", "output_norm"},
                      {"lm_head", "output"}},
    .layer_tensors = {{"ln_1", "attn_norm"},
                      {"attn.c_attn", "attn_qkv"},
                      {"attn.c_proj", "attn_output"},
                      {"ln_2", "ffn_norm"},
                      {"mlp.c_fc", "ffn_up"},
                      {"mlp.c_proj", "ffn_down"}},
    .ignored = {".attn.bias", ".attn.masked_bias"},
    .fused = {{"attn_qkv", "attn_qkv"}},
    .refused = {"add_cross_attention"},
};

}  // namespace whit
