#include "model/spec/config.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <cmath>

#include "base/error.h"
#include "model/spec/config_keys.h"

namespace whit {
namespace {

using nlohmann::json;

// Keys that some families read and others do not.
constexpr const char* kFamilyKeys[] = {"attention_bias",
                                       "mlp_bias",
                                       "enable_bias",
                                       "head_dim",
                                       "word_embed_proj_dim",
                                       "scale_attn_weights",
                                       "scale_attn_by_inverse_layer_idx",
                                       "do_layer_norm_before",
                                       "_remove_final_layer_norm",
                                       "layer_norm_elementwise_affine",
                                       "final_logit_softcapping"};

// Keys of every family that must say nothing: what no description can say.
constexpr const char* kRefused[] = {"per_layer_config", "pruned_heads",  "is_encoder_decoder",
                                    "text_config",      "vision_config", "audio_config"};

// Keys that change nothing of what a model computes: names and types, training, sampling, tokens, numerics, other
// heads. What is neither here nor read is noted.
constexpr std::string_view kInert[] = {
    "_name_or_path", "name_or_path", "_commit_hash", "transformers_version", "architectures", "auto_map", "torch_dtype",
    "dtype", "use_bfloat16", "use_cache", "cache_implementation", "attn_implementation", "_attn_implementation",
    "_attn_implementation_autoset", "_attn_implementation_internal", "_experts_implementation_internal",
    "use_flash_attn", "_flash_attn_2_enabled", "pretraining_tp", "quantization_config", "_pre_quantization_dtype",
    "torchscript", "return_dict", "output_attentions", "output_hidden_states", "chunk_size_feed_forward",
    "gradient_checkpointing", "tie_encoder_decoder", "tie_last_hidden_states", "unsloth_version", "unsloth_fixed",
    "unsloth_tokenizer_modified", "transformers.js_config", "is_llama_config", "model_max_length", "max_seq_len",
    "n_ctx", "full_attn_mod", "interpolate_factor", "_sliding_window_pattern", "max_window_layers",
    "learned_embeddings",
    // training
    "initializer_range", "init_std", "attention_dropout", "attn_pdrop", "resid_pdrop", "embd_pdrop", "dropout",
    "hidden_dropout", "activation_dropout", "classifier_dropout", "layerdrop", "tf_legacy_loss",
    "reorder_and_upcast_attn",
    // heads of other tasks
    "id2label", "label2id", "num_labels", "problem_type", "task_specific_params", "finetuning_task", "summary_type",
    "summary_use_proj", "summary_activation", "summary_proj_to_labels", "summary_first_dropout", "summary_last_dropout",
    // tokens and sampling
    "tokenizer_class", "prefix", "bos_token_id", "eos_token_id", "pad_token_id", "sep_token_id", "unk_token_id",
    "decoder_start_token_id", "image_token_index", "max_length", "min_length", "do_sample", "early_stopping",
    "num_beams", "num_beam_groups", "diversity_penalty", "temperature", "top_k", "top_p", "typical_p",
    "repetition_penalty", "length_penalty", "no_repeat_ngram_size", "encoder_no_repeat_ngram_size", "bad_words_ids",
    "num_return_sequences", "output_scores", "return_dict_in_generate", "forced_bos_token_id", "forced_eos_token_id",
    "remove_invalid_values", "exponential_decay_length_penalty", "suppress_tokens", "begin_suppress_tokens"};

const Family& find_family(const ConfigKeys& keys) {
  const std::string type = keys.string("model_type", "");
  const Family* family = family_of_folder(type);
  if (!family)
    keys.refuse("this family of models is not supported", "model_type",
                keys.find("text_config") ? "it has more than a text model: one that is saved alone may be read"
                                         : "read are " + family_names(false));
  if (const json* classes = keys.find("architectures"))
    if (!classes->is_array() || classes->empty() || (*classes)[0] != family->architecture)
      keys.refuse("this kind of model is not supported", "architectures", std::string(family->architecture) + " is");
  const auto refuse_if_said = [&](const char* key) {
    if (const json* value = keys.find(key); value && !ConfigKeys::says_nothing(*value))
      keys.refuse("this kind of model is not supported", key);
  };
  for (const char* key : kRefused) refuse_if_said(key);
  for (const char* key : family->refused) refuse_if_said(key);
  if (!keys.boolean("is_causal", true) || keys.says_null("is_causal"))
    keys.refuse("attention to later positions is not supported", "is_causal");
  // Other names of the same sizes.
  for (const auto& [alias, key] : family->aliases)
    if (const json* other = keys.find(alias), *value = keys.find(key); other && (!value || *other != *value))
      keys.refuse(fmt::format("{} and {} are one size, and not the same here", alias, key), alias,
                  fmt::format("{} {}", key, value ? value->dump() : "is missing"));
  return *family;
}

void read_activation(const ConfigKeys& keys, const Family& family, KeyValues& out) {
  const char* key = family.names.activation;
  const std::string name = keys.string(key, std::string(activation_name(family.activation)).c_str());
  const Activation* found = find_activation(name);
  if (!found) keys.refuse("this activation is not supported", key, activation_names() + " are");
  if (*found != family.activation)
    out.set(fmt::format("{}.activation", family.gguf), std::string(activation_name(*found)));
}

// Which linears have biases, by their names in GGUF.
std::vector<std::string_view> read_biases(const ConfigKeys& keys, const Family& family) {
  std::vector<std::string_view> biases = family.biases;
  if (!keys.boolean("enable_bias", true)) biases.clear();
  if (keys.boolean("attention_bias", false)) biases.insert(biases.end(), {"attn_q", "attn_k", "attn_v", "attn_output"});
  if (keys.boolean("mlp_bias", false)) biases.insert(biases.end(), {"ffn_gate", "ffn_up", "ffn_down"});
  return biases;
}

// Blocks with positions: not 0 in no_rope_layers. Empty: all are.
std::vector<bool> read_rotated(const ConfigKeys& keys, const Family& family, uint64_t layers) {
  std::vector<bool> rotated;
  if (family.unrotated_every == 0) return rotated;
  const uint64_t period = keys.size("no_rope_layer_interval", family.unrotated_every);
  const json* list = keys.find("no_rope_layers");
  if (list && (!list->is_array() || list->size() < layers ||
               std::any_of(list->begin(), list->end(), [](const json& one) { return !one.is_number_integer(); })))
    keys.refuse("an integer for every layer is wanted", "no_rope_layers");
  for (uint64_t n = 0; n < layers; ++n) rotated.push_back(list ? (*list)[n] != json(0) : (n + 1) % period != 0);
  return rotated;
}

// Which blocks have a window: layer_types, or the family's rule. Empty: none has.
std::vector<bool> read_windows(const ConfigKeys& keys, const Family& family, const std::vector<bool>& rotated,
                               uint64_t layers, uint64_t& window) {
  if (family.windows == WindowRule::none) return {};
  const bool asked = family.windows == WindowRule::from_layer || family.windows == WindowRule::unrotated;
  window = keys.says_null("sliding_window") ? 0 : keys.size("sliding_window", family.window);
  if (asked && !keys.boolean("use_sliding_window", false)) window = 0;
  const json* types = keys.find("layer_types");
  if (types && (!types->is_array() || types->size() != layers))
    keys.refuse("a kind for every layer is wanted", "layer_types");
  const json* from = keys.find("max_window_layers");
  const uint64_t period = family.windows == WindowRule::pattern ? keys.size("sliding_window_pattern", 6) : 0;
  const uint64_t first = !from ? 28 : *from == json(0) ? 0 : keys.size("max_window_layers");
  std::vector<bool> windowed;
  for (uint64_t n = 0; n < layers; ++n) {
    bool has = window != 0;
    if (family.windows == WindowRule::from_layer) has = has && n >= first;
    if (family.windows == WindowRule::unrotated) has = has && !rotated[n];
    if (family.windows == WindowRule::pattern) has = (n + 1) % period != 0;
    if (types) {
      const json& type = (*types)[n];
      if (type != "full_attention" && type != "sliding_attention")
        keys.refuse("this kind of layer is not supported", "layer_types", "full_attention and sliding_attention are");
      const bool told = type == "sliding_attention";
      if (family.windows == WindowRule::all && told != has)
        keys.refuse("layer_types and sliding_window disagree", "layer_types",
                    fmt::format("in this family all blocks have the window of sliding_window, here {}, or none has one",
                                window == 0 ? "null" : std::to_string(window)));
      has = told;
    }
    windowed.push_back(has);
  }
  if (std::none_of(windowed.begin(), windowed.end(), [](bool has) { return has; })) return {};
  if (window == 0)
    keys.refuse("blocks have a window without a size", "sliding_window",
                types ? "layer_types has sliding_attention: sliding_window (and use_sliding_window) must say its size"
                      : "a number of positions is wanted");
  return windowed;
}

}  // namespace

FolderConfig read_config(const json& object, const std::string& where, const std::string& name) {
  if (!object.is_object()) throw Error(ErrorKind::input, "the configuration is no JSON object", where);
  ConfigKeys keys(object, where);
  FolderConfig config;
  config.family = &find_family(keys);
  const Family& family = *config.family;
  for (const char* key : kFamilyKeys)
    if (std::find(family.reads.begin(), family.reads.end(), key) == family.reads.end()) keys.ignore(key);
  const ConfigNames& names = family.names;
  const uint64_t width = keys.size(names.width), heads = keys.size(names.heads), layers = keys.size(names.layers);
  if (family.head_size != 0 && keys.says_null("head_dim"))
    keys.refuse("the size of a head is missing", "head_dim",
                "an absent key has a usual value in this family, null has none");
  const uint64_t usual_head = family.head_size != 0 ? family.head_size : width / heads;
  if (!keys.find("head_dim") && family.head_size == 0 && width % heads != 0)
    keys.refuse("the width is no multiple of the number of heads", names.heads);
  if (const uint64_t embedded = keys.size("word_embed_proj_dim", width); embedded != width)
    config.metadata.set(fmt::format("{}.embedding_length_input", family.gguf), static_cast<uint32_t>(embedded));
  if (!keys.boolean("scale_attn_weights", true))
    config.metadata.set(fmt::format("{}.attention.scale", family.gguf), 1.0f);

  config.head_size = keys.size("head_dim", usual_head);
  KeyValues& out = config.metadata;
  const std::string prefix = fmt::format("{}.", family.gguf);
  const auto set = [&](const char* key, uint64_t value) { out.set(prefix + key, static_cast<uint32_t>(value)); };
  const uint64_t context = keys.size(names.context, family.context);
  out.set("general.architecture", std::string(family.gguf));
  out.set("general.type", std::string("model"));
  out.set("general.name", name);
  set("block_count", layers);
  set("context_length", context);
  set("embedding_length", width);
  set("feed_forward_length", family.feed_forward_factor != 0 && !keys.find(names.feed_forward)
                                 ? family.feed_forward_factor * width
                                 : keys.size(names.feed_forward));
  set("attention.head_count", heads);
  const uint64_t usual_kv = keys.says_null("num_key_value_heads") || family.kv_heads == 0 ? heads : family.kv_heads;
  if (names.kv_heads) set("attention.head_count_kv", keys.size(names.kv_heads, usual_kv));
  out.set(
      prefix + (family.norm == NormKind::layer ? "attention.layer_norm_epsilon" : "attention.layer_norm_rms_epsilon"),
      static_cast<float>(names.epsilon ? keys.number(names.epsilon, family.epsilon) : family.epsilon));
  if (config.head_size * heads != width) {
    set("attention.key_length", config.head_size);
    set("attention.value_length", config.head_size);
  }
  read_activation(keys, family, out);
  if (keys.boolean("scale_attn_by_inverse_layer_idx", false)) out.set(prefix + "attention.scale_by_layer", true);
  if (!keys.boolean("do_layer_norm_before", true)) out.set(prefix + "norm_after", true);
  if (keys.boolean("_remove_final_layer_norm", false)) out.set(prefix + "final_norm_removed", true);
  if (!keys.boolean("layer_norm_elementwise_affine", true)) out.set(prefix + "norms_without_gain", true);
  if (keys.find("final_logit_softcapping"))
    out.set(prefix + "final_logit_softcapping", static_cast<float>(keys.number("final_logit_softcapping")));
  if (family.sizes_attention)
    out.set(prefix + "attention.scale", static_cast<float>(1 / std::sqrt(keys.number("query_pre_attn_scalar", 256.0))));
  const std::vector<bool> rotated = read_rotated(keys, family, layers);
  for (uint64_t n = 0; n < rotated.size(); ++n)
    if (rotated[n] != ((n + 1) % family.unrotated_every != 0)) out.set(prefix + "rope.layers", rotated);
  uint64_t window = 0;
  const std::vector<bool> windowed = read_windows(keys, family, rotated, layers, window);
  if (!windowed.empty()) {
    set("attention.sliding_window", window);
    if (std::find(windowed.begin(), windowed.end(), false) != windowed.end())
      out.set(prefix + "attention.sliding_window_pattern", windowed);
  }
  config.biases = read_biases(keys, family);
  config.tied = keys.boolean("tie_word_embeddings", family.tied);
  if (keys.find("vocab_size")) config.vocabulary = keys.size("vocab_size");
  if (family.positions == PositionKind::rotary) read_rotary(keys, context, config);

  std::vector<std::string> unread;
  for (std::string& key : keys.unread())
    if (std::find(std::begin(kInert), std::end(kInert), key) == std::end(kInert) &&
        std::find(family.inert.begin(), family.inert.end(), key) == family.inert.end())
      unread.push_back(std::move(key));
  if (!unread.empty())
    config.notes.push_back(
        fmt::format("config.json: {} {} not read in this family (by transformers' class of it neither)",
                    fmt::join(unread, ", "), unread.size() == 1 ? "is" : "are"));
  return config;
}

}  // namespace whit
