#include <gtest/gtest.h>

#include <cstring>

#include "format/format.h"
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
    EXPECT_EQ(model->spec.rotary.frequency_divisors.size(), std::string(name) == "llama31_rope" ? 8u : 0u);
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

}  // namespace
}  // namespace whit
