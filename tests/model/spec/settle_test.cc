// What is stored, held against what is said: tied matrices, biases, norms, scales that nobody needs.
#include <gtest/gtest.h>

#include "base/error.h"
#include "base/half.h"
#include "format/container.h"
#include "format/format.h"
#include "format/gguf_builder.h"
#include "model/spec/folder_copy.h"
#include "model/spec/model.h"

namespace whit {
namespace {

constexpr const char *kHead = "lm_head.weight", *kEmbedding = "model.embed_tokens.weight";

bool notes_say(const Model& model, const std::string& words) {
  for (const std::string& note : model.notes)
    if (note.find(words) != std::string::npos) return true;
  return false;
}

Error refused(const std::filesystem::path& path) {
  try {
    load_model(path);
  } catch (const Error& error) {
    return error;
  }
  ADD_FAILURE() << "was accepted";
  return Error(ErrorKind::internal, "");
}

void expect_one_matrix(const Model& model, const Model& right, const std::string& note) {
  EXPECT_TRUE(model.spec.tied_output);
  EXPECT_EQ(model.spec.weights(), right.spec.weights());
  EXPECT_EQ(model.tensors.size(), right.tensors.size());
  EXPECT_EQ(units_of(model.spec).size(), units_of(right.spec).size());
  EXPECT_TRUE(notes_say(model, note)) << note;
  std::vector<float> a(model.spec.width), b(a);
  unpack_rows(model.find("token_embd.weight"), 3, 1, a);
  unpack_rows(right.find("token_embd.weight"), 3, 1, b);
  EXPECT_EQ(a, b);
}

TEST(Tied, AMatrixThatIsStoredTwiceIsOne) {
  const FolderCopy folder("llama_tied_smollm");
  const ModelPtr right = load_model(folder.path);
  EXPECT_TRUE(right->notes.empty());
  auto tensors = folder.tensors();
  tensors[kHead] = tensors[kEmbedding];
  folder.tensors(tensors);
  expect_one_matrix(*load_model(folder.path), *right, "a copy");
  for (const nlohmann::json word : {nlohmann::json(false), nlohmann::json(nullptr), nlohmann::json("DELETE")}) {
    folder.config({{"tie_word_embeddings", word}});
    expect_one_matrix(*load_model(folder.path), *right, "a copy");
  }
}

// An index that leaves a tensor out, or says another size, is said; the tensors are read.
TEST(Index, WhatItSaysOtherwiseIsSaid) {
  const FolderCopy folder("llama_tied_smollm");
  const auto tensors = folder.tensors();
  uint64_t bytes = 0;
  nlohmann::json map;
  for (const auto& [name, tensor] : tensors) {
    bytes += tensor.bytes.size();
    map[name] = "a.safetensors";
  }
  std::filesystem::rename(folder.path / "model.safetensors", folder.path / "a.safetensors");
  const auto notes = [&](const nlohmann::json& index) {
    write_file(folder.path / "model.safetensors.index.json", index.dump(), true);
    const ModelPtr model = load_model(folder.path);
    EXPECT_EQ(model->tensors.size(), tensors.size());
    return model->notes;
  };
  EXPECT_TRUE(notes({{"weight_map", map}}).empty());
  EXPECT_TRUE(notes({{"weight_map", map}, {"metadata", {{"total_size", bytes}}}}).empty());
  const auto size = notes({{"weight_map", map}, {"metadata", {{"total_size", bytes + 4}}}});
  ASSERT_EQ(size.size(), 1u);
  EXPECT_NE(size[0].find("total_size"), std::string::npos);
  map.erase("model.norm.weight");
  const auto left_out = notes({{"weight_map", map}});
  ASSERT_EQ(left_out.size(), 1u);
  EXPECT_NE(left_out[0].find("model.norm.weight"), std::string::npos);
}

// The same numbers in two types; the smaller is kept.
TEST(Tied, EqualWeightsInTwoTypesAreOne) {
  const FolderCopy folder("llama_tied_smollm");
  auto tensors = folder.tensors();
  RawTensor& narrow = tensors[kEmbedding];
  RawTensor wide = narrow;
  ASSERT_EQ(wide.dtype, "F32");
  narrow = {"BF16", "", wide.shape};
  for (size_t i = 0; i < wide.bytes.size(); i += 4) {  // the upper half of an F32 is a BF16
    wide.bytes[i] = wide.bytes[i + 1] = '\0';
    narrow.bytes += wide.bytes.substr(i + 2, 2);
  }
  folder.tensors(tensors);
  const ModelPtr right = load_model(folder.path);
  tensors[kHead] = wide;
  folder.tensors(tensors);
  expect_one_matrix(*load_model(folder.path), *right, "a copy");
  std::swap(tensors[kHead], tensors[kEmbedding]);
  folder.tensors(tensors);
  const ModelPtr other = load_model(folder.path);
  expect_one_matrix(*other, *right, "a copy");
  EXPECT_EQ(other->find("token_embd.weight").tensor->format->name(), "bf16");
  tensors[kEmbedding].bytes[2] ^= 1;  // a bit that BF16 has not
  folder.tensors(tensors);
  EXPECT_FALSE(load_model(folder.path)->spec.tied_output);
}

// Q8_0 and what it stands for.
TEST(Tied, EqualWeightsOfABlockTypeAreOne) {
  const ModelPtr model = load_model(std::filesystem::path(WHIT_TESTS_DIR) / "data/llama_tied_smollm");
  const std::filesystem::path path = std::filesystem::path(testing::TempDir()) / "whit_settle_blocks.gguf";
  const auto with_output = [&](float more) {
    ModelOutput output;
    output.metadata = model->metadata;
    output.manifest = "{}";
    const auto add = [&](const std::string& name, const StoredTensor& from, std::shared_ptr<const Packed> packed) {
      output.tensors.push_back({name, from.shape, from.dimensions, {}, packed->format, [packed] { return packed; }});
    };
    for (const StoredTensor& tensor : model->tensors) {
      std::vector<float> values(tensor.shape.count());
      unpack_rows({&tensor, 0, tensor.shape.rows}, 0, tensor.shape.rows, values);
      if (tensor.name != "token_embd.weight") {
        add(tensor.name, tensor, std::make_shared<const Packed>(pack_dense(make_format("f32"), tensor.shape, values)));
        continue;
      }
      const auto blocks = std::make_shared<const Packed>(pack_rounded(make_format("q8_0"), tensor.shape, values));
      blocks->format->unpack(tensor.shape, blocks->views(), 0, tensor.shape.rows, values.data());
      values.back() += more;
      add(tensor.name, tensor, blocks);
      add("output.weight", tensor,
          std::make_shared<const Packed>(pack_dense(make_format("f32"), tensor.shape, values)));
    }
    AtomicFile file(path, true);
    write_model_file(file, output);
    file.commit();
    return load_model(path);
  };
  const ModelPtr tied = with_output(0);
  EXPECT_TRUE(tied->spec.tied_output);
  EXPECT_TRUE(notes_say(*tied, "a copy"));
  EXPECT_EQ(tied->find("token_embd.weight").tensor->format->name(), "q8_0");
  EXPECT_FALSE(with_output(1e-3f)->spec.tied_output);
}

TEST(Tied, AnotherMatrixThanTheConfigurationSaysIsUsedAndNoted) {
  const FolderCopy folder("llama_tied_smollm");
  auto tensors = folder.tensors();
  tensors[kHead] = tensors[kEmbedding];
  tensors[kHead].bytes.back() ^= 1;
  folder.tensors(tensors);
  const ModelPtr model = load_model(folder.path);
  EXPECT_FALSE(model->spec.tied_output);
  EXPECT_TRUE(notes_say(*model, "another one"));
}

TEST(Tied, EitherNameWillDo) {
  const FolderCopy folder("llama_tied_smollm");
  const ModelPtr right = load_model(folder.path);
  auto tensors = folder.tensors();
  tensors[kHead] = tensors[kEmbedding];
  tensors.erase(kEmbedding);
  folder.tensors(tensors);
  expect_one_matrix(*load_model(folder.path), *right, "the embedding is not there");
  folder.config({{"tie_word_embeddings", false}});
  EXPECT_NE(refused(folder.path).where().find("token_embd.weight"), std::string::npos);
}

TEST(Tied, AMatrixThatWasSaidAndIsNotThereIsRefused) {
  const FolderCopy folder("llama_tied_smollm");
  for (const nlohmann::json word :
       {nlohmann::json(false), nlohmann::json("DELETE")}) {  // a llama is not tied by itself
    folder.config({{"tie_word_embeddings", word}});
    const Error error = refused(folder.path);
    EXPECT_EQ(error.kind(), ErrorKind::input);
    EXPECT_NE(error.where().find("tie_word_embeddings"), std::string::npos);
    EXPECT_NE(error.found().find("lm_head.weight"), std::string::npos);
  }
  const FolderCopy gemma("gemma3_text");  // and a Gemma is
  gemma.config({{"tie_word_embeddings", "DELETE"}});
  EXPECT_TRUE(load_model(gemma.path)->spec.tied_output);
}

// A llama of one block, 8 wide, with 4 tokens; `ends` are the matrices of 4 x 8 and what they hold.
std::filesystem::path tiny_gguf(const std::vector<std::pair<std::string, float>>& ends,
                                const std::vector<std::string>& vectors = {}) {
  GgufBuilder b;
  b.header(11 + ends.size() - 1 + vectors.size(), 10)
      .text_key("general.architecture", "llama")
      .text_key("general.name", "tiny");
  for (const auto& [key, value] : {std::pair<const char*, uint32_t>{"block_count", 1},
                                   {"embedding_length", 8},
                                   {"context_length", 8},
                                   {"feed_forward_length", 8},
                                   {"attention.head_count", 1}})
    b.key<uint32_t>(std::string("llama.") + key, 4, value);
  b.key<float>("llama.attention.layer_norm_rms_epsilon", 6, 1e-5f);
  b.text_key("llama.rope.scaling.type", vectors.empty() ? "none" : "yarn")
      .key<float>("llama.rope.scaling.factor", 6, 2.0f);
  std::string data;
  const auto add = [&](const std::string& name, const std::vector<uint64_t>& shape, float value) {
    b.info(name, shape, 0, data.size());
    uint64_t count = 1;
    for (const uint64_t size : shape) count *= size;
    for (uint64_t i = 0; i < count; ++i) data.append(reinterpret_cast<const char*>(&value), 4);
    data.resize((data.size() + 31) / 32 * 32);
  };
  for (const auto& [name, value] : ends) add(name, {8, 4}, value);
  for (const char* norm : {"output_norm", "blk.0.attn_norm", "blk.0.ffn_norm"})
    add(std::string(norm) + ".weight", {8}, 1);
  for (const char* name : {"attn_q", "attn_k", "attn_v", "attn_output", "ffn_gate", "ffn_up", "ffn_down"})
    add(std::string("blk.0.") + name + ".weight", {8, 8}, 0.5f);
  for (const std::string& name : vectors) add(name, {4}, 1);
  b.pad();
  const std::filesystem::path path = std::filesystem::path(testing::TempDir()) / "whit_settle_test.gguf";
  write_file(path, b.bytes + data, true);
  return path;
}

TEST(Tied, GgufFilesToo) {
  const ModelPtr right = load_model(tiny_gguf({{"token_embd.weight", 0.25f}}));
  EXPECT_TRUE(right->notes.empty());
  const ModelPtr kept = load_model(tiny_gguf({{"token_embd.weight", 0.25f}}));
  expect_one_matrix(*load_model(tiny_gguf({{"token_embd.weight", 0.25f}, {"output.weight", 0.25f}})), *kept, "a copy");
  expect_one_matrix(*load_model(tiny_gguf({{"output.weight", 0.25f}})), *kept, "the embedding is not there");
  EXPECT_FALSE(load_model(tiny_gguf({{"token_embd.weight", 0.25f}, {"output.weight", 0.5f}}))->spec.tied_output);
}

// Frequencies that a tensor scales and a key too: which is meant is not known.
TEST(Rotary, TwoScalingsInAGgufAreRefused) {
  for (const char* tensor : {"rope_freqs.weight", "rope_factors_long.weight", "rope_factors_short.weight"}) {
    SCOPED_TRACE(tensor);
    EXPECT_NE(refused(tiny_gguf({{"token_embd.weight", 0.25f}}, {tensor})).message().find("in two ways"),
              std::string::npos);
  }
}

// Keys of other families, or of none, are said; those that cannot be left out are refused.
TEST(Keys, OfAGgufThatNobodyReadsAreNoted) {
  const auto edited = [](const std::string& from, const std::string& to) {
    const std::filesystem::path path = tiny_gguf({{"token_embd.weight", 0.25f}});
    std::string bytes = read_file(path);
    bytes.replace(bytes.find(from), from.size(), to);
    write_file(path, bytes, true);
    return path;
  };
  EXPECT_TRUE(load_model(edited("llama.rope.scaling.factor", "llama.embedding_scaling_x"))
                  ->notes.at(0)
                  .find("llama.embedding_scaling_x") != std::string::npos);
}

// ---- biases and norms ----

RawTensor floats(const std::vector<float>& values) {
  return {
      "F32", std::string(reinterpret_cast<const char*>(values.data()), values.size() * sizeof(float)), {values.size()}};
}

TEST(Biases, ThoseThatNobodySpeaksOfAreRefused) {
  const FolderCopy folder("llama_gqa");
  const ModelPtr right = load_model(folder.path);
  auto tensors = folder.tensors();
  const std::string name = "model.layers.1.self_attn.k_proj.bias";
  tensors[name] = floats(std::vector<float>(32, 0.0f));
  folder.tensors(tensors);
  EXPECT_EQ(load_model(folder.path)->tensors.size(), right->tensors.size());  // zeros add nothing
  tensors[name] = floats(std::vector<float>(32, 0.5f));
  folder.tensors(tensors);
  const Error error = refused(folder.path);
  EXPECT_NE(error.where().find("blk.1.attn_k.bias"), std::string::npos);
  EXPECT_NE(error.found().find("attention_bias"), std::string::npos);
}

TEST(Biases, ThoseThatAreSaidAndNotThereAreNoted) {
  const FolderCopy folder("llama_gqa");
  folder.config({{"attention_bias", true}});
  const ModelPtr model = load_model(folder.path);
  EXPECT_TRUE(model->spec.biases.empty());
  EXPECT_TRUE(notes_say(*model, "attn_q, attn_k, attn_v, attn_output"));
  const FolderCopy biased("llama_bias");
  EXPECT_FALSE(load_model(biased.path)->spec.biases.empty());
  EXPECT_TRUE(load_model(biased.path)->notes.empty());
  biased.config({{"attention_bias", false}});
  refused(biased.path);
  const FolderCopy qwen("qwen2_bias");  // has them whatever the key says
  qwen.config({{"attention_bias", false}});
  EXPECT_EQ(load_model(qwen.path)->spec.biases.size(), 3u);
  const FolderCopy opt("opt_post");
  opt.config({{"enable_bias", false}});
  refused(opt.path);
}

TEST(Norms, WithoutWeightsAreNotThere) {
  const FolderCopy folder("opt_post");
  folder.config({{"layer_norm_elementwise_affine", false}});
  EXPECT_NE(refused(folder.path).where().find("layer_norm_elementwise_affine"), std::string::npos);
}

TEST(Rows, AreAsManyAsTheConfigurationSays) {
  const FolderCopy folder("llama_gqa");
  folder.config({{"vocab_size", 1000}});
  EXPECT_NE(refused(folder.path).where().find("vocab_size"), std::string::npos);
}

TEST(Cache, ScalesOfEightBitsAreReadPast) {
  const FolderCopy folder("llama_gqa");
  const size_t count = load_model(folder.path)->tensors.size();
  auto tensors = folder.tensors();
  for (const char* name : {"self_attn.k_scale", "self_attn.v_scale", "self_attn.k_proj.k_scale",
                           "self_attn.v_proj.output_scale", "self_attn.attn.q_scale"})
    tensors[std::string("model.layers.0.") + name] = {"F32", std::string(4, '\x3f'), {}};
  folder.tensors(tensors);
  const ModelPtr model = load_model(folder.path);
  EXPECT_EQ(model->tensors.size(), count);
  EXPECT_TRUE(notes_say(*model, "5 scales"));
  folder.config({{"quantization_config",
                  {{"quant_method", "compressed-tensors"},
                   {"format", "dense"},
                   {"kv_cache_scheme", {{"num_bits", 8}, {"type", "float"}}}}}});
  EXPECT_EQ(load_model(folder.path)->tensors.size(), count);
  tensors["model.layers.0.self_attn.q_proj.odd_scale"] = {"F32", std::string(4, '\x3f'), {}};
  folder.tensors(tensors);
  refused(folder.path);
}

}  // namespace
}  // namespace whit
