// A rotated matrix comes back as a differentiable function of what is stored.
#include "model/torch/rotation.h"

#include <gtest/gtest.h>

#include <cmath>

#include "base/rng.h"

namespace whit {
namespace {

Matrix random_matrix(size_t rows, size_t cols, uint64_t seed) {
  Rng rng(seed);
  Matrix matrix(rows, cols);
  for (float& x : matrix.data) x = static_cast<float>(rng.normal());
  return matrix;
}

// Two members of which the second is not rotated, a third that is: 172 + 5 + 24 outputs.
UnitRotation some_rotation(uint64_t cols) {
  return {make_rotation(cols, 1, 7, "inputs"),
          {{0, make_rotation(172, 2, 7, "outputs")}, {177, make_rotation(24, 2, 7, "outputs")}}};
}

Matrix rotated(const UnitRotation& rotation, Matrix weights) {
  rotation.rotate_inputs(weights.data.data(), weights.rows, weights.cols);
  rotation.rotate_outputs(weights.data.data(), weights.cols, 0, weights.cols);
  return weights;
}

TEST(TorchRotation, TheDenseMatrixIsTheReference) {
  for (const uint64_t n : {1, 2, 3, 12, 172, 64}) {
    const auto rotation = make_rotation(n, 5, 6, "n");
    const Matrix r = rotation_matrix(*rotation).matrix();
    Matrix x = random_matrix(1, n, n);
    std::vector<double> expected(n, 0.0);
    for (uint64_t i = 0; i < n; ++i)
      for (uint64_t j = 0; j < n; ++j) expected[i] += static_cast<double>(r.row(i)[j]) * x.data[j];
    rotation->apply(x.data.data(), 1, 1, n);
    for (uint64_t i = 0; i < n; ++i) EXPECT_NEAR(x.data[i], expected[i], 1e-5) << n;
  }
}

TEST(TorchRotation, UndoesWhatWasRotatedAndCarriesGradients) {
  const Matrix weights = random_matrix(201, 48, 3);
  const UnitRotation rotation = some_rotation(48);
  const Matrix stored_weights = rotated(rotation, weights);
  Unrotator unrotator;
  for (int again = 0; again < 2; ++again) {
    const Tensor stored = Tensor::from(stored_weights).requires_grad();
    const Tensor back = unrotator(stored, rotation);
    const Matrix got = back.matrix();
    ASSERT_EQ(got.rows, 201u);
    for (size_t i = 0; i < got.data.size(); ++i) ASSERT_NEAR(got.data[i], weights.data[i], 2e-5);
    // d sum(g . L^T S R) / d S = L g R^T
    const Matrix g = random_matrix(201, 48, 4);
    sum(back * Tensor::from(g)).backward();
    const Matrix expected = rotated(rotation, g), gradient = stored.grad().matrix();
    for (size_t i = 0; i < g.data.size(); ++i) ASSERT_NEAR(gradient.data[i], expected.data[i], 2e-5);
  }
}

TEST(TorchRotation, NothingRotatedIsLeftAlone) {
  const Matrix weights = random_matrix(3, 7, 3);
  EXPECT_EQ(unrotate(Tensor::from(weights), {}).matrix().data, weights.data);
  const UnitRotation outputs{nullptr, {{0, make_rotation(3, 1, 1, "o")}}};
  const Matrix got = unrotate(Tensor::from(rotated(outputs, weights)), outputs).matrix();
  for (size_t i = 0; i < got.data.size(); ++i) EXPECT_NEAR(got.data[i], weights.data[i], 1e-5);
}

}  // namespace
}  // namespace whit
