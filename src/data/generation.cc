#include "data/generation.h"

#include <algorithm>
#include <charconv>
#include <cstdlib>
#include <iterator>
#include <nlohmann/json.hpp>

#include "base/error.h"
#include "base/json.h"
#include "data/tokenizer_json.h"

namespace whit {
namespace {

using namespace tokenizer_json;

constexpr char kFile[] = "generation_config.json", kPrefix[] = "general.sampling.";

struct SamplingKey {
  const char *folder, *gguf;
  std::optional<double> Sampling::*value;
  double least, most;
};
constexpr SamplingKey kNumbers[] = {
    {"temperature", "temp", &Sampling::temperature, 0, 100},
    {"top_p", "top_p", &Sampling::top_p, 0, 1},
    {"min_p", "min_p", &Sampling::min_p, 0, 1},
    {"repetition_penalty", "penalty_repeat", &Sampling::repeat_penalty, 0.1, 10},
};

// What is read elsewhere, or asks nothing of an answer that the program's own options do not say.
constexpr std::string_view kInert[] = {
    "_from_model_config", "_commit_hash", "transformers_version", "transformers.js_config", "trust_remote_code",
    "bos_token_id", "eos_token_id", "pad_token_id", "decoder_start_token_id", "stop_strings", "do_sample", "top_k",
    "max_length", "max_new_tokens", "use_cache", "cache_implementation", "cache_config", "return_legacy_cache",
    "compile_config", "disable_compile", "renormalize_logits", "remove_invalid_values", "early_stopping",
    "num_return_sequences", "output_attentions", "output_hidden_states", "output_scores", "output_logits",
    "return_dict_in_generate", "low_memory", "length_penalty", "num_beam_groups", "diversity_penalty",
    // of other tools
    "chat_format", "max_window_size", "sequence"};

double checked(double value, const SamplingKey& key, const std::string& where) {
  if (!(value >= key.least && value <= key.most))
    throw Error(ErrorKind::input, "answers cannot be drawn so", where, std::to_string(value),
                std::to_string(key.least) + " to " + std::to_string(key.most));
  return value;
}

int32_t most_candidates(double value) {  // of top_k; some write -1 for "all"
  return value <= 0 ? 0 : static_cast<int32_t>(std::min(value, 1e9));
}

// The shortest decimal number that is this float of a GGUF file.
double shortest(double value) {
  char text[32] = {};
  std::to_chars(std::begin(text), std::end(text) - 1, static_cast<float>(value));
  return std::strtod(text, nullptr);
}

bool says_nothing(const json& value) {
  return value.is_null() || value == json(false) || (value.is_number() && (value == json(0) || value == json(1))) ||
         ((value.is_string() || value.is_structured()) && value.empty()) || value == json("");
}

void note_unfollowed(std::vector<std::string> keys, const std::string& where, std::vector<std::string>* notes) {
  if (!notes || keys.empty()) return;
  std::string list;
  for (const std::string& key : keys) list += (list.empty() ? "" : ", ") + key;
  notes->push_back(where + list + (keys.size() == 1 ? " is" : " are") + " not followed: answers are drawn without");
}

}  // namespace

Sampling read_sampling(const std::map<std::string, std::string>& files, std::vector<std::string>* notes) {
  Sampling sampling;
  const auto found = files.find(kFile);
  if (found == files.end()) return sampling;
  const json generation = parse_json(found->second, kFile);
  if (!generation.is_object()) refuse("an object is wanted", kFile, generation);
  const auto number = [&](const char* key) -> std::optional<double> {
    const json& value = member(generation, key);
    if (value.is_null()) return std::nullopt;
    if (!value.is_number()) refuse("a number is wanted", std::string(kFile) + ": " + key, value);
    return value.get<double>();
  };
  for (const SamplingKey& key : kNumbers)
    if (const auto value = number(key.folder))
      sampling.*key.value = checked(*value, key, std::string(kFile) + ": " + key.folder);
  if (const auto value = number("top_k")) sampling.top_k = most_candidates(*value);
  if (member(generation, "do_sample") == json(false)) sampling.temperature = 0;
  std::vector<std::string> unfollowed;
  for (const auto& [key, value] : generation.items())
    if (!says_nothing(value) && std::find(std::begin(kInert), std::end(kInert), key) == std::end(kInert) &&
        std::none_of(std::begin(kNumbers), std::end(kNumbers), [&key = key](const auto& row) { return key == row.folder; }))
      unfollowed.push_back(key);
  note_unfollowed(std::move(unfollowed), std::string(kFile) + ": ", notes);
  return sampling;
}

Sampling read_sampling(const KeyValues& metadata, std::vector<std::string>* notes) {
  Sampling sampling;
  for (const SamplingKey& key : kNumbers)
    if (const std::string name = std::string(kPrefix) + key.gguf; metadata.has(name))
      sampling.*key.value = checked(metadata.number(name), key, name);
  if (const std::string name = std::string(kPrefix) + "top_k"; metadata.has(name))
    sampling.top_k = most_candidates(metadata.number(name));
  std::vector<std::string> unfollowed;
  for (const char* key : {"sequence", "xtc_probability", "mirostat", "penalty_last_n"}) {
    const Value* value = metadata.find(std::string(kPrefix) + key);
    const auto something = [](const auto& one) {
      if constexpr (std::is_arithmetic_v<std::decay_t<decltype(one)>>)
        return one != 0;
      else
        return !one.empty();
    };
    if (value && std::visit(something, *value)) unfollowed.push_back(kPrefix + std::string(key));
  }
  note_unfollowed(std::move(unfollowed), "", notes);
  return sampling;
}

void write_sampling(const Sampling& sampling, KeyValues& metadata) {
  for (const SamplingKey& key : kNumbers)
    if (const auto& value = sampling.*key.value)
      metadata.set(std::string(kPrefix) + key.gguf, static_cast<float>(*value));
  if (sampling.top_k) metadata.set(std::string(kPrefix) + "top_k", *sampling.top_k);
}

void write_sampling(const Sampling& sampling, json& generation) {
  for (const SamplingKey& key : kNumbers)
    if (const auto& value = sampling.*key.value) generation[key.folder] = shortest(*value);
  if (sampling.top_k) generation["top_k"] = *sampling.top_k;
  const bool greedy = sampling.temperature == 0.0;
  if (greedy) generation.erase("temperature");  // transformers refuses it
  if (sampling.temperature || sampling.top_p || sampling.min_p || sampling.top_k) generation["do_sample"] = !greedy;
}

}  // namespace whit
