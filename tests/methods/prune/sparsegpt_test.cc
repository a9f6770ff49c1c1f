#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstring>

#include "methods/units.h"

namespace whit {
namespace {

using tests::make_unit;

// H = [[2, 1], [1, 2]], weights 1 and 10, 1:2: the first goes (1 / U_11^2 = 1.5 against 100 * 2), and the second
// becomes the least-squares fit on its own: w_2 + w_1 H_12 / H_22 = 10.5. What is lost: w_1^2 / U_11^2 = 1.5.
TEST(SparseGpt, ByHand) {
  ThreadPool pool(1);
  TensorState state = make_unit(1, 2, nullptr, 1, false);
  state.weights.data = {1.0f, 10.0f};
  auto statistics = std::make_shared<UnitStatistics>();
  statistics->tokens = 1;
  statistics->gram = Matrix(2, 2);
  statistics->gram.data = {2, 1, 1, 2};
  state.statistics = statistics;
  const StageReport report = make_pruner("sparsegpt", {{"n", 1}, {"m", 2}, {"damp_ratio", 0.0}})->prune(state, {pool});
  EXPECT_EQ(state.mask, (std::vector<uint8_t>{0, 1}));
  EXPECT_EQ(state.weights.data[0], 0.0f);
  EXPECT_NEAR(state.weights.data[1], 10.5f, 1e-5);
  EXPECT_NEAR(report.loss, 1.5, 1e-4);
}

// The algorithm of the paper, column by column over the whole row, in double.
struct Plain {
  std::vector<double> w;
  std::vector<uint8_t> mask;
};
Plain plain_sparsegpt(const TensorState& state, size_t row, size_t n, size_t m, double damp) {
  const size_t cols = state.weights.cols;
  // U from Gauss-Jordan elimination of H: the columns not yet visited, one after another, are the Schur complements.
  std::vector<double> inverse(cols * cols, 0.0), a(cols * cols);
  for (size_t k = 0; k < a.size(); ++k) a[k] = state.statistics->gram.data[k];
  for (size_t i = 0; i < cols; ++i) a[i * cols + i] += damp, inverse[i * cols + i] = 1;
  for (size_t p = 0; p < cols; ++p) {
    const double pivot = a[p * cols + p];
    for (size_t k = 0; k < cols; ++k) a[p * cols + k] /= pivot, inverse[p * cols + k] /= pivot;
    for (size_t i = 0; i < cols; ++i) {
      const double factor = a[i * cols + p];
      if (i == p || factor == 0) continue;
      for (size_t k = 0; k < cols; ++k)
        a[i * cols + k] -= factor * a[p * cols + k], inverse[i * cols + k] -= factor * inverse[p * cols + k];
    }
  }
  Plain plain{{state.weights.row(row), state.weights.row(row) + cols}, std::vector<uint8_t>(cols, 1)};
  std::vector<double> pivots(cols);
  std::vector<std::vector<double>> rows(cols);
  for (size_t j = 0; j < cols; ++j) {  // remove input j from the inverse of what is left: its row is U_j * U_jj
    pivots[j] = inverse[j * cols + j];
    rows[j].assign(&inverse[j * cols], &inverse[j * cols] + cols);
    for (size_t i = 0; i < cols; ++i) {
      const double factor = inverse[i * cols + j] / pivots[j];
      if (i != j)
        for (size_t k = 0; k < cols; ++k) inverse[i * cols + k] -= factor * rows[j][k];
    }
    for (size_t k = 0; k < cols; ++k) inverse[j * cols + k] = inverse[k * cols + j] = 0;
  }
  for (size_t j = 0; j < cols; ++j) {
    if (j % m == 0) {
      const size_t size = std::min(m, cols - j), kept = (n * size + m - 1) / m;
      std::vector<size_t> order(size);
      for (size_t k = 0; k < size; ++k) order[k] = j + k;
      std::stable_sort(order.begin(), order.end(), [&](size_t x, size_t y) {
        return plain.w[x] * plain.w[x] / pivots[x] < plain.w[y] * plain.w[y] / pivots[y];
      });
      for (size_t k = 0; k < size - kept; ++k) plain.mask[order[k]] = 0;
    }
    if (plain.mask[j]) continue;
    const double error = plain.w[j] / pivots[j];
    plain.w[j] = 0;
    for (size_t k = j + 1; k < cols; ++k) plain.w[k] -= error * rows[j][k];
  }
  return plain;
}

TEST(SparseGpt, EqualsThePlainAlgorithmOverSeveralBlocks) {
  ThreadPool pool(1);
  for (const auto& [n, m] : {std::pair<size_t, size_t>{4, 8}, {2, 4}, {2, 5}}) {
    const TensorState unit = make_unit(6, 172, nullptr, 11);
    TensorState state = unit;
    double mean = 0;
    for (size_t j = 0; j < 172; ++j) mean += unit.statistics->gram.row(j)[j] / 172;
    make_pruner("sparsegpt", {{"n", n}, {"m", m}})->prune(state, {pool});
    for (size_t i = 0; i < 6; ++i) {
      const Plain plain = plain_sparsegpt(unit, i, n, m, 0.01 * mean);
      for (size_t j = 0; j < 172; ++j) {
        ASSERT_EQ(state.mask[i * 172 + j], plain.mask[j]) << n << ":" << m << " row " << i << ", column " << j;
        ASSERT_NEAR(state.weights.row(i)[j], plain.w[j], 2e-4) << n << ":" << m;
      }
    }
  }
}

TEST(SparseGpt, BeatsWandaWhichBeatsMagnitude) {
  ThreadPool pool(1);
  const TensorState unit = make_unit(24, 192, nullptr, 12);
  for (const auto& [n, m] : {std::pair{2, 4}, {4, 8}}) {
    const auto one_shot = [&](const char* importance) {
      TensorState state = unit;
      make_importance(importance, Json::object())->score(state, {pool});
      return make_pruner("nm", {{"n", n}, {"m", m}})->prune(state, {pool}).loss;
    };
    TensorState state = unit;
    const StageReport report = make_pruner("sparsegpt", {{"n", n}, {"m", m}})->prune(state, {pool});
    EXPECT_NEAR(report.loss, tests::trace_error(state.weights, unit.weights, unit.statistics->gram),
                1e-3 * report.loss);
    EXPECT_LT(report.loss, 0.8 * one_shot("wanda"));
    EXPECT_LT(one_shot("wanda"), 0.95 * one_shot("magnitude"));
  }
  TensorState sweep = unit, wanda = unit;
  make_importance("wanda", Json::object())->score(wanda, {pool});
  EXPECT_LT(make_pruner("sparsegpt", {{"sparsity", 0.5}})->prune(sweep, {pool}).loss,
            0.8 * make_pruner("unstructured", {{"sparsity", 0.5}})->prune(wanda, {pool}).loss);
}

TEST(SparseGpt, UnstructuredCountsAreExactPerBlock) {
  ThreadPool pool(2);
  for (const double sparsity : {0.29, 0.5, 0.9}) {
    TensorState state = make_unit(7, 172, nullptr, 13);
    make_pruner("sparsegpt", {{"sparsity", sparsity}})->prune(state, {pool});
    size_t first = 0, all = 0;
    for (size_t k = 0; k < state.mask.size(); ++k) {
      all += state.mask[k] == 0;
      first += state.mask[k] == 0 && k % 172 < 128;
      EXPECT_TRUE(state.mask[k] || state.weights.data[k] == 0) << "a zero came back";
    }
    EXPECT_EQ(first, static_cast<size_t>(sparsity * 7 * 128 + 1e-9));
    EXPECT_EQ(all, static_cast<size_t>(sparsity * 7 * 172 + 1e-9));
  }
}

TEST(SparseGpt, NothingPrunedLeavesTheWeightsBitForBit) {
  ThreadPool pool(1);
  TensorState state = make_unit(3, 172, nullptr, 14);
  state.weights.data[170] = -0.0f;  // adding nothing would turn its sign
  const std::vector<float> before = state.weights.data;
  for (const Json& options : {Json::object(), Json{{"sparsity", 0.0}}, Json{{"n", 8}, {"m", 8}}}) {
    make_pruner("sparsegpt", options)->prune(state, {pool});
    EXPECT_EQ(std::memcmp(before.data(), state.weights.data.data(), before.size() * sizeof(float)), 0);
  }
}

TEST(SparseGpt, DeadInputsGoFirstAndTooFewTokensAreDamped) {
  ThreadPool pool(1);
  TensorState state = make_unit(4, 64, nullptr, 15);
  auto statistics = std::make_shared<UnitStatistics>(*tests::random_statistics(64, 8, 15));  // rank 8
  for (size_t j = 0; j < 64; ++j) statistics->gram.row(j)[5] = statistics->gram.row(5)[j] = 0;
  state.statistics = statistics;
  for (size_t i = 0; i < 4; ++i) state.weights.row(i)[5] = 100.0f;
  const StageReport report = make_pruner("sparsegpt", {{"n", 4}, {"m", 8}, {"damp_ratio", 0.0}})->prune(state, {pool});
  EXPECT_GT(report.damp_ratio, 0.0);
  for (size_t i = 0; i < 4; ++i) EXPECT_EQ(state.mask[i * 64 + 5], 0);
}

TEST(SparseGpt, RefusesWhatItCannotUse) {
  ThreadPool pool(1);
  EXPECT_THROW(make_pruner("sparsegpt", {{"n", 5}, {"m", 4}}), Error);
  EXPECT_THROW(make_pruner("sparsegpt", {{"m", 4}}), Error);
  EXPECT_THROW(make_pruner("sparsegpt", {{"n", 2}, {"m", 4}, {"sparsity", 0.5}}), Error);
  EXPECT_THROW(make_pruner("sparsegpt", {{"sparsity", 0.5}, {"layerwise", "owl"}}), Error);
  TensorState state = make_unit(2, 8, nullptr, 16, false);
  try {
    make_pruner("sparsegpt", {{"n", 2}, {"m", 4}})->prune(state, {pool});
    FAIL();
  } catch (const Error& error) {
    EXPECT_EQ(error.kind(), ErrorKind::usage);
    EXPECT_NE(std::string(error.what()).find(state.unit.name), std::string::npos);
  }
}

}  // namespace
}  // namespace whit
