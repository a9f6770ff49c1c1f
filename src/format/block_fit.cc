// Least squares by alternation: codes are the nearest levels, then scale and minimum are the solution of the normal
// equations for these codes, from several starts (a smaller range clips the largest weights and serves all others
// better). What is kept is what has the least error as stored, half floats included.
#include "format/block_fit.h"

#include <algorithm>
#include <cmath>

#include "format/bit_stream.h"

namespace whit::block_fit {
namespace {

constexpr int kRounds = 2;  // of alternation from each start; more change the error by less than 0.1 %
constexpr float kShrinks[] = {1.0f, 0.94f, 0.88f, 0.8f, 0.7f};

float stored(float value, bool half) noexcept { return half ? round_to_half(value) : value; }

// To the nearest integer, ties to even, for |value| < 2^22: the sum's last bit is worth one. As nearbyint(), which is a
// call on machines without an instruction for it.
float nearest(float value) noexcept { return (value + 0x1.8p23f) - 0x1.8p23f; }

// What a squared error counts, by how large the weight is: 1 + |x| / rms. The plain sum of squares clips the largest
// weights for the good of all others, and a model minds that more than the sum does (docs/design/convert.md).
void weigh(const float* x, size_t n, float* importance) noexcept {
  double square = 0;
  for (size_t i = 0; i < n; ++i) square += static_cast<double>(x[i]) * static_cast<double>(x[i]);
  const double rms = std::sqrt(square / static_cast<double>(n));
  for (size_t i = 0; i < n; ++i)
    importance[i] = rms == 0 ? 1.0f : static_cast<float>(1 + std::abs(static_cast<double>(x[i])) / rms);
}

// Codes for these levels, and the weighted sum of squares.
double assign(const float* x, const float* importance, size_t n, int levels, float scale, float minimum,
              uint8_t* codes) noexcept {
  const float inverse = 1 / scale, top = static_cast<float>(levels - 1);
  if (!std::isfinite(inverse)) scale = 0;  // zero, or too small to divide by: all at the minimum
  float error[8] = {};                     // side by side, so that eight sums go on at a time
  for (size_t i = 0; i < n; ++i) {
    const float position = scale == 0 ? 0 : (x[i] - minimum) * inverse;
    const float code = nearest(std::min(std::max(position, 0.0f), top));
    codes[i] = static_cast<uint8_t>(code);
    const float rest = x[i] - (scale * code + minimum);
    error[i % 8] += importance[i] * rest * rest;
  }
  double sum = 0;
  for (const float part : error) sum += static_cast<double>(part);
  return sum;
}

Symmetric symmetric(const float* x, const float* importance, size_t n, int levels, int centre, bool half,
                    uint8_t* codes) {
  float largest = 0;
  for (size_t i = 0; i < n; ++i)
    if (std::abs(x[i]) > std::abs(largest)) largest = x[i];
  Symmetric best;
  std::fill_n(codes, n, static_cast<uint8_t>(centre));
  for (size_t i = 0; i < n; ++i) best.error += static_cast<double>(importance[i] * x[i] * x[i]);
  if (largest == 0) return best;
  uint8_t trial[256];
  const auto judge = [&](float scale) {
    scale = stored(scale, half);
    const double error = assign(x, importance, n, levels, scale, -static_cast<float>(centre) * scale, trial);
    if (error < best.error) {
      best = {scale, error};
      std::copy_n(trial, n, codes);
    }
  };
  // The largest weight at the lowest code (the longer side) or at the highest.
  for (const int end : {-centre, levels - 1 - centre})
    for (const float shrink : kShrinks) {
      float scale = largest * shrink / static_cast<float>(end);
      judge(scale);
      for (int round = 0; round < kRounds; ++round) {
        double over = 0, under = 0;
        for (size_t i = 0; i < n; ++i) {
          const double level = static_cast<double>(trial[i]) - centre, v = static_cast<double>(importance[i]);
          over += v * level * static_cast<double>(x[i]);
          under += v * level * level;
        }
        if (under == 0) break;
        scale = static_cast<float>(over / under);
        judge(scale);
      }
    }
  return best;
}

Ranged ranged(const float* x, const float* importance, size_t n, int levels, bool half, bool not_above_zero,
              uint8_t* codes) {
  const auto [low_at, high_at] = std::minmax_element(x, x + n);
  const float low = not_above_zero ? std::min(*low_at, 0.0f) : *low_at, high = std::max(*high_at, low);
  uint8_t trial[256];
  Ranged best;
  best.minimum = stored(low, half);
  best.error = assign(x, importance, n, levels, 0, best.minimum, codes);
  if (high == low) return best;
  const auto judge = [&](float scale, float minimum) {
    scale = stored(scale, half);
    minimum = stored(not_above_zero ? std::min(minimum, 0.0f) : minimum, half);
    const double error = assign(x, importance, n, levels, scale, minimum, trial);
    if (error < best.error) {
      best = {scale, minimum, error};
      std::copy_n(trial, n, codes);
    }
  };
  // Weights that lie on a grid of half as many levels come back exactly.
  judge((high - low) / static_cast<float>(levels / 2 - 1), low);
  for (const float shrink : kShrinks) {
    const float middle = 0.5f * (low + high), reach = 0.5f * (high - low) * shrink;
    judge(2 * reach / static_cast<float>(levels - 1), middle - reach);
    for (int round = 0; round < kRounds; ++round) {
      double count = 0, q = 0, qq = 0, w = 0, qw = 0;
      for (size_t i = 0; i < n; ++i) {
        const double code = trial[i], weight = static_cast<double>(x[i]), v = static_cast<double>(importance[i]);
        count += v, q += v * code, qq += v * code * code, w += v * weight, qw += v * code * weight;
      }
      const double determinant = count * qq - q * q;
      if (determinant <= 0) break;
      double scale = (count * qw - q * w) / determinant, minimum = (w * qq - q * qw) / determinant;
      if (not_above_zero && minimum > 0) scale = qw / qq, minimum = 0;
      if (!(scale > 0)) break;
      judge(static_cast<float>(scale), static_cast<float>(minimum));
    }
  }
  return best;
}

// Of sub-block k with these integers, as the decoder computes it.
double assign_sub(const float* x, const float* importance, const SuperShape& shape, const SuperBlock& block, int scale,
                  int minimum, uint8_t* codes) noexcept {
  const float step = block.d * static_cast<float>(scale);
  const float shift =
      shape.minima ? -block.dmin * static_cast<float>(minimum) : -step * static_cast<float>(shape.centre);
  return assign(x, importance, static_cast<size_t>(shape.sub), shape.levels, step, shift, codes);
}

// The best integers of each sub-block near those that it has, and its codes.
void settle(const float* x, const float* importance, const SuperShape& shape, SuperBlock& block) noexcept {
  block.error = 0;
  for (int k = 0; k < 256 / shape.sub; ++k) {
    const float* from = x + k * shape.sub;
    uint8_t* codes = block.codes + k * shape.sub;
    uint8_t trial[32];
    const int scale = block.scales[k], minimum = block.minima[k], reach = shape.minima ? 1 : 0;
    double least = assign_sub(from, importance + k * shape.sub, shape, block, scale, minimum, codes);
    for (int s = std::max(shape.scale_low, scale - 1); s <= std::min(shape.scale_high, scale + 1); ++s)
      for (int m = std::max(0, minimum - reach); m <= std::min(shape.scale_high, minimum + reach) || m == minimum;
           ++m) {
        const double error = assign_sub(from, importance + k * shape.sub, shape, block, s, m, trial);
        if (error >= least) continue;
        least = error;
        block.scales[k] = s, block.minima[k] = m;
        std::copy_n(trial, shape.sub, codes);
      }
    block.error += least;
  }
}

// d and dmin by least squares for the integers that stand; false where there is nothing to solve.
bool solve_halves(const float* x, const float* importance, const SuperShape& shape, SuperBlock& block) noexcept {
  double aa = 0, ab = 0, bb = 0, ax = 0, bx = 0;
  for (int i = 0; i < 256; ++i) {
    const int k = i / shape.sub;
    const double a = block.scales[k] * (static_cast<double>(block.codes[i]) - shape.centre), b = -block.minima[k];
    const double weight = static_cast<double>(x[i]), v = static_cast<double>(importance[i]);
    aa += v * a * a, ab += v * a * b, bb += v * b * b, ax += v * a * weight, bx += v * b * weight;
  }
  if (aa == 0) return false;
  double d = ax / aa, dmin = static_cast<double>(block.dmin);
  if (const double determinant = aa * bb - ab * ab; shape.minima && determinant > 1e-12 * aa * bb) {
    d = (ax * bb - bx * ab) / determinant;
    dmin = (bx * aa - ax * ab) / determinant;
  }
  block.d = stored(static_cast<float>(d), true);
  block.dmin = stored(static_cast<float>(dmin), true);
  return true;
}

}  // namespace

Symmetric fit_symmetric(const float* x, size_t n, int levels, int centre, bool half, uint8_t* codes) {
  float importance[256];
  weigh(x, n, importance);
  return symmetric(x, importance, n, levels, centre, half, codes);
}

Ranged fit_ranged(const float* x, size_t n, int levels, bool half, uint8_t* codes) {
  float importance[256];
  weigh(x, n, importance);
  return ranged(x, importance, n, levels, half, false, codes);
}

SuperBlock fit_super(const float* x, const SuperShape& shape) {
  float importance[256];
  weigh(x, 256, importance);
  const int subs = 256 / shape.sub;
  float scales[16], minima[16] = {}, largest = 0, deepest = 0;
  uint8_t codes[32];
  for (int k = 0; k < subs; ++k) {
    const float* from = x + k * shape.sub;
    const auto n = static_cast<size_t>(shape.sub);
    if (shape.minima) {
      const Ranged fit = ranged(from, importance + k * shape.sub, n, shape.levels, false, true, codes);
      scales[k] = fit.scale, minima[k] = -fit.minimum;
    } else {
      scales[k] = symmetric(from, importance + k * shape.sub, n, shape.levels, shape.centre, false, codes).scale;
    }
    if (std::abs(scales[k]) > std::abs(largest)) largest = scales[k];
    deepest = std::max(deepest, minima[k]);
  }
  SuperBlock best;
  // Where scales are signed, the largest one takes the longer side.
  const int end = shape.scale_low < 0 ? shape.scale_low : shape.scale_high;
  best.d = stored(largest / static_cast<float>(end), true);
  best.dmin = shape.minima ? stored(deepest / static_cast<float>(shape.scale_high), true) : 0;
  const auto integer = [&](float value, float unit) {
    if (unit == 0) return 0;
    return static_cast<int>(std::nearbyint(
        std::clamp(value / unit, static_cast<float>(shape.scale_low), static_cast<float>(shape.scale_high))));
  };
  for (int k = 0; k < subs; ++k) {
    best.scales[k] = integer(scales[k], best.d);
    best.minima[k] = integer(minima[k], best.dmin);
  }
  settle(x, importance, shape, best);
  for (int round = 0; round < kRounds; ++round) {
    SuperBlock next = best;
    if (!solve_halves(x, importance, shape, next)) break;
    settle(x, importance, shape, next);
    if (next.error >= best.error) break;
    best = next;
  }
  return best;
}

}  // namespace whit::block_fit
