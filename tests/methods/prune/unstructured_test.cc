#include <gtest/gtest.h>

#include <algorithm>
#include <cstring>

#include "methods/units.h"

namespace whit {
namespace {

size_t zeros(const std::vector<uint8_t>& mask, size_t begin, size_t end) {
  return static_cast<size_t>(
      std::count(mask.begin() + static_cast<ptrdiff_t>(begin), mask.begin() + static_cast<ptrdiff_t>(end), uint8_t{0}));
}

TensorState scored(size_t rows, size_t cols) {
  ThreadPool pool(1);
  TensorState state = tests::make_unit(rows, cols, nullptr, 8);
  make_importance("wanda", Json::object())->score(state, {pool});
  return state;
}

// The small row loses all of its weights to the tensor's threshold and half to its own.
TEST(Unstructured, ByHand) {
  ThreadPool pool(1);
  TensorState state = tests::make_unit(2, 4, nullptr, 1, false);
  state.weights.data = {1, 2, 2, 3, 10, 20, 30, 40};
  make_importance("magnitude", Json::object())->score(state, {pool});
  TensorState row = state, tensor = state;
  make_pruner("unstructured", Json::object())->prune(row, {pool});
  EXPECT_EQ(row.mask, (std::vector<uint8_t>{0, 0, 1, 1, 0, 0, 1, 1}));
  make_pruner("unstructured", {{"comparison", "tensor"}})->prune(tensor, {pool});
  EXPECT_EQ(tensor.mask, (std::vector<uint8_t>{0, 0, 0, 0, 1, 1, 1, 1}));
  EXPECT_EQ(tensor.weights.data, (std::vector<float>{0, 0, 0, 0, 10, 20, 30, 40}));
}

TEST(Unstructured, CountsAreExact) {
  ThreadPool pool(2);
  for (const double sparsity : {0.0, 0.29, 0.5, 0.7, 1.0}) {
    const auto expected = [&](size_t count) {
      return static_cast<size_t>(sparsity * static_cast<double>(count) + 1e-9);
    };
    for (const char* comparison : {"row", "block", "tensor"}) {
      TensorState state = scored(7, 172);
      make_pruner("unstructured", {{"sparsity", sparsity}, {"comparison", comparison}})->prune(state, {pool});
      const std::string name = comparison;
      if (name == "row")
        for (size_t i = 0; i < 7; ++i) EXPECT_EQ(zeros(state.mask, i * 172, (i + 1) * 172), expected(172));
      else
        EXPECT_EQ(zeros(state.mask, 0, 7 * 172), expected(7 * 172)) << name;
      if (name == "block") {
        size_t first = 0;
        for (size_t i = 0; i < 7; ++i) first += zeros(state.mask, i * 172, i * 172 + 128);
        EXPECT_EQ(first, expected(7 * 128));
      }
    }
  }
}

TEST(Unstructured, NothingPrunedLeavesTheWeightsBitForBit) {
  ThreadPool pool(1);
  TensorState state = scored(5, 65);
  state.weights.data[7] = -0.0f;
  const std::vector<float> before = state.weights.data;
  make_pruner("unstructured", {{"sparsity", 0.0}})->prune(state, {pool});
  EXPECT_EQ(std::memcmp(before.data(), state.weights.data.data(), before.size() * sizeof(float)), 0);
  EXPECT_EQ(zeros(state.mask, 0, state.mask.size()), 0u);
}

TEST(Unstructured, EqualScoresAndDeadInputsGoByIndex) {
  ThreadPool pool(1);
  TensorState state = tests::make_unit(1, 6, nullptr, 1, false);
  state.weights.data = {1, 1, 1, 1, 1, 1};
  state.statistics = tests::uncorrelated({1, 1, 1, 1, 0, 1});
  make_importance("magnitude", Json::object())->score(state, {pool});
  make_pruner("unstructured", Json::object())->prune(state, {pool});
  EXPECT_EQ(state.mask, (std::vector<uint8_t>{0, 0, 1, 1, 0, 1}));
}

TEST(Unstructured, NeedsScores) {
  ThreadPool pool(1);
  TensorState state = tests::make_unit(2, 8, nullptr, 1, false);
  EXPECT_THROW(make_pruner("unstructured", Json::object())->prune(state, {pool}), Error);
}

}  // namespace
}  // namespace whit
