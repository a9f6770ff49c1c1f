// Laws of every transform: the function stays, the error that rounding will minimise stays, bits do not depend on
// threads, nonsense is refused by name.
#include <gtest/gtest.h>

#include <cmath>

#include "methods/units.h"

namespace whit {
namespace {

std::vector<std::string> transforms() {
  std::vector<std::string> names;
  for (const MethodRow& row : method_rows())
    if (row.stage == Stage::transform) names.push_back(row.name);
  return names;
}

TensorState unit_of(size_t rows, size_t cols) {
  TensorState state = tests::make_unit(rows, cols, make_format("q4_1"), 31);
  state.unit.block = 0;
  state.source_grid.emplace();
  state.source_group = 32;
  return state;
}

class TransformLaws : public testing::TestWithParam<std::string> {};

TEST_P(TransformLaws, TheFunctionAndItsLossStay) {
  const auto method = make_transform(GetParam(), Json::object());
  ThreadPool one(1), two(2);
  for (const auto& [rows, cols] : {std::pair<size_t, size_t>{24, 172}, {9, 64}, {1, 1}, {86, 15}}) {
    const TensorState before = unit_of(rows, cols);
    TensorState after = before, again = before;
    method->transform(after, {one, 5});
    method->transform(again, {two, 5});
    EXPECT_EQ(after.weights.data, again.weights.data) << "other threads, other bits";
    EXPECT_EQ(after.statistics->gram.data, again.statistics->gram.data);
    EXPECT_TRUE(after.rotation == method->rotation(before.unit)) << "the plan knew";
    EXPECT_FALSE(after.source_grid) << "the source's levels are no longer those of the weights";
    EXPECT_EQ(after.statistics->tokens, before.statistics->tokens);
    // A change of the stored matrix by d costs what the change of the model's own matrix costs.
    Matrix changed = after.weights;
    const Matrix noise = tests::random_weights(rows, cols, 77);
    for (size_t i = 0; i < changed.data.size(); ++i) changed.data[i] += 0.1f * noise.data[i];
    const double stored = tests::trace_error(changed, after.weights, after.statistics->gram);
    const auto restore = [&](Matrix& weights) {
      after.rotation.restore_inputs(weights.data.data(), rows, cols);
      after.rotation.restore_outputs(weights.data.data(), cols, 0, cols);
    };
    restore(changed);
    restore(after.weights);
    for (size_t i = 0; i < before.weights.data.size(); ++i)
      ASSERT_NEAR(after.weights.data[i], before.weights.data[i], 3e-6);
    const double own = tests::trace_error(changed, after.weights, before.statistics->gram);
    EXPECT_NEAR(stored, own, 1e-3 * own) << rows << " x " << cols;
  }
}

TEST_P(TransformLaws, NotANumberIsRefusedByName) {
  ThreadPool pool(1);
  TensorState state = unit_of(4, 32);
  state.weights.data[0] = std::nanf("");
  try {
    make_transform(GetParam(), Json::object())->transform(state, {pool});
    FAIL();
  } catch (const Error& error) {
    EXPECT_EQ(error.kind(), ErrorKind::numeric);
    EXPECT_NE(std::string(error.what()).find(state.unit.name), std::string::npos);
  }
}

INSTANTIATE_TEST_SUITE_P(Rows, TransformLaws, testing::ValuesIn(transforms()),
                         [](const auto& info) { return info.param; });

}  // namespace
}  // namespace whit
