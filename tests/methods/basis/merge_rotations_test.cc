// merge_rotations: what becomes of a model's tensors, and what it refuses. That logits stay: pipeline/rotate_test.cc.
#include <gtest/gtest.h>

#include <cmath>

#include "methods/stages.h"
#include "model/spec/basis.h"
#include "model/torch/executor.h"

namespace whit {
namespace {

ModelPtr stories() {
  return load_model(std::filesystem::path(WHIT_TESTS_DIR) / "data/models/stories260K.gguf");
}

double norm(const Matrix& m) {
  double sum = 0;
  for (const float x : m.data) sum += static_cast<double>(x) * x;
  return std::sqrt(sum);
}

TEST(MergeRotations, GainsAndRotationsAreInTheWeights) {
  const ModelPtr model = stories();
  const ModelPtr turned = make_basis("merge_rotations", {{"seed", 7}})->change(model);
  ASSERT_TRUE(turned->spec.stream_rotation);
  EXPECT_EQ(turned->content_hash, model->content_hash);
  EXPECT_NE(turned->weights_hash(), model->weights_hash());
  const uint64_t width = model->spec.width;
  EXPECT_EQ(turned->vector("blk.0.ffn_norm.weight", width), std::vector<float>(width, 1.0f));
  EXPECT_EQ(turned->vector("output_norm.weight", width), model->vector("output_norm.weight", width));
  // W diag(g) R: rows keep the length that the gain gives them.
  Matrix folded = unpack_dense(model->find("blk.0.ffn_up.weight"));
  const std::vector<float> gain = model->vector("blk.0.ffn_norm.weight", width);
  for (size_t r = 0; r < folded.rows; ++r)
    for (size_t c = 0; c < width; ++c) folded.row(r)[c] *= gain[c];
  const Matrix up = unpack_dense(turned->find("blk.0.ffn_up.weight"));
  EXPECT_NEAR(norm(up), norm(folded), 1e-4 * norm(folded));
  turned->spec.stream_rotation->invert(folded.data.data(), folded.rows, 1, width);
  for (size_t i = 0; i < folded.data.size(); ++i) ASSERT_NEAR(up.data[i], folded.data[i], 1e-5) << i;
  // The embedding and what stands was not turned stay.
  EXPECT_EQ(unpack_dense(turned->find("token_embd.weight")).data, unpack_dense(model->find("token_embd.weight")).data);
}

TEST(MergeRotations, RefusesWhatHasNoSuchForm) {
  const auto basis = make_basis("merge_rotations", Json::object());
  const ModelPtr once = basis->change(stories());
  EXPECT_THROW(basis->change(once), Error);
  auto biased = std::make_shared<Model>(*stories());
  biased->spec.biases = {"attn_output"};
  EXPECT_THROW(basis->change(biased), Error);
  biased->spec.biases = {"attn_v"};
  EXPECT_THROW(basis->change(biased), Error);
  auto other = std::make_shared<Model>(*stories());
  other->spec.branch_norms = true;
  EXPECT_THROW(basis->change(other), Error);
  EXPECT_THROW(make_basis("merge_rotations", {{"stream", false}, {"values", false}}), Error);
  EXPECT_THROW(turn_stream(stories(), make_rotation(32, 0, 0, "test")), Error);
}

}  // namespace
}  // namespace whit
