// Laws of every importance score: finite, of the unit's shape, the same for any number of threads; rows that change
// places take their scores with them; a weight that is zero and an input that never fired matter least.
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>

#include "methods/units.h"

namespace whit {
namespace {

std::vector<std::pair<std::string, Json>> scores() {
  std::vector<std::pair<std::string, Json>> all;
  for (const MethodRow& row : method_rows())
    if (row.stage == Stage::importance) all.push_back({row.name, Json::object()});
  all.push_back({"stbllm_si", {{"form", "standardized"}}});
  return all;
}

TEST(ImportanceLaws, FiniteAndTheSameForAnyThreads) {
  ThreadPool one(1), two(2);
  for (const auto& [name, options] : scores()) {
    TensorState state = tests::make_unit(9, 172, nullptr, 41);
    for (size_t j = 0; j < 172; ++j) state.weights.row(3)[j] = 0;
    for (size_t i = 0; i < 9; ++i) state.weights.row(i)[7] = 0;
    const std::vector<float> weights = state.weights.data;
    TensorState other = state;
    make_importance(name, options)->score(state, {one});
    make_importance(name, options)->score(other, {two});
    ASSERT_EQ(state.scores.rows, 9u) << name;
    ASSERT_EQ(state.scores.cols, 172u) << name;
    for (const float score : state.scores.data) ASSERT_TRUE(std::isfinite(score)) << name;
    EXPECT_EQ(state.scores.data, other.scores.data) << name;
    EXPECT_EQ(state.weights.data, weights) << name << ": weights are left alone";
  }
}

TEST(ImportanceLaws, RowsTakeTheirScoresWithThem) {
  ThreadPool pool(1);
  constexpr size_t kRows = 8, kCols = 96;
  for (const auto& [name, options] : scores()) {
    TensorState state = tests::make_unit(kRows, kCols, nullptr, 42);
    TensorState permuted = state;
    const auto to = [](size_t i) { return (5 * i + 3) % kRows; };
    for (size_t i = 0; i < kRows; ++i) std::copy_n(state.weights.row(i), kCols, permuted.weights.row(to(i)));
    make_importance(name, options)->score(state, {pool});
    make_importance(name, options)->score(permuted, {pool});
    // Sums over rows are taken in another order: a few units of the last place of a double, then one of a float.
    for (size_t i = 0; i < kRows; ++i)
      for (size_t j = 0; j < kCols; ++j) {
        const float expected = state.scores.row(i)[j];
        ASSERT_NEAR(permuted.scores.row(to(i))[j], expected, 2e-6f * std::max(1.0f, std::fabs(expected))) << name;
      }
  }
}

TEST(ImportanceLaws, ZeroWeightsMatterLeast) {
  ThreadPool pool(1);
  for (const auto& [name, options] : scores()) {
    TensorState state = tests::make_unit(6, 64, nullptr, 43);
    state.statistics = tests::uncorrelated(std::vector<float>(64, 1.0f));
    for (size_t i = 0; i < 6; ++i) state.weights.row(i)[11] = 0;
    make_importance(name, options)->score(state, {pool});
    for (size_t i = 0; i < 6; ++i)
      EXPECT_EQ(*std::min_element(state.scores.row(i), state.scores.row(i) + 64), state.scores.row(i)[11]) << name;
  }
}

TEST(ImportanceLaws, NotANumberIsRefusedByName) {
  ThreadPool pool(1);
  for (const auto& [name, options] : scores()) {
    TensorState state = tests::make_unit(4, 32, nullptr, 44);
    state.weights.data[5] = std::nanf("");
    try {
      make_importance(name, options)->score(state, {pool});
      ADD_FAILURE() << name;
    } catch (const Error& error) {
      EXPECT_EQ(error.kind(), ErrorKind::numeric);
      EXPECT_NE(std::string(error.what()).find(state.unit.name), std::string::npos);
    }
  }
}

}  // namespace
}  // namespace whit
