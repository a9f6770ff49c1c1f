#include <gtest/gtest.h>

#include "methods/units.h"

namespace whit {
namespace {

// Rows sum to 4 and 8, columns to 4 and 8; norms 4 and 1.
TensorState unit() {
  TensorState state = tests::make_unit(2, 2, nullptr, 1, false);
  state.weights.data = {1.0f, -3.0f, 3.0f, 5.0f};
  state.statistics = tests::uncorrelated({16.0f, 1.0f});
  return state;
}

TEST(Ria, ByHand) {
  ThreadPool pool(1);
  TensorState state = unit();
  make_importance("ria", Json::object())->score(state, {pool});
  const float wanted[] = {(1.0f / 4 + 1.0f / 4) * 2, 3.0f / 4 + 3.0f / 8, (3.0f / 8 + 3.0f / 4) * 2,
                          5.0f / 8 + 5.0f / 8};
  for (size_t k = 0; k < 4; ++k) EXPECT_FLOAT_EQ(state.scores.data[k], wanted[k]) << k;
  make_importance("ria", {{"exponent", 0.0}})->score(state, {pool});
  EXPECT_FLOAT_EQ(state.scores.data[0], 0.5f);
}

// Each member of a stack has column sums of its own.
TEST(Ria, MembersAreScoredAsTheMatricesThatTheyAre) {
  ThreadPool pool(1);
  TensorState stack = tests::make_unit(7, 24, nullptr, 3), first = stack;
  stack.unit.members = {"a", "b"};
  stack.unit.member_rows = {4, 3};
  first.weights = Matrix(4, 24);
  std::copy_n(stack.weights.data.begin(), 4 * 24, first.weights.data.begin());
  make_importance("ria", Json::object())->score(stack, {pool});
  make_importance("ria", Json::object())->score(first, {pool});
  for (size_t k = 0; k < first.scores.data.size(); ++k) EXPECT_EQ(stack.scores.data[k], first.scores.data[k]);
}

TEST(Ria, EmptyRowsAndColumnsScoreZero) {
  ThreadPool pool(1);
  TensorState state = unit();
  state.weights.data = {0.0f, 0.0f, 0.0f, 5.0f};
  make_importance("ria", Json::object())->score(state, {pool});
  EXPECT_EQ(state.scores.data, (std::vector<float>{0.0f, 0.0f, 0.0f, 2.0f}));
}

}  // namespace
}  // namespace whit
