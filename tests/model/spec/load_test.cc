#include <gtest/gtest.h>

#include <cstring>

#include "base/error.h"
#include "base/file.h"
#include "format/format.h"
#include "format/gguf_builder.h"
#include "model/spec/config.h"
#include "model/spec/model.h"

namespace whit {
namespace {

const std::filesystem::path kData = WHIT_TESTS_DIR "/data";

TEST(LoadGguf, Stories260K) {
  const ModelPtr model = load_model(kData / "models/stories260K.gguf");
  EXPECT_EQ(model->spec.family, "llama");
  EXPECT_EQ(model->spec.width, 64u);
  EXPECT_EQ(model->spec.layers, 5u);
  EXPECT_EQ(model->spec.heads, 8u);
  EXPECT_EQ(model->spec.kv_heads, 4u);
  EXPECT_EQ(model->spec.head_size, 8u);
  EXPECT_EQ(model->spec.feed_forward, 172u);
  EXPECT_EQ(model->spec.vocabulary, 512u);
  EXPECT_EQ(model->weights, "gguf F32");
  EXPECT_EQ(model->integrity, "absent");
  const TensorView view = model->find("blk.0.attn_q.weight");
  ASSERT_TRUE(view);
  std::vector<float> row(64);
  unpack_rows(view, 3, 1, row);
  EXPECT_NE(row[0], 0.0f);
}

TEST(LoadFolder, Fixtures) {
  for (const char* name : {"llama_gqa", "llama_tied_smollm", "llama31_rope", "llama2_sentencepiece"}) {
    SCOPED_TRACE(name);
    const ModelPtr model = load_model(kData / name);
    EXPECT_EQ(model->spec.width, 64u);
    EXPECT_EQ(model->spec.head_size, 16u);
    EXPECT_EQ(model->spec.tied_output, std::string(name) == "llama_tied_smollm");
    EXPECT_EQ(model->spec.rotaries[0].frequency_divisors.size(), std::string(name) == "llama31_rope" ? 8u : 0u);
    EXPECT_EQ(model->metadata.string("general.name"), name);
    EXPECT_TRUE(model->tokenizer_files.contains("tokenizer.json"));
    EXPECT_FALSE(model->content_hash.empty());
  }
}

// Row 2i of a head in GGUF order is row i of the folder, row 2i + 1 is row i + D/2 (formats of llama).
TEST(LoadFolder, HalfSplitRows) {
  const ModelPtr model = load_model(kData / "llama_gqa");
  const TensorView view = model->find("blk.1.attn_k.weight");
  ASSERT_EQ(view.rows, 32u);
  ASSERT_EQ(view.tensor->half_split_head, 16u);
  std::vector<float> ours(32 * 64);
  unpack_rows(view, 0, 32, ours);
  const auto* stored = reinterpret_cast<const float*>(view.tensor->parts[0].data());
  for (size_t head = 0; head < 2; ++head)
    for (size_t i = 0; i < 8; ++i)
      for (size_t j = 0; j < 64; ++j) {
        EXPECT_EQ(ours[(head * 16 + 2 * i) * 64 + j], stored[(head * 16 + i) * 64 + j]);
        EXPECT_EQ(ours[(head * 16 + 2 * i + 1) * 64 + j], stored[(head * 16 + i + 8) * 64 + j]);
      }
  const Packed copied = copy_packed(view);
  EXPECT_EQ(std::memcmp(copied.parts[0].data(), ours.data(), ours.size() * sizeof(float)), 0);
}

// ---- config.json ----

nlohmann::json right_config() {
  return nlohmann::json::parse(R"({"architectures": ["LlamaForCausalLM"], "model_type": "llama", "hidden_act": "silu",
    "hidden_size": 64, "intermediate_size": 160, "num_attention_heads": 4, "num_hidden_layers": 3, "num_key_value_heads": 2,
    "max_position_embeddings": 256, "rms_norm_eps": 1e-6, "vocab_size": 100})");
}

TEST(Config, BothSpellingsOfRotaryParameters) {
  nlohmann::json four = right_config(), five = right_config();
  EXPECT_EQ(read_config(four, "c", "n").metadata.number("llama.rope.freq_base"), 10000.0);
  EXPECT_EQ(read_config(four, "c", "n").head_size, 16u);
  const nlohmann::json scaling = {
      {"factor", 8.0}, {"low_freq_factor", 1.0}, {"high_freq_factor", 4.0}, {"original_max_position_embeddings", 64}};
  four["rope_theta"] = 500000.0;
  four["rope_scaling"] = scaling;
  four["rope_scaling"]["type"] = "llama3";
  five["rope_parameters"] = scaling;
  five["rope_parameters"]["rope_type"] = "llama3";
  five["rope_parameters"]["rope_theta"] = 500000.0;
  const FolderConfig a = read_config(four, "c", "n"), b = read_config(five, "c", "n");
  EXPECT_EQ(a.divisors.at("rope_freqs.weight"), b.divisors.at("rope_freqs.weight"));
  ASSERT_EQ(a.divisors.at("rope_freqs.weight").size(), 8u);
  EXPECT_EQ(a.divisors.at("rope_freqs.weight").front(), 1.0f);  // a wavelength of 2 pi is short
  EXPECT_EQ(a.divisors.at("rope_freqs.weight").back(), 8.0f);   // one of 2 pi 500000^(7/8) is long
  EXPECT_EQ(a.metadata.number("llama.rope.freq_base"), 500000.0);

  nlohmann::json linear = right_config();
  linear["rope_scaling"] = {{"type", "linear"}, {"factor", 2}};
  linear["head_dim"] = 32;
  const KeyValues keys = read_config(linear, "c", "n").metadata;
  EXPECT_EQ(keys.string("llama.rope.scaling.type"), "linear");
  EXPECT_EQ(keys.number("llama.rope.scaling.factor"), 2.0);
  EXPECT_EQ(keys.unsigned_integer("llama.attention.key_length"), 32u);
}

TEST(Config, WhatIsUnknownIsRefusedByName) {
  const std::vector<std::tuple<std::string, nlohmann::json, std::string>> cases = {
      {"model_type", "mamba", "\"mamba\""},
      {"model_type", "qwen2", "LlamaForCausalLM"},
      {"model_type", nullptr, "nothing"},
      {"architectures", {"LlamaForSequenceClassification"}, "LlamaForSequenceClassification"},
      {"hidden_act", "mish", "\"mish\""},
      {"hidden_size", -64, "-64"},
      {"hidden_size", 66, "4"},
      {"hidden_size", "64", "\"64\""},
      {"hidden_size", 1e300, "e+300"},
      {"num_hidden_layers", 0, "0"},
      {"num_attention_heads", nullptr, "nothing"},
      {"rms_norm_eps", "small", "small"},
      {"rms_norm_eps", -1, "-1"},
      {"head_dim", 15, "15"},
      {"rope_theta", 0, "0"},
      {"rope_scaling", {{"type", "yarn"}, {"factor", 2}, {"mscale", -1}, {"mscale_all_dim", 1}}, "-1"},
      {"rope_scaling", {{"type", "longrope"}, {"short_factor", {1, 2}}}, "[1,2]"},
      {"rope_scaling", {{"rope_type", "dynamic"}}, "nothing"},
      {"rope_scaling", {{"rope_type", "proportional"}}, "proportional"},
      {"rope_scaling", {{"type", "linear"}}, "nothing"},
      {"rope_scaling", {{"type", "llama3"}, {"factor", 8}}, "nothing"},
      {"rope_scaling", 3, "3"},
      {"rope_parameters", {{"rope_type", "linear"}, {"factor", 2}, {"partial_rotary_factor", 0.5}}, "0.5"},
      {"sliding_window", 4096, "4096"},
  };
  for (const auto& [key, value, found] : cases) {
    SCOPED_TRACE(key + " = " + value.dump());
    nlohmann::json config = right_config();
    config[key] = value;
    try {
      read_config(config, "config.json", "n");
      ADD_FAILURE() << "was accepted";
    } catch (const Error& error) {
      EXPECT_EQ(error.kind(), ErrorKind::input);
      EXPECT_NE(error.where().find("config.json"), std::string::npos);
      EXPECT_NE(error.found().find(found), std::string::npos) << error.what();
    }
  }
  EXPECT_THROW(read_config(nlohmann::json::parse("[]"), "c", "n"), Error);
}

// ---- broken folders and files: a message with the kind, nothing worse ----

class Folder : public testing::Test {
 protected:
  void SetUp() override {
    path_ = std::filesystem::path(testing::TempDir()) / "whit_folder_test";
    std::filesystem::remove_all(path_);
    std::filesystem::copy(kData / "llama_gqa", path_);
  }
  void TearDown() override { std::filesystem::remove_all(path_); }
  Error refused(ErrorKind kind) const {
    try {
      load_model(path_);
    } catch (const Error& error) {
      EXPECT_EQ(error.kind(), kind) << error.what();
      return error;
    }
    ADD_FAILURE() << "was accepted";
    return Error(ErrorKind::internal, "");
  }
  void replace_in_header(const std::string& from, const std::string& to) const {
    std::string bytes = read_file(path_ / "model.safetensors");
    ASSERT_EQ(from.size(), to.size());
    bytes.replace(bytes.find(from), from.size(), to);
    write_file(path_ / "model.safetensors", bytes, true);
  }
  std::filesystem::path path_;
};

TEST_F(Folder, MissingFiles) {
  std::filesystem::remove(path_ / "model.safetensors");
  refused(ErrorKind::io);
  std::filesystem::remove(path_ / "config.json");
  refused(ErrorKind::io);
  path_ /= "nowhere";
  refused(ErrorKind::io);
}

TEST_F(Folder, TruncatedWeights) {
  std::filesystem::resize_file(path_ / "model.safetensors", 100000);
  refused(ErrorKind::input);
}

TEST_F(Folder, DeepJson) {
  write_file(path_ / "config.json", std::string(1 << 20, '['), true);
  EXPECT_NE(refused(ErrorKind::input).message().find("deep"), std::string::npos);
}

TEST_F(Folder, UnknownTensor) {
  replace_in_header("model.layers.1.mlp.up_proj.weight", "model.layers.1.mlp.xx_proj.weight");
  EXPECT_NE(refused(ErrorKind::input).where().find("model.layers.1.mlp.xx_proj.weight"), std::string::npos);
}

TEST_F(Folder, MissingLayer) {
  replace_in_header("model.layers.1.mlp.up_proj.weight", "model.layers.9.mlp.up_proj.weight");
  EXPECT_NE(refused(ErrorKind::input).where().find("blk.1.ffn_up.weight"), std::string::npos);
}

TEST_F(Folder, WrongShapes) {
  for (const auto& [key, value] :
       {std::pair("hidden_size", 32), std::pair("intermediate_size", 161), std::pair("num_key_value_heads", 4),
        std::pair("num_hidden_layers", 2), std::pair("num_hidden_layers", 2000000000), std::pair("head_dim", 8)}) {
    SCOPED_TRACE(key);
    nlohmann::json config = nlohmann::json::parse(read_file(kData / "llama_gqa/config.json"));
    config[key] = value;
    write_file(path_ / "config.json", config.dump(), true);
    refused(ErrorKind::input);
  }
}

TEST_F(Folder, ShardsAreTheSameModel) {
  std::filesystem::rename(path_ / "model.safetensors", path_ / "model-00001-of-00001.safetensors");
  write_file(path_ / "model.safetensors.index.json",
             R"({"weight_map":{"lm_head.weight":"model-00001-of-00001.safetensors"}})", false);
  EXPECT_EQ(load_model(path_)->spec.weights(), load_model(kData / "llama_gqa")->spec.weights());
  write_file(path_ / "model.safetensors.index.json", R"({"weight_map":{"lm_head.weight":"../x.safetensors"}})", true);
  EXPECT_NE(refused(ErrorKind::input).found().find("../x"), std::string::npos);
}

TEST(LoadGguf, CutAndForeignFiles) {
  const std::filesystem::path path = std::filesystem::path(testing::TempDir()) / "whit_cut_test.gguf";
  const std::string bytes = read_file(kData / "models/stories260K.gguf");
  for (const size_t size : {size_t{0}, size_t{3}, size_t{1000}, bytes.size() / 2, bytes.size() - 200}) {
    write_file(path, bytes.substr(0, size), true);
    try {
      load_model(path);
      ADD_FAILURE() << size;
    } catch (const Error& error) {
      EXPECT_EQ(error.kind(), ErrorKind::input);
      EXPECT_NE(error.where().find(path.string()), std::string::npos) << error.what();
    }
  }
  std::string other = bytes;
  other.replace(other.find("llama"), 5, "lemma");
  write_file(path, other, true);
  try {
    load_model(path);
    FAIL();
  } catch (const Error& error) {
    EXPECT_EQ(error.kind(), ErrorKind::input);
    EXPECT_EQ(error.found(), "lemma");
  }
  std::filesystem::remove(path);
  EXPECT_THROW(load_model(path), Error);
}

// A kilobyte that speaks of heads of 2^32 elements is refused before a buffer of that size is asked for, and before
// heads times their size (2^64) wraps to nothing.
TEST(LoadGguf, HostileHeadsAreRefusedBeforeTheyAreMade) {
  for (const uint32_t heads : {1u, 1u << 31}) {
    GgufBuilder b;
    b.header(1, 11).text_key("general.architecture", "llama");
    b.key<uint32_t>("llama.block_count", 4, 1).key<uint32_t>("llama.embedding_length", 4, 8);
    b.key<uint32_t>("llama.context_length", 4, 8).key<uint32_t>("llama.feed_forward_length", 4, 8);
    b.key<uint32_t>("llama.attention.head_count", 4, heads);
    b.key<uint64_t>("llama.attention.key_length", 10, uint64_t{1} << 32);
    b.key<float>("llama.attention.layer_norm_rms_epsilon", 6, 1e-5f);
    b.text_key("llama.rope.scaling.type", "linear").key<float>("llama.rope.scaling.factor", 6, 2.0f);
    b.text_key("general.name", "hostile");
    b.info("token_embd.weight", {8, 8}, 0, 0).pad().zeros(256);
    const std::filesystem::path path = std::filesystem::path(testing::TempDir()) / "whit_hostile_heads.gguf";
    write_file(path, b.bytes, true);
    try {
      load_model(path);
      ADD_FAILURE() << heads;
    } catch (const Error& error) {
      EXPECT_EQ(error.kind(), ErrorKind::input);
      EXPECT_NE(error.where().find("llama.attention.head_count"), std::string::npos) << error.what();
    }
    std::filesystem::remove(path);
  }
}

// ---- the description ----

TEST(Spec, InverseFrequencies) {
  RotarySpec rotary;
  rotary.theta = 10000;
  rotary.dimensions = 8;
  EXPECT_EQ(rotary.inverse_frequencies()[0], 1.0);
  EXPECT_NEAR(rotary.inverse_frequencies()[3], 1e-3, 1e-18);
  rotary.frequency_divisors = {1, 2, 4, 8};
  EXPECT_NEAR(rotary.inverse_frequencies()[3], 1e-3 / 8, 1e-18);
  rotary.long_divisors = {10, 10, 10, 10};
  rotary.original_context = 64;
  EXPECT_NEAR(rotary.inverse_frequencies(64)[3], 1e-3 / 8, 1e-18);
  EXPECT_NEAR(rotary.inverse_frequencies(65)[3], 1e-4, 1e-18);
}

TEST(Spec, UnitsCoverAllWeights) {
  for (const std::string name : {"models/stories260K.gguf", "llama_gqa", "llama_tied_smollm", "gpt2", "opt_post",
                                 "qwen2_bias", "qwen3_qknorm"}) {
    const ModelPtr model = load_model(kData / name);
    uint64_t weights = 0;
    for (const StoredTensor& tensor : model->tensors)
      if (tensor.name != "rope_freqs.weight") weights += tensor.shape.count();
    EXPECT_EQ(model->spec.weights(), weights) << name;
    const std::vector<UnitSpec> units = units_of(model->spec);
    EXPECT_EQ(units.front().kind, "token_embd");
    EXPECT_EQ(units.back().kind, model->spec.tied_output ? "ffn_down" : "output");
    EXPECT_EQ(units.size(), 1 + 4 * model->spec.layers + (model->spec.tied_output ? 0 : 1));
    for (const UnitSpec& unit : units)
      for (size_t m = 0; m < unit.members.size(); ++m)
        EXPECT_NO_THROW(model->need(unit.members[m], {unit.member_rows[m], unit.cols}));
  }
}

}  // namespace
}  // namespace whit
