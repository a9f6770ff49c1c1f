// config.json that says one thing in several places, and keys that nobody reads.
#include "model/spec/config.h"

#include <gtest/gtest.h>

#include "base/error.h"
#include "model/spec/folder_copy.h"
#include "model/spec/model.h"

namespace whit {
namespace {

const std::filesystem::path kData = WHIT_TESTS_DIR "/data";

std::string all(const std::vector<std::string>& notes) {
  std::string text;
  for (const std::string& note : notes) text += note + "\n";
  return text;
}

void expect_frequencies(const std::vector<double>& ours, const nlohmann::json& theirs, const char* what) {
  ASSERT_EQ(ours.size(), theirs.size()) << what;
  for (size_t i = 0; i < ours.size(); ++i)
    EXPECT_NEAR(ours[i], theirs[i].get<double>(), 2e-6 * theirs[i].get<double>()) << what << " " << i;
}

// tools/make_config_cases.py: what transformers makes of every pair of places.
TEST(Config, TwoPlacesAreReadAsTransformersReadsThem) {
  const nlohmann::json table = nlohmann::json::parse(read_file(kData / "config/cases.json"));
  const std::filesystem::path folder = std::filesystem::path(testing::TempDir()) / "whit_config_cases";
  size_t equal = 0, refused = 0;
  for (const nlohmann::json& one : table["cases"]) {
    SCOPED_TRACE(one["name"].get<std::string>());
    const std::filesystem::path fixture = kData / one["fixture"].get<std::string>();
    std::filesystem::remove_all(folder);
    std::filesystem::create_directories(folder);
    for (const char* name : {"model.safetensors", "tokenizer.json"})
      std::filesystem::create_symlink(fixture / name, folder / name);
    nlohmann::json config = nlohmann::json::parse(read_file(fixture / "config.json"));
    config.update(one["changes"]);
    for (auto it = config.begin(); it != config.end();) it = *it == "DELETE" ? config.erase(it) : std::next(it);
    write_file(folder / "config.json", config.dump(), false);
    const nlohmann::json& result = one["result"];
    const std::string ours = one.value("ours", result.contains("error") ? "refused" : "equal");
    ModelPtr model;
    try {
      model = load_model(folder);
    } catch (const Error& error) {
      EXPECT_EQ(ours, "refused") << error.what();
      EXPECT_EQ(error.kind(), ErrorKind::input);
      EXPECT_NE(error.where().find("config.json: "), std::string::npos) << error.where();
      ++refused;
      continue;
    }
    ASSERT_NE(ours, "refused");
    if (result.contains("error")) continue;
    const ModelSpec& spec = model->spec;
    const RotarySpec& rotary = spec.rotaries[0];
    EXPECT_EQ(rotary.dimensions, result["dimensions"].get<uint64_t>());
    expect_frequencies(rotary.inverse_frequencies(), result["frequencies"], "frequencies");
    EXPECT_NEAR(rotary.attention_factor, result["factor"].get<double>(), 1e-6);
    if (result.contains("long")) {
      const uint64_t original = result["original"];
      EXPECT_EQ(rotary.original_context, original);
      expect_frequencies(rotary.inverse_frequencies(original + 1), result["long"], "long");
    }
    if (result.contains("sliding"))
      expect_frequencies(spec.rotaries[1].inverse_frequencies(), result["sliding"], "sliding");
    for (uint64_t n = 0; n < spec.layers; ++n) {
      const uint64_t window = result["windows"][n];
      EXPECT_EQ(spec.block(n).window, window < spec.context ? window : 0) << n;
    }
    ++equal;
  }
  EXPECT_EQ(equal, 169u);
  EXPECT_EQ(refused, 32u);
  std::filesystem::remove_all(folder);
}

// Whoever reads one of two places says so, with both names.
TEST(Config, ADisagreementIsNoted) {
  const nlohmann::json base = nlohmann::json::parse(read_file(kData / "qwen2_bias/config.json"));
  const auto notes = [&](const nlohmann::json& changes) {
    nlohmann::json config = base;
    config.update(changes);
    return all(read_config(config, "config.json", "n").notes);
  };
  EXPECT_EQ(notes(nlohmann::json::object()), "");
  const nlohmann::json yarn = {{"rope_type", "yarn"}, {"factor", 4.0}, {"original_max_position_embeddings", 64}};
  for (const auto& [changes, words] : std::vector<std::pair<nlohmann::json, std::vector<std::string>>>{
           {{{"rope_scaling", yarn}}, {"rope_scaling", "rope_parameters"}},
           {{{"rope_theta", 700.0}}, {"rope_theta", "700"}},
           {{{"rope_parameters", yarn}, {"original_max_position_embeddings", 32}},
            {"original_max_position_embeddings", "32", "64"}},
           {{{"partial_rotary_factor", 0.5}}, {"partial_rotary_factor", "0.5", "whole"}},
           {{{"rope_parameters", {{"rope_type", "default"}, {"factor", 3.0}}}}, {"factor"}},
           {{{"residual_multiplier", 0.2}}, {"residual_multiplier"}},
           {{{"scale_attn_by_inverse_layer_idx", true}}, {"scale_attn_by_inverse_layer_idx"}},
           {{{"final_logit_softcapping", 30.0}}, {"final_logit_softcapping"}}})
    for (const std::string& word : words)
      EXPECT_NE(notes(changes).find(word), std::string::npos) << changes << notes(changes);
  for (const nlohmann::json changes : {nlohmann::json{{"residual_multiplier", nullptr}},
                                       {{"logits_scaling", false}},
                                       {{"attention_dropout", 0.1}},
                                       {{"head_count_of_task", 0}}})
    EXPECT_EQ(notes(changes), "") << changes;
}

// A key of another family does nothing: it is as if it were not there.
TEST(Config, KeysOfOtherFamiliesAreNotObeyed) {
  const nlohmann::json base = nlohmann::json::parse(read_file(kData / "llama_gqa/config.json"));
  const KeyValues plain = read_config(base, "c", "n").metadata;
  nlohmann::json config = base;
  config.update({{"scale_attn_by_inverse_layer_idx", true},
                 {"scale_attn_weights", false},
                 {"do_layer_norm_before", false},
                 {"final_logit_softcapping", 30.0},
                 {"word_embed_proj_dim", 32},
                 {"_remove_final_layer_norm", true},
                 {"layer_norm_elementwise_affine", false},
                 {"query_pre_attn_scalar", 7}});
  const FolderConfig read = read_config(config, "c", "n");
  for (const char* key : {"attention.scale_by_layer", "attention.scale", "norm_after", "final_logit_softcapping",
                          "embedding_length_input", "final_norm_removed", "norms_without_gain"})
    EXPECT_FALSE(read.metadata.has(std::string("llama.") + key)) << key;
  EXPECT_EQ(read.notes.size(), 1u);
}

TEST(Config, WhatNoDescriptionCanSayIsRefused) {
  const nlohmann::json base = nlohmann::json::parse(read_file(kData / "llama_gqa/config.json"));
  for (const auto& [key, value] :
       std::vector<std::pair<std::string, nlohmann::json>>{{"is_causal", false},
                                                           {"is_causal", nullptr},
                                                           {"per_layer_config", {{"0", {{"hidden_size", 3}}}}},
                                                           {"text_config", {{"hidden_size", 64}}},
                                                           {"pruned_heads", {{"0", {1}}}},
                                                           {"is_encoder_decoder", true}}) {
    nlohmann::json config = base;
    config[key] = value;
    try {
      read_config(config, "config.json", "n");
      ADD_FAILURE() << key;
    } catch (const Error& error) {
      EXPECT_EQ(error.where(), "config.json: " + key);
    }
  }
  nlohmann::json gpt2 = nlohmann::json::parse(read_file(kData / "gpt2/config.json"));
  gpt2["hidden_size"] = gpt2["n_embd"];
  EXPECT_EQ(all(read_config(gpt2, "c", "n").notes), "");
  gpt2["hidden_size"] = 128;
  EXPECT_THROW(read_config(gpt2, "c", "n"), Error);
  nlohmann::json qwen = nlohmann::json::parse(read_file(kData / "qwen3_qknorm/config.json"));
  qwen["head_dim"] = nullptr;
  EXPECT_THROW(read_config(qwen, "c", "n"), Error);
}

}  // namespace
}  // namespace whit
