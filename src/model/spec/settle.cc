#include "model/spec/settle.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <cstring>
#include <set>

#include "base/error.h"
#include "format/format.h"

namespace whit {
namespace {

constexpr const char *kEmbedding = "token_embd.weight", *kOutput = "output.weight";

[[noreturn]] void refuse(const Model& model, const std::string& what, const std::string& place,
                         const std::string& found, const std::string& hint) {
  throw Error(ErrorKind::input, what, model.path.string() + ": " + place, found, hint);
}

// Equal weights may be stored in two types.
bool same_weights(const StoredTensor& a, const StoredTensor& b) {
  if (a.shape != b.shape || !a.format->is_ggml() || !b.format->is_ggml() || a.rotation || b.rotation || a.gain ||
      b.gain)
    return false;
  if (a.format->name() == b.format->name())
    return std::memcmp(a.parts[0].data(), b.parts[0].data(), a.parts[0].size()) == 0;
  std::vector<float> of_a(a.shape.cols), of_b(a.shape.cols);
  for (uint64_t row = 0; row < a.shape.rows; ++row) {  // ends at the first difference
    unpack_stored(a, row, 1, of_a.data());
    unpack_stored(b, row, 1, of_b.data());
    if (std::memcmp(of_a.data(), of_b.data(), of_a.size() * sizeof(float)) != 0) return false;
  }
  return true;
}

bool all_are(const StoredTensor& tensor, float wanted) {
  std::vector<float> values(tensor.shape.count());
  unpack_rows({&tensor, 0, tensor.shape.rows}, 0, tensor.shape.rows, values);
  return std::all_of(values.begin(), values.end(), [&](float value) { return value == wanted; });
}

// "blk.3.attn_q.bias" -> "attn_q"; "" for what is no bias of a linear.
std::string_view linear_of_bias(std::string_view name) {
  if (!name.starts_with("blk.") || !name.ends_with(".bias") || name.ends_with("norm.bias")) return "";
  name.remove_suffix(std::string_view(".bias").size());
  return name.substr(name.rfind('.') + 1);
}

// The linears that a bias belongs to: joined ones have joined biases.
std::vector<std::string_view> linears_of(std::string_view linear) {
  if (linear == "attn_qkv") return {"attn_q", "attn_k", "attn_v"};
  if (linear == "ffn_gate_up") return {"ffn_gate", "ffn_up"};
  return {linear};
}

// Keys under the family's name that are read above, or that change nothing of what the model computes.
constexpr std::string_view kKeys[] = {"vocab_size",
                                      "context_length",
                                      "embedding_length",
                                      "embedding_length_input",
                                      "block_count",
                                      "feed_forward_length",
                                      "expert_count",
                                      "expert_used_count",
                                      "attention.head_count",
                                      "attention.head_count_kv",
                                      "attention.key_length",
                                      "attention.value_length",
                                      "attention.layer_norm_epsilon",
                                      "attention.layer_norm_rms_epsilon",
                                      "attention.scale",
                                      "attention.scale_by_layer",
                                      "attention.sliding_window",
                                      "attention.sliding_window_pattern",
                                      "attention.causal",
                                      "activation",
                                      "norm_after",
                                      "final_norm_removed",
                                      "norms_without_gain",
                                      "final_logit_softcapping",
                                      "rope.dimension_count",
                                      "rope.freq_base",
                                      "rope.freq_base_swa",
                                      "rope.layers",
                                      "rope.scale_linear",
                                      "rope.scaling.type",
                                      "rope.scaling.factor",
                                      "rope.scaling.attn_factor",
                                      "rope.scaling.original_context_length",
                                      "rope.scaling.finetuned",
                                      "rope.scaling.dynamic_factor",
                                      "rope.scaling.yarn_beta_fast",
                                      "rope.scaling.yarn_beta_slow",
                                      "rope.scaling.yarn_truncate",
                                      "tensor_data_layout",
                                      "pooling_type"};

}  // namespace

void settle_output(Model& model, std::optional<bool> tied) {
  const auto at = [&](const char* name) {
    return std::find_if(model.tensors.begin(), model.tensors.end(),
                        [&](const StoredTensor& tensor) { return tensor.name == name; });
  };
  const auto embedding = at(kEmbedding), output = at(kOutput), none = model.tensors.end();
  // A member of a stack is there under its own name.
  if ((embedding == none && model.find(kEmbedding)) || (output == none && model.find(kOutput))) return;
  if (embedding == none && output != none && tied.value_or(true)) {
    output->name = kEmbedding;
    model.notes.push_back("the embedding is not there: that of this model is its output matrix, which is");
  } else if (embedding != none && output == none && tied && !*tied) {
    refuse(model, "config.json says that the output has a matrix of its own, and the folder has none",
           "config.json: tie_word_embeddings", "no lm_head.weight",
           "fetch the rest of the folder; if its output matrix is the embedding, say \"tie_word_embeddings\": true");
  } else if (embedding != none && output != none) {
    if (same_weights(*embedding, *output)) {
      StoredTensor& dropped = embedding->bytes() <= output->bytes() ? *output : *embedding;
      model.notes.push_back(fmt::format(
          "embedding and output matrix have the same weights: they are read as one, {} bytes of the file are "
          "a copy",
          dropped.bytes()));
      if (&dropped == &*embedding) std::swap(*embedding, *output);
      embedding->name = kEmbedding;
      model.tensors.erase(output);
    } else if (tied && *tied) {
      model.notes.push_back(
          "config.json says that the output matrix is the embedding, and the folder has another one: that one is used, "
          "as "
          "transformers does it");
    }
  }
}

void settle_vectors(Model& model, const FolderConfig& config) {
  const auto expected = [&](std::string_view linear) {
    return std::find(config.biases.begin(), config.biases.end(), linear) != config.biases.end();
  };
  const bool plain_norms =
      model.metadata.boolean(model.metadata.string("general.architecture") + ".norms_without_gain", false);
  std::set<std::string_view> seen;
  std::erase_if(model.tensors, [&](const StoredTensor& tensor) {
    const std::string_view name = tensor.name;
    if (plain_norms && (name.ends_with("norm.weight") || name.ends_with("norm.bias")) &&
        !all_are(tensor, name.ends_with("weight") ? 1.0f : 0.0f))
      refuse(model, "config.json says that norms have no weights, and the folder has some",
             "config.json: layer_norm_elementwise_affine", tensor.name,
             "leaving them out would change what the model says");
    const std::vector<std::string_view> linears = linears_of(linear_of_bias(name));
    if (linears[0].empty()) return false;
    if (std::all_of(linears.begin(), linears.end(), expected)) {
      seen.insert(linears.begin(), linears.end());
      return false;
    }
    if (!all_are(tensor, 0))
      refuse(
          model, "config.json says nothing of a bias that the folder has", "tensor " + tensor.name,
          fmt::format(
              "\"attention_bias\", \"mlp_bias\" or the family: {}",
              config.biases.empty() ? "no biases" : fmt::format("biases of {}", fmt::join(config.biases, ", "))),
          "transformers leaves it out, which changes what the model says: correct config.json, or take the tensor out");
    return true;
  });
  std::vector<std::string_view> missing;
  for (const std::string_view linear : config.biases)
    if (!seen.contains(linear)) missing.push_back(linear);
  if (!missing.empty())
    model.notes.push_back(
        fmt::format("config.json says that {} have biases, and the folder has none: they are zeros, as in transformers",
                    fmt::join(missing, ", ")));
}

void note_unread_keys(Model& model) {
  const std::string prefix = model.spec.family + ".";
  const auto says_nothing = [](const auto& value) {
    if constexpr (requires { value.empty(); })
      return value.empty();
    else if constexpr (std::is_floating_point_v<std::decay_t<decltype(value)>>)
      return value == 0 || value == 1;
    else
      return value == 0;
  };
  std::vector<std::string> unread;
  for (const auto& [key, value] : model.metadata.all())
    if (key.starts_with(prefix) && !std::visit(says_nothing, value) &&
        std::find(std::begin(kKeys), std::end(kKeys), std::string_view(key).substr(prefix.size())) == std::end(kKeys))
      unread.push_back(key);
  if (!unread.empty())
    model.notes.push_back(
        fmt::format("{} {} not read in this family", fmt::join(unread, ", "), unread.size() == 1 ? "is" : "are"));
}

}  // namespace whit
