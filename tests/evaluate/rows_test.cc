#include "evaluate/rows.h"

#include <gtest/gtest.h>

#include <cmath>
#include <limits>
#include <vector>

#include "base/rng.h"

namespace whit {
namespace {

std::vector<float> random_row(Rng& rng, size_t size, double spread) {
  std::vector<float> row(size);
  for (float& value : row) value = static_cast<float>(rng.normal() * spread);
  return row;
}

// The definitions, in long double and without any trick.
long double brute_log_sum_exp(const std::vector<float>& row) {
  long double sum = 0, most = row[0];
  for (const float value : row) most = std::max<long double>(most, value);
  for (const float value : row) sum += expl(static_cast<long double>(value) - most);
  return most + logl(sum);
}
long double brute_divergence(const std::vector<float>& base, const std::vector<float>& model) {
  const long double a = brute_log_sum_exp(base), b = brute_log_sum_exp(model);
  long double sum = 0;
  for (size_t i = 0; i < base.size(); ++i) sum += expl(base[i] - a) * ((base[i] - a) - (model[i] - b));
  return sum;
}

TEST(Rows, SumsAndDivergenceAgreeWithTheDefinition) {
  Rng rng(7);
  // Every kind of length around the partial sums; flat to very peaked rows (exp underflows in the last).
  for (const size_t size : {1u, 2u, 3u, 7u, 8u, 9u, 15u, 16u, 17u, 33u, 1000u, 1027u})
    for (const double spread : {0.0, 0.5, 3.0, 20.0, 400.0}) {
      const std::vector<float> base = random_row(rng, size, spread);
      std::vector<float> model = base;
      for (float& value : model) value += static_cast<float>(rng.normal() * 0.1 * spread);
      const RowSums a = sum_row(base), b = sum_row(model);
      const auto expected = static_cast<double>(brute_log_sum_exp(base));
      // A double carries 2^-53 of the largest term it holds.
      EXPECT_NEAR(a.log_sum_exp, expected, 1e-14 * (1 + std::abs(expected))) << size << " " << spread;
      EXPECT_NEAR(row_divergence(base, a, model, b), static_cast<double>(brute_divergence(base, model)),
                  1e-13 * (1 + 10 * spread))
          << size << " " << spread;
    }
}

TEST(Rows, EqualRowsDivergeByNothing) {
  Rng rng(8);
  const std::vector<float> row = random_row(rng, 49152, 3);
  const RowSums sums = sum_row(row);
  EXPECT_EQ(row_divergence(row, sums, row, sums), 0.0);
  // Rounding noise of 1e-6 in the logits, as another kernel makes it, must stay far below 1e-6 nats.
  std::vector<float> noisy = row;
  for (float& value : noisy) value += static_cast<float>(1e-6 * rng.normal());
  EXPECT_LT(std::abs(row_divergence(row, sums, noisy, sum_row(noisy))), 1e-10);
}

TEST(Rows, TopIsTheLowestIdOfEquals) {
  EXPECT_EQ(sum_row(std::vector<float>{1, 3, 3, 2}).top, 1u);
  EXPECT_EQ(sum_row(std::vector<float>{5}).top, 0u);
}

TEST(Rows, BrokenLogitsAreSeen) {
  for (const float bad : {std::numeric_limits<float>::quiet_NaN(), std::numeric_limits<float>::infinity()}) {
    std::vector<float> row(20, 1.0f);
    row[13] = bad;
    const std::vector<float> good(20, 1.0f);
    EXPECT_TRUE(std::isnan(sum_row(row).log_sum_exp));
    EXPECT_TRUE(std::isnan(row_divergence(good, sum_row(good), row, sum_row(row))));
    EXPECT_TRUE(std::isnan(row_divergence(row, sum_row(row), good, sum_row(good))));
  }
}

TEST(Rows, MeanErrorByHand) {
  // 1 2 3 6: mean 3, mean square deviation (4 + 1 + 0 + 9) / 4 = 3.5, / (4 - 1), root.
  const std::vector<double> values = {1, 2, 3, 6};
  EXPECT_DOUBLE_EQ(mean_error(values).mean, 3);
  EXPECT_DOUBLE_EQ(mean_error(values).error, std::sqrt(3.5 / 3));
  EXPECT_TRUE(std::isnan(mean_error(std::vector<double>{}).mean));
  EXPECT_TRUE(std::isnan(mean_error(std::vector<double>{1}).error));
}

TEST(Rows, QuantileByHand) {
  const std::vector<double> values = {4, 1, 3, 2};
  EXPECT_DOUBLE_EQ(quantile(values, 0), 1);
  EXPECT_DOUBLE_EQ(quantile(values, 0.5), 2.5);
  EXPECT_DOUBLE_EQ(quantile(values, 1), 4);
  EXPECT_NEAR(quantile(values, 0.99), 3.97, 1e-12);
  EXPECT_TRUE(std::isnan(quantile({}, 0.5)));
}

}  // namespace
}  // namespace whit
