#include "model/spec/tensor_names.h"

#include <fmt/format.h>

#include <algorithm>
#include <utility>

namespace whit {
namespace {

using Names = std::pair<std::string_view, std::string_view>;

// Folder, GGUF; without ".weight".
constexpr Names kModel[] = {{"model.embed_tokens", "token_embd"}, {"model.norm", "output_norm"}, {"lm_head", "output"}};
constexpr Names kLayer[] = {
    {"input_layernorm", "attn_norm"}, {"self_attn.q_proj", "attn_q"},      {"self_attn.k_proj", "attn_k"},
    {"self_attn.v_proj", "attn_v"},   {"self_attn.o_proj", "attn_output"}, {"post_attention_layernorm", "ffn_norm"},
    {"mlp.gate_proj", "ffn_gate"},    {"mlp.up_proj", "ffn_up"},           {"mlp.down_proj", "ffn_down"},
};
constexpr std::string_view kLayers = "model.layers.", kBlocks = "blk.", kWeight = ".weight";

std::string translate(std::string_view name, bool to_gguf) {
  const auto look_up = [&](const auto& table, std::string_view word) -> std::string_view {
    for (const auto& [theirs, ours] : table)
      if (word == (to_gguf ? theirs : ours)) return to_gguf ? ours : theirs;
    return "";
  };
  if (!name.ends_with(kWeight)) return "";
  name.remove_suffix(kWeight.size());
  if (const std::string_view found = look_up(kModel, name); !found.empty()) return fmt::format("{}{}", found, kWeight);
  const auto& [from, to] = to_gguf ? std::pair(kLayers, kBlocks) : std::pair(kBlocks, kLayers);
  if (!name.starts_with(from)) return "";
  name.remove_prefix(from.size());
  const size_t dot = name.find('.');
  if (dot == 0 || dot == std::string_view::npos || dot > 6) return "";
  const std::string_view layer = name.substr(0, dot);
  if (!std::all_of(layer.begin(), layer.end(), [](char c) { return c >= '0' && c <= '9'; })) return "";
  if (layer.size() > 1 && layer[0] == '0') return "";
  const std::string_view found = look_up(kLayer, name.substr(dot + 1));
  return found.empty() ? "" : fmt::format("{}{}.{}{}", to, layer, found, kWeight);
}

}  // namespace

std::string folder_to_gguf_name(std::string_view name) { return translate(name, true); }
std::string gguf_to_folder_name(std::string_view name) { return translate(name, false); }

}  // namespace whit
