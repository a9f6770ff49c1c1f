#include "methods/math/binarize.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <numeric>

#include "methods/math/binary_blocks.h"
#include "methods/units.h"

namespace whit {
namespace {

TEST(Binarize, OrdersOneAndTwoByHand) {
  const std::vector<float> x = {1, 3, -2, 2};
  // mu = 1, |x - mu| = 0 2 3 1, a = 1.5, left -1.5 0.5 -1.5 -0.5.
  const Binarized one = binarize(x, 1, true);
  EXPECT_DOUBLE_EQ(one.mean, 1);
  EXPECT_DOUBLE_EQ(one.scale[0], 1.5);
  EXPECT_DOUBLE_EQ(one.error, 5);
  // Of what is left: mu = -0.75, |r - mu| = 0.75 1.25 0.75 0.25, a = 0.75, left 0 0.5 0 -0.5.
  const Binarized two = binarize(x, 2, true);
  EXPECT_DOUBLE_EQ(two.mean, 0.25);
  EXPECT_DOUBLE_EQ(two.scale[0], 1.5);
  EXPECT_DOUBLE_EQ(two.scale[1], 0.75);
  EXPECT_DOUBLE_EQ(two.error, 0.5);
  // Without means: a = 2, left -1 1 0 0; then a = 0.5.
  const Binarized plain = binarize(x, 2, false);
  EXPECT_DOUBLE_EQ(plain.mean, 0);
  EXPECT_DOUBLE_EQ(plain.scale[0], 2);
  EXPECT_DOUBLE_EQ(plain.scale[1], 0.5);
  EXPECT_DOUBLE_EQ(plain.error, 1);
}

TEST(Binarize, NothingAndOneValueAndTwoAreExact) {
  for (const int order : {1, 2})
    for (const bool means : {false, true}) {
      const Binarized none = binarize({}, order, means);
      EXPECT_EQ(none.mean, 0);
      EXPECT_EQ(none.scale[0], 0);
      EXPECT_EQ(none.error, 0);
      const std::vector<float> one = {-3};
      EXPECT_EQ(binarize(one, order, means).error, 0);
    }
  const std::vector<float> two = {-3, 5};
  EXPECT_EQ(binarize(two, 1, true).error, 0);
}

TEST(Binarize, ASecondSignNeverHurts) {
  for (uint64_t seed = 0; seed < 50; ++seed) {
    const Matrix w = tests::random_weights(1, 5 + seed, seed);
    for (const bool means : {false, true})
      EXPECT_LE(binarize(w.data, 2, means).error, binarize(w.data, 1, means).error * (1 + 1e-12));
  }
}

TEST(Binarize, NearestSignsAreNearest) {
  for (const float a1 : {0.0f, 1.0f, 2.0f, -1.5f})
    for (const float a2 : {0.0f, 0.5f, 3.0f, -0.25f})
      for (float t = -5; t <= 5; t += 0.37f) {
        const SignPair signs = nearest_signs(t, a1, a2);
        const float error = std::fabs(t - ((signs.first ? a1 : -a1) + (signs.second ? a2 : -a2)));
        for (const float first : {a1, -a1})
          for (const float second : {a2, -a2}) EXPECT_LE(error, std::fabs(t - first - second) + 1e-6f);
      }
  EXPECT_TRUE(nearest_signs(0, 1, 0).first);
}

struct Problem {
  Matrix values;
  std::vector<uint8_t> keep;
  KeptMatrix matrix() const { return {values, keep.empty() ? nullptr : keep.data(), values.cols}; }
};

std::vector<Problem> problems() {
  std::vector<Problem> all;
  for (const auto& [rows, cols] : std::vector<std::pair<size_t, size_t>>{{3, 24}, {17, 44}, {1, 9}})
    for (const bool masked : {false, true}) {
      Problem problem{tests::random_weights(rows, cols, rows + cols), {}};
      if (masked)
        for (size_t k = 0; k < rows * cols; ++k) problem.keep.push_back(k % 3 != 1 && k % cols != 4);
      all.push_back(problem);
      for (float& value : problem.values.data) value *= value;  // as saliencies are
      all.push_back(problem);
    }
  return all;
}

// The error of a division, value by value.
template <class Group>
double plain_error(const KeptMatrix& matrix, size_t groups, int order, bool means, const Group& group) {
  double error = 0;
  for (size_t i = 0; i < matrix.values.rows; ++i)
    for (size_t g = 0; g < groups; ++g) {
      std::vector<float> x;
      for (size_t j = 0; j < matrix.values.cols; ++j)
        if (matrix.kept(i, j) && group(i, j) == g) x.push_back(matrix.values.data[i * matrix.values.stride + j]);
      error += binarize(x, order, means).error;
    }
  return error;
}

TEST(BinarySearches, SalientCountIsTheBest) {
  ThreadPool one(1), three(3);
  for (const Problem& problem : problems())
    for (const bool means : {false, true}) {
      const KeptMatrix matrix = problem.matrix();
      std::vector<size_t> order(matrix.values.cols), place(order.size());
      std::iota(order.begin(), order.end(), size_t{0});
      std::reverse(order.begin(), order.end());
      for (size_t k = 0; k < order.size(); ++k) place[order[k]] = k;
      const size_t most = 20, found = search_salient_count(matrix, order, most, means, one);
      EXPECT_EQ(search_salient_count(matrix, order, most, means, three), found);
      const auto error = [&](size_t count) {
        return plain_error(matrix, 2, 2, means, [&](size_t, size_t j) { return place[j] < count ? 0u : 1u; });
      };
      ASSERT_GE(found, 1u);
      ASSERT_LE(found, std::min(most, order.size() - 1));
      const double best = error(found);
      for (size_t k = 1; k <= std::min(most, order.size() - 1); ++k) EXPECT_LE(best, error(k) * (1 + 1e-9)) << k;
      EXPECT_EQ(search_salient_count(matrix, order, 0, means, one), 0u);
    }
  const Matrix single = tests::random_weights(4, 1, 1);
  const std::vector<size_t> only = {0};
  EXPECT_EQ(search_salient_count({single}, only, 49, true, one), 0u);
}

TEST(BinarySearches, SplitIsTheBestOfItsCandidates) {
  ThreadPool one(1), three(3);
  for (const Problem& problem : problems())
    for (const bool means : {false, true})
      for (const int regions : {2, 3}) {
        const KeptMatrix matrix = problem.matrix();
        std::vector<uint8_t> salient(matrix.values.cols, 0);
        salient[2] = 1;
        const Split found = search_split(matrix, salient, regions, means, one);
        const Split again = search_split(matrix, salient, regions, means, three);
        EXPECT_EQ(found.at[0], again.at[0]);
        const auto value = [&](size_t i, size_t j) { return matrix.values.data[i * matrix.values.stride + j]; };
        const auto error = [&](const Split& split) {
          return plain_error(matrix, 3, 1, means, [&](size_t i, size_t j) {
            return salient[j] ? 9u : static_cast<size_t>(split.region(value(i, j)));
          });
        };
        std::vector<float> sizes;
        for (size_t i = 0; i < matrix.values.rows; ++i)
          for (size_t j = 0; j < matrix.values.cols; ++j)
            if (!salient[j] && matrix.kept(i, j)) sizes.push_back(std::fabs(value(i, j)));
        std::sort(sizes.begin(), sizes.end());
        const auto quantile = [&](double share) {
          return sizes[static_cast<size_t>(std::floor(share * static_cast<double>(sizes.size() - 1) + 0.5))];
        };
        const double best = error(found);
        const int count = regions == 2 ? 81 : 160;
        bool seen = false;
        for (int q = 0; q < count; ++q) {
          const float p = quantile(0.1 + 0.8 * q / (count - 1));
          seen = seen || p == found.at[0];
          if (regions == 3 && 2 * p > quantile(0.9)) continue;
          const Split split{{p, regions == 3 ? 2 * p : INFINITY}};
          EXPECT_LE(best, error(split) * (1 + 1e-9) + 1e-12) << regions << " regions, quantile " << q;
        }
        EXPECT_TRUE(seen);
        EXPECT_EQ(found.at[1], regions == 3 ? 2 * found.at[0] : INFINITY);
      }
}

TEST(BinarySearches, NothingToSplit) {
  ThreadPool pool(1);
  const Matrix w = tests::random_weights(2, 3, 5);
  const std::vector<uint8_t> all = {1, 1, 1};
  EXPECT_EQ(search_split({w}, all, 3, true, pool).region(5.0f), 0);
  Matrix equal(2, 3);
  std::fill(equal.data.begin(), equal.data.end(), -1.0f);
  const std::vector<uint8_t> none = {0, 0, 0};
  const Split split = search_split({equal}, none, 3, true, pool);  // 2 p passes every quantile
  EXPECT_EQ(split.region(-1.0f), 1);
}

}  // namespace
}  // namespace whit
