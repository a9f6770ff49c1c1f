#include <gtest/gtest.h>

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

}  // namespace
}  // namespace whit
