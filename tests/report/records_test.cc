#include "report/records.h"

#include <gtest/gtest.h>

#include <cmath>

#include "base/error.h"

namespace whit {
namespace {

std::vector<std::string> keys(const Json& json) {
  std::vector<std::string> names;
  for (const auto& [key, value] : json.items()) names.push_back(key);
  return names;
}

// The contract of `whit eval --json`: these names, and null for what was not measured.
TEST(Records, EvalRowKeys) {
  EvalRow row;
  row.file_bytes = 98362432;
  row.perplexity_half = std::numeric_limits<double>::infinity();
  const Json json = to_json(row);
  for (const char* key : {"model", "file_bytes", "file_bits_per_weight", "activations", "context", "windows",
                          "perplexity_half", "perplexity_half_error", "perplexity_all", "kl_mean", "kl_mean_error",
                          "kl_median", "kl_p99", "same_top", "tokens_per_second", "peak_bytes"})
    EXPECT_TRUE(json.contains(key)) << key;
  EXPECT_EQ(json["file_bytes"].dump(), "98362432");
  EXPECT_TRUE(json["perplexity_half"].is_null());
  EXPECT_TRUE(json["kl_mean"].is_null());
}

// The contract of `whit inspect --json`.
TEST(Records, ModelKeys) {
  ModelRecord model;
  model.tensors.push_back({"output_norm.weight", "f32", {64}, 256, 32});
  const Json json = to_json(model, false);
  EXPECT_EQ(keys(json), (std::vector<std::string>{"architecture", "weights", "file_bytes", "file_bits_per_weight",
                                                  "integrity", "notes", "tensors"}));
  EXPECT_EQ(keys(json["tensors"][0]),
            (std::vector<std::string>{"name", "shape", "format", "bytes", "bits_per_weight"}));
  // Only where they say something.
  model.tensors[0].paper_bits = 1.25;
  model.tensors[0].parts = {{"signs", 200}, {"scales", 56}};
  const Json more = to_json(model, false);
  EXPECT_EQ(more["tensors"][0]["paper_bits"], 1.25);
  EXPECT_EQ(more["tensors"][0]["parts"].dump(), R"({"signs":200,"scales":56})");
  EXPECT_EQ(to_json(model_record_from(more, "m"), false), more);
}

TEST(Records, ResultsComeBack) {
  Results results;
  results.title = "t";
  results.rows.resize(2);
  results.rows[0].model = "a/b.gguf";
  results.rows[0].kl_mean = 0.25;
  results.rows[1].paired_with = "a/b.gguf";
  results.rows[1].paired_kl = -0.5;
  results.models.push_back(
      {"a/b.gguf", "llama", "ok", 10, 20, 16, {{"blk.0.attn_q.weight", "grid3-g32", {2, 4}, 5, 5}}});
  results.answers.push_back({"a/b.gguf", "</script><b>&"});
  results.references.push_back({"Q4_0", 1e6, 0.1, not_measured});
  const Json json = to_json(results);
  EXPECT_EQ(to_json(results_from(Json::parse(json.dump()), "r")).dump(), json.dump());
}

TEST(Records, WrongTypesAreNamed) {
  for (const char* text :
       {R"([])", R"({"rows": 3})", R"({"rows": [4]})", R"({"rows": [{"kl_mean": "x"}]})", R"({"title": 1})",
        R"({"models": [{"tensors": [{"bytes": -1}]}]})", R"({"models": [{"tensors": [{"shape": [-1]}]}]})",
        R"({"answers": [[]]})", R"({"rows": [{"paired": 1}]})"}) {
    try {
      results_from(Json::parse(text), "r.json");
      ADD_FAILURE() << text;
    } catch (const Error& error) {
      EXPECT_EQ(error.kind(), ErrorKind::input) << text;
      EXPECT_NE(error.where().find("r.json"), std::string::npos);
    }
  }
  EXPECT_TRUE(std::isnan(results_from(Json::parse(R"({"rows": [{}]})"), "r").rows[0].kl_mean));
}

TEST(Records, LayersByBlockAndKind) {
  ModelRecord model;
  model.tensors = {
      {"token_embd.weight", "q8_0", {10, 4}, 0, 8.5},     {"blk.0.attn_q.weight", "q4_0", {4, 4}, 0, 4.5},
      {"blk.0.attn_k.weight", "f16", {4, 4}, 0, 16},      {"blk.0.attn_norm.weight", "f32", {4}, 0, 32},
      {"blk.2.ffn_gate_up.weight", "grid", {8, 4}, 0, 3}, {"blk.1000000000.ffn_down.weight", "grid", {8, 4}, 0, 3},
      {"blk.x.ffn_down.weight", "grid", {8, 4}, 0, 3}};
  const LayerBits layers = layer_bits(model);
  EXPECT_EQ(layers.blocks, 3u);
  EXPECT_EQ(layers.kinds, (std::vector<std::string>{"attn_qkv", "ffn_gate_up"}));
  EXPECT_DOUBLE_EQ(layers.bits[0][0], 10.25);
  EXPECT_TRUE(std::isnan(layers.bits[0][1]));
  EXPECT_DOUBLE_EQ(layers.bits[1][2], 3);
  EXPECT_DOUBLE_EQ(layers.embedding, 8.5);
  EXPECT_TRUE(std::isnan(layers.output));
}

TEST(Records, ShortNames) {
  EXPECT_EQ(short_name("a/b/c.gguf"), "c");
  EXPECT_EQ(short_name("folder/"), "folder");
  EXPECT_EQ(short_name("SmolLM2.Q4_1.gguf"), "SmolLM2.Q4_1");
}

TEST(Records, TableHasKlOnlyWhereItWasMeasured) {
  std::vector<EvalRow> rows(1);
  EXPECT_EQ(text_table(eval_table(rows)).find("KL"), std::string::npos);
  rows[0].kl_mean = 0.5;
  EXPECT_NE(text_table(eval_table(rows)).find("0.50000"), std::string::npos);
}

}  // namespace
}  // namespace whit
