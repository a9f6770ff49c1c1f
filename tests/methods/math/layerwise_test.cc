#include "methods/math/layerwise.h"

#include <gtest/gtest.h>

#include <numeric>

namespace whit {
namespace {

// Blocks of 800 weights pruned to n of 8; loss[n] = sensitivity (8 - n)^2.
std::vector<BlockScores> blocks(const std::vector<double>& sensitivity) {
  std::vector<BlockScores> out;
  for (const double s : sensitivity) {
    BlockScores block;
    block.outlier_share = s;
    block.weight_norm = s;
    for (unsigned n = 0; n <= 8; ++n) {
      block.kept.push_back(100 * n);
      block.loss.push_back(s * (8 - n) * (8 - n));
    }
    out.push_back(std::move(block));
  }
  return out;
}

std::vector<unsigned> kept(const char* rule, const std::vector<BlockScores>& scores, NmPattern target = {4, 8}) {
  LayerwiseOptions options;
  options.layerwise = rule;
  return layerwise_kept(options, target, scores);
}

TEST(Layerwise, UniformIsTheTarget) {
  EXPECT_EQ(kept("uniform", blocks({1, 2, 3})), (std::vector<unsigned>{4, 4, 4}));
  EXPECT_TRUE(kept("owl", {}).empty());
}

// D scaled to 0 .. 2: d = 0, 0.5, 2, mean 0.833: rounded differences -1, 0, 1; one more becomes two more.
TEST(Layerwise, OwlByHand) {
  EXPECT_EQ(kept("owl", blocks({1, 2, 5})), (std::vector<unsigned>{3, 4, 6}));
  LayerwiseOptions options;
  options.layerwise = "owl";
  options.owl_double = false;
  EXPECT_EQ(layerwise_kept(options, {4, 8}, blocks({1, 2, 5})), (std::vector<unsigned>{3, 4, 5}));
  EXPECT_EQ(kept("owl", blocks({2, 2, 2})), (std::vector<unsigned>{4, 4, 4}));
  EXPECT_EQ(kept("owl", blocks({1, 2, 5}), {1, 8}), (std::vector<unsigned>{1, 1, 3})) << "at least one is kept";
}

// alpha = 0.1, 0.2, 0.7: 8 alpha + 4 (1 - alpha) = 4.4, 4.8, 6.8. Never below the target: not budget preserving.
TEST(Layerwise, StbllmPaperByHand) {
  EXPECT_EQ(kept("stbllm_paper", blocks({1, 2, 7})), (std::vector<unsigned>{4, 5, 7}));
  EXPECT_EQ(kept("stbllm_paper", blocks({0, 0})), (std::vector<unsigned>{4, 4}));
}

// Of three blocks with 12 to share and losses s (8 - n)^2 the least sum is found by trying all.
TEST(Layerwise, ExactIsTheBestAllotmentOfTheSameNumber) {
  const std::vector<BlockScores> scores = blocks({1, 3, 9});
  const std::vector<unsigned> found = kept("exact", scores);
  EXPECT_EQ(std::accumulate(found.begin(), found.end(), 0u), 12u);
  const auto loss = [&](unsigned a, unsigned b, unsigned c) {
    return scores[0].loss[a] + scores[1].loss[b] + scores[2].loss[c];
  };
  double best = 1e300;
  for (unsigned a = 1; a <= 8; ++a)
    for (unsigned b = 1; b <= 8; ++b)
      if (a + b < 12 && 12 - a - b <= 8) best = std::min(best, loss(a, b, 12 - a - b));
  EXPECT_EQ(loss(found[0], found[1], found[2]), best);
  EXPECT_EQ(kept("exact", blocks({2, 2, 2})), (std::vector<unsigned>{4, 4, 4}));
}

// A block whose groups hold another number of weights takes no part in exchanges that would change the sum.
TEST(Layerwise, ExactKeepsTheNumberOfWeightsWhereBlocksDiffer) {
  std::vector<BlockScores> scores = blocks({1, 3, 9});
  for (uint64_t& count : scores[2].kept) count *= 3;
  const std::vector<unsigned> found = kept("exact", scores);
  uint64_t sum = 0;
  for (size_t i = 0; i < 3; ++i) sum += scores[i].kept[found[i]];
  EXPECT_EQ(sum, scores[0].kept[4] + scores[1].kept[4] + scores[2].kept[4]);
  EXPECT_GT(found[1], found[0]);
}

// Rows of 12: a last group of 4 keeps ceil(n / 2), so one weight more in a full group is not one weight less elsewhere.
TEST(Layerwise, ExactKeepsTheNumberOfWeightsWithShortGroups) {
  std::vector<BlockScores> scores = blocks({1, 9});
  for (BlockScores& block : scores)
    for (unsigned n = 0; n <= 8; ++n) block.kept[n] = NmPattern{n, 8}.kept(12);
  EXPECT_EQ(kept("exact", scores), (std::vector<unsigned>{2, 6}));
}

// One row of 2 x 2, mean squares 1 and 4: losses per weight 1, 16 | 9, 4; magnitude prunes 1 | 2 first, then all.
TEST(Layerwise, WhatAUnitLoses) {
  ThreadPool pool(1);
  Matrix w(1, 4), scores(1, 4);
  w.data = {1, -2, 3, 1};
  scores.data = {1, 2, 3, 1};
  BlockScores block;
  const std::vector<float> mean_squares = {1, 4, 1, 4}, cost = {0.5f};
  add_unit(w, scores, mean_squares, cost, 2, pool, block);
  EXPECT_EQ(block.kept, (std::vector<uint64_t>{0, 2, 4}));
  EXPECT_EQ(block.loss, (std::vector<double>{0.5 * 30, 0.5 * 5, 0}));
  EXPECT_NEAR(block.weight_norm * block.weight_norm, 15, 1e-9);
  add_unit(w, scores, mean_squares, cost, 2, pool, block);
  EXPECT_EQ(block.loss[1], 5);
  EXPECT_NEAR(block.weight_norm * block.weight_norm, 30, 1e-9);
}

TEST(Layerwise, OutliersAreCountedOverAllUnitsOfABlock) {
  std::vector<Matrix> scores(2, Matrix(1, 4));
  scores[0].data = {1, 1, 1, 1};
  scores[1].data = {1, 1, 1, 9};  // mean 2
  EXPECT_EQ(outlier_share(scores, 4), 1.0 / 8);
  EXPECT_EQ(outlier_share(scores, 5), 0);
  EXPECT_EQ(outlier_share({}, 5), 0);
}

}  // namespace
}  // namespace whit
