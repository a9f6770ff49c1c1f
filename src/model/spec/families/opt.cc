// OPT: layer norms, learned positions that begin at row 2, a plain network of two layers with relu, biases everywhere;
// its 350M puts the norms after the sums and has none at the end. llama.cpp knows no OPT: the GGUF names are ours.
#include "model/spec/family.h"

namespace whit {

extern const Family kOpt;
const Family kOpt = {
    .gguf = "opt",
    .model_type = "opt",
    .architecture = "OPTForCausalLM",
    .names = {.kv_heads = nullptr, .feed_forward = "ffn_dim", .epsilon = nullptr, .activation = "activation_function"},
    .reads = {"enable_bias", "word_embed_proj_dim", "do_layer_norm_before", "_remove_final_layer_norm",
              "layer_norm_elementwise_affine"},
    .epsilon = 1e-5,
    .tied = true,
    .biases = {"attn_q", "attn_k", "attn_v", "attn_output", "ffn_up", "ffn_down"},
    .norm = NormKind::layer,
    .activation = Activation::relu,
    .gated = false,
    .positions = PositionKind::learned,
    .position_offset = 2,
    .layer_prefix = "model.decoder.layers.",
    .optional_prefix = "model.",
    .model_tensors = {{"model.decoder.embed_tokens", "token_embd"},
                      {"model.decoder.embed_positions", "position_embd"},
                      {"model.decoder.final_layer_norm", "output_norm"},
                      {"model.decoder.project_in", "project_in"},
                      {"model.decoder.project_out", "project_out"},
                      {"lm_head", "output"}},
    .layer_tensors = {{"self_attn_layer_norm", "attn_norm"},
                      {"self_attn.q_proj", "attn_q"},
                      {"self_attn.k_proj", "attn_k"},
                      {"self_attn.v_proj", "attn_v"},
                      {"self_attn.out_proj", "attn_output"},
                      {"final_layer_norm", "ffn_norm"},
                      {"fc1", "ffn_up"},
                      {"fc2", "ffn_down"}},
};

}  // namespace whit
