// Every kernel against plain loops in double: lengths from 1 to two widest vectors and more, misaligned, ragged groups.
#include "methods/math/affine_kernels.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <vector>

#include "base/rng.h"

namespace whit {
namespace {

std::vector<float> random_floats(size_t count, uint64_t seed) {
  Rng rng(seed);
  std::vector<float> out(count);
  for (float& value : out) value = static_cast<float>(rng.normal());
  return out;
}

double code_of(float w, float scale, float minimum, float top) {
  if (scale == 0) return 0;
  // The same float operations as the kernel, so that ties fall the same way.
  return std::clamp(std::nearbyint((w - minimum) * (1.0f / scale)), 0.0f, top);
}

TEST(AffineKernels, SumsMomentsAndCodes) {
  constexpr float kTop = 15;
  for (size_t cols = 1; cols <= 70; ++cols)
    for (const size_t group : {size_t{8}, size_t{16}, size_t{32}, cols}) {
      const size_t groups = (cols + group - 1) / group;
      const auto w = random_floats(cols + 1, cols), noise = random_floats(cols + 1, 77 + cols);
      std::vector<float> h(cols + 1), scale(groups), minimum(groups);
      for (size_t j = 0; j <= cols; ++j) h[j] = noise[j] * noise[j];
      for (size_t g = 0; g < groups; ++g) scale[g] = g == 1 ? 0.0f : 0.21f, minimum[g] = -1.5f;
      const float *pw = w.data() + 1, *ph = h.data() + 1;
      std::vector<GroupSums> sums(groups);
      std::vector<GroupMoments> moments(groups);
      std::vector<uint8_t> codes(cols + 1, 0xee);
      group_sums(pw, ph, cols, group, sums.data());
      group_moments(pw, ph, cols, group, scale.data(), minimum.data(), kTop, moments.data());
      group_codes(pw, cols, group, scale.data(), minimum.data(), kTop, codes.data());
      EXPECT_EQ(codes[cols], 0xee) << "wrote past the end";
      for (size_t g = 0; g < groups; ++g) {
        double sh = 0, shw = 0, shww = 0, error = 0, hq = 0, hqq = 0, hqw = 0, size = 1e-30, low = 1e9, high = -1e9;
        for (size_t j = g * group; j < std::min(cols, (g + 1) * group); ++j) {
          const double q = code_of(pw[j], scale[g], minimum[g], kTop), x = pw[j], y = ph[j];
          EXPECT_EQ(codes[j], q);
          const double e = x - (scale[g] * q + minimum[g]);
          sh += y, shw += y * x, shww += y * x * x, error += y * e * e, hq += y * q, hqq += y * q * q, hqw += y * q * x;
          size += y * (1 + q * q) * (1 + x * x);
          low = std::min(low, x), high = std::max(high, x);
        }
        // Each sum has at most 70 terms, each rounded a few times: 80 half-units of its size.
        const double bound = 80 * 6e-8 * size;
        EXPECT_NEAR(sums[g].h, sh, bound);
        EXPECT_NEAR(sums[g].hw, shw, bound);
        EXPECT_NEAR(sums[g].hww, shww, bound);
        EXPECT_EQ(sums[g].least, static_cast<float>(low));
        EXPECT_EQ(sums[g].most, static_cast<float>(high));
        EXPECT_NEAR(moments[g].error, error, bound);
        EXPECT_NEAR(moments[g].hq, hq, bound);
        EXPECT_NEAR(moments[g].hqq, hqq, bound);
        EXPECT_NEAR(moments[g].hqw, hqw, bound);
      }
    }
}

TEST(AffineKernels, FeedbackStaysInsideTheBlock) {
  for (size_t count = 1; count <= 40; ++count) {
    const size_t stride = count + 3;
    auto w = random_floats(count + 1, count);
    const auto upper = random_floats(count * stride, 5);
    std::vector<float> error(count + 1, 9.0f), scale(count, 0.3f), minimum(count, -1.2f), pivot(count, 0.9f);
    std::vector<uint8_t> codes(count + 1, 0xee);
    std::vector<double> plain(w.begin(), w.end());
    const std::vector<float> before = w;
    const FeedbackRow row{w.data(),       error.data(), codes.data(), scale.data(),
                          minimum.data(), nullptr,      nullptr,      nullptr};
    const double loss = feedback_block(row, count, upper.data(), stride, pivot.data(), 7);
    EXPECT_EQ(w[count], before[count]);
    EXPECT_EQ(error[count], 9.0f);
    EXPECT_EQ(codes[count], 0xee);
    double sum = 0;
    for (size_t j = 0; j < count; ++j) {
      EXPECT_LE(codes[j], 7);
      const double e = (plain[j] - (0.3f * codes[j] - 1.2f)) * 0.9f;
      EXPECT_NEAR(error[j], e, 1e-4 * (1 + std::fabs(e)));
      sum += e * e;
      for (size_t k = j + 1; k < count; ++k) plain[k] -= error[j] * upper[j * stride + k];
    }
    EXPECT_NEAR(loss, sum, 1e-3 * (1 + sum));
  }
}

TEST(AffineKernels, DotAndAddScaled) {
  for (size_t count = 0; count <= 70; ++count) {
    const auto a = random_floats(count + 1, 1 + count), b = random_floats(count + 1, 2 + count);
    double sum = 0, size = 0;
    for (size_t i = 1; i <= count; ++i) sum += double{a[i]} * b[i], size += std::fabs(double{a[i]} * b[i]);
    EXPECT_NEAR(dot(a.data() + 1, b.data() + 1, count), sum, 70 * 6e-8 * size);
    auto y = b;
    add_scaled(0.5f, a.data() + 1, count, y.data());
    for (size_t i = 0; i < count; ++i) EXPECT_FLOAT_EQ(y[i], b[i] + 0.5f * a[i + 1]);
    EXPECT_EQ(y[count], b[count]);
  }
}

}  // namespace
}  // namespace whit
