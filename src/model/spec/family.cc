#include "model/spec/family.h"

#include <fmt/format.h>

#include <algorithm>
#include <utility>

namespace whit {

extern const Family kLlama, kMistral, kQwen2, kQwen3, kGemma3, kPhi3, kSmolLm3, kOpt, kGpt2;

namespace {

constexpr const Family* kFamilies[] = {&kLlama, &kMistral, &kQwen2,   &kQwen3, &kGemma3,
                                       &kPhi3,  &kSmolLm3, &kOpt,     &kGpt2};

struct ActivationRow {
  std::string_view name;
  Activation activation;
};
constexpr ActivationRow kActivations[] = {
    {"silu", Activation::silu},
    {"relu", Activation::relu},
    {"gelu", Activation::gelu},
    {"gelu_new", Activation::gelu_tanh},
    {"gelu_pytorch_tanh", Activation::gelu_tanh},
    {"swish", Activation::silu},
    {"gelu_fast", Activation::gelu_tanh},
};

constexpr std::string_view kBlocks = "blk.", kKinds[] = {".weight", ".bias"};

bool is_layer_number(std::string_view text) {
  return !text.empty() && text.size() <= 6 && (text.size() == 1 || text[0] != '0') &&
         std::all_of(text.begin(), text.end(), [](char c) { return c >= '0' && c <= '9'; });
}

std::string translate(const Family& family, std::string_view name, bool to_gguf) {
  std::string_view kind;
  for (const std::string_view one : kKinds)
    if (name.ends_with(one)) kind = one;
  if (kind.empty()) return "";
  name.remove_suffix(kind.size());
  const auto look_up = [&](const std::vector<TensorName>& table, std::string_view word) -> std::string_view {
    for (const auto& [theirs, ours] : table)
      if (word == (to_gguf ? theirs : ours)) return to_gguf ? ours : theirs;
    return "";
  };
  if (const std::string_view found = look_up(family.model_tensors, name); !found.empty())
    return fmt::format("{}{}", found, kind);
  const auto& [from, to] = to_gguf ? std::pair(family.layer_prefix, kBlocks) : std::pair(kBlocks, family.layer_prefix);
  if (!name.starts_with(from)) return "";
  name.remove_prefix(from.size());
  const size_t dot = std::min(name.find('.'), name.size());
  const std::string_view layer = name.substr(0, dot);
  if (!is_layer_number(layer) || dot == name.size()) return "";
  const std::string_view found = look_up(family.layer_tensors, name.substr(dot + 1));
  return found.empty() ? "" : fmt::format("{}{}.{}{}", to, layer, found, kind);
}

}  // namespace

std::span<const Family* const> families() { return kFamilies; }

const Family* family_of_folder(std::string_view model_type) {
  for (const Family* family : kFamilies)
    if (family->model_type == model_type) return family;
  return nullptr;
}

const Family* family_of_gguf(std::string_view architecture) {
  for (const Family* family : kFamilies)
    if (family->gguf == architecture) return family;
  return nullptr;
}

std::string family_names(bool gguf) {
  std::string names;
  for (const Family* family : kFamilies) {
    const std::string_view name = gguf ? family->gguf : family->model_type;
    if (gguf && family_of_gguf(name) != family) continue;
    names += fmt::format("{}{}", names.empty() ? "" : ", ", name);
  }
  return names;
}

std::string_view activation_name(Activation activation) {
  return std::find_if(std::begin(kActivations), std::end(kActivations),
                      [&](const ActivationRow& row) { return row.activation == activation; })
      ->name;
}

const Activation* find_activation(std::string_view name) {
  for (const ActivationRow& row : kActivations)
    if (row.name == name) return &row.activation;
  return nullptr;
}

std::string activation_names() {
  std::string names;
  for (const ActivationRow& row : kActivations) names += fmt::format("{}{}", names.empty() ? "" : ", ", row.name);
  return names;
}

std::vector<TensorName> common_model_tensors() {
  return {{"model.embed_tokens", "token_embd"}, {"model.norm", "output_norm"}, {"lm_head", "output"}};
}

std::vector<TensorName> common_layer_tensors() {
  return {{"input_layernorm", "attn_norm"}, {"self_attn.q_proj", "attn_q"},      {"self_attn.k_proj", "attn_k"},
          {"self_attn.v_proj", "attn_v"},   {"self_attn.o_proj", "attn_output"}, {"post_attention_layernorm", "ffn_norm"},
          {"mlp.gate_proj", "ffn_gate"},    {"mlp.up_proj", "ffn_up"},           {"mlp.down_proj", "ffn_down"}};
}

std::string folder_to_gguf_name(const Family& family, std::string_view name) {
  const std::string found = translate(family, name, true);
  if (!found.empty() || family.optional_prefix.empty()) return found;
  return translate(family, fmt::format("{}{}", family.optional_prefix, name), true);
}

std::string gguf_to_folder_name(const Family& family, std::string_view name) { return translate(family, name, false); }

}  // namespace whit
