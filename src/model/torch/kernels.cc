#include "model/torch/kernels.h"

#include <algorithm>
#include <bit>
#include <cmath>

// The loops with exp() are compiled twice, for the baseline and for AVX2 with FMA; the loader chooses (three times as
// fast).
#if defined(__x86_64__) && defined(__GNUC__) && !defined(__clang__)
#define WHIT_CLONES __attribute__((target_clones("default", "arch=x86-64-v3")))
#else
#define WHIT_CLONES
#endif

namespace whit::torch_room {
namespace {

// Partial sums that the compiler may keep in vector registers; the order of additions is part of the code.
constexpr size_t kLanes = 16;

[[gnu::always_inline]] inline float sum_lanes(const float (&lanes)[kLanes]) noexcept {
  float sum = 0;
  for (float lane : lanes) sum += lane;
  return sum;
}

// exp within 2 ulp on [-87.3, 88.3], clamped outside. Without branches, so that loops over it become vector code.
// 2^f on [-1/2, 1/2] is e^(f ln 2); the polynomial is Taylor's to degree 6: the rest is below (0.347^7)/7! = 1.2e-7.
[[gnu::always_inline]] inline float fast_exp(float x) noexcept {
  x = std::min(std::max(x, -87.3f), 88.3f);
  constexpr float kRound = 12582912.0f;  // 1.5 * 2^23: adding it rounds to an integer, kept in the low mantissa bits
  const float shifted = x * 1.44269504f + kRound;
  const float n = shifted - kRound;
  const float r = (x - n * 0.693145752f) - n * 1.42860677e-6f;
  float p = 1.0f / 5040.0f;
  p = p * r + 1.0f / 720.0f;
  p = p * r + 1.0f / 120.0f;
  p = p * r + 1.0f / 24.0f;
  p = p * r + 1.0f / 6.0f;
  p = p * r + 0.5f;
  p = p * r + 1.0f;
  p = p * r + 1.0f;
  const int32_t exponent = std::bit_cast<int32_t>(shifted) - std::bit_cast<int32_t>(kRound);
  return p * std::bit_cast<float>((exponent + 127) << 23);
}

}  // namespace

float dot(const float* x, const float* y, size_t n) noexcept {
  float lanes[kLanes] = {};
  size_t i = 0;
  for (; i + kLanes <= n; i += kLanes)
    for (size_t l = 0; l < kLanes; ++l) lanes[l] += x[i + l] * y[i + l];
  float sum = sum_lanes(lanes);
  for (; i < n; ++i) sum += x[i] * y[i];
  return sum;
}

void rms_norm(const float* x, const float* gain, size_t n, double epsilon, float* out) noexcept {
  const double mean = static_cast<double>(dot(x, x, n)) / static_cast<double>(n);
  const float factor = static_cast<float>(1.0 / std::sqrt(mean + epsilon));
  for (size_t i = 0; i < n; ++i) out[i] = x[i] * factor * gain[i];
}

void layer_norm(const float* x, const float* gain, const float* bias, size_t n, double epsilon, float* out) noexcept {
  double sum = 0, squares = 0;
  for (size_t i = 0; i < n; ++i) sum += static_cast<double>(x[i]);
  const double mean = sum / static_cast<double>(n);
  for (size_t i = 0; i < n; ++i) squares += (x[i] - mean) * (x[i] - mean);
  const auto factor = static_cast<float>(1.0 / std::sqrt(squares / static_cast<double>(n) + epsilon));
  const auto middle = static_cast<float>(mean);
  for (size_t i = 0; i < n; ++i) out[i] = (x[i] - middle) * factor * gain[i] + bias[i];
}

void norm(NormKind kind, const float* x, const float* gain, const float* bias, size_t n, double epsilon,
          float* out) noexcept {
  if (kind == NormKind::layer)
    layer_norm(x, gain, bias, n, epsilon, out);
  else
    rms_norm(x, gain, n, epsilon, out);
}

namespace {

[[gnu::always_inline]] inline float silu(float x) noexcept { return x / (1.0f + fast_exp(-x)); }
[[gnu::always_inline]] inline float relu(float x) noexcept { return x > 0.0f ? x : 0.0f; }
// x (1 + tanh u) / 2 = x / (1 + e^(-2u)), u = sqrt(2 / pi) (x + 0.044715 x^3)  (1606.08415)
[[gnu::always_inline]] inline float gelu_tanh(float x) noexcept {
  return x / (1.0f + fast_exp(-1.5957691216f * (x + 0.044715f * x * x * x)));
}
[[gnu::always_inline]] inline float gelu(float x) noexcept { return 0.5f * x * (1.0f + std::erf(x * 0.70710678f)); }

template <float (*f)(float)>
[[gnu::always_inline]] inline void activate_all(float* gate, const float* up, size_t n) noexcept {
  if (up) {
    for (size_t i = 0; i < n; ++i) gate[i] = f(gate[i]) * up[i];
  } else {
    for (size_t i = 0; i < n; ++i) gate[i] = f(gate[i]);
  }
}

}  // namespace

WHIT_CLONES void activate(Activation f, float* gate, const float* up, size_t n) noexcept {
  switch (f) {
    case Activation::silu: return activate_all<silu>(gate, up, n);
    case Activation::relu: return activate_all<relu>(gate, up, n);
    case Activation::gelu_tanh: return activate_all<gelu_tanh>(gate, up, n);
    case Activation::gelu: return activate_all<gelu>(gate, up, n);
  }
}

WHIT_CLONES void masked_softmax(float* x, size_t n, size_t begin, size_t end, float scale) noexcept {
  float lanes[kLanes];
  std::fill(lanes, lanes + kLanes, x[begin]);
  size_t i = begin;
  for (; i + kLanes <= end; i += kLanes)
    for (size_t l = 0; l < kLanes; ++l) lanes[l] = x[i + l] > lanes[l] ? x[i + l] : lanes[l];
  float most = *std::max_element(lanes, lanes + kLanes);
  for (; i < end; ++i) most = std::max(most, x[i]);
  const float shift = most * scale;
  for (i = begin; i < end; ++i) x[i] = fast_exp(x[i] * scale - shift);
  std::fill(lanes, lanes + kLanes, 0.0f);
  for (i = begin; i + kLanes <= end; i += kLanes)
    for (size_t l = 0; l < kLanes; ++l) lanes[l] += x[i + l];
  float sum = sum_lanes(lanes);
  for (; i < end; ++i) sum += x[i];
  const float inverse = 1.0f / sum;
  for (i = begin; i < end; ++i) x[i] *= inverse;
  std::fill(x, x + begin, 0.0f);
  std::fill(x + end, x + n, 0.0f);
}

RotaryTable::RotaryTable(const RotarySpec& rotary, RotaryPairs which, size_t context)
    : half(rotary.dimensions / 2),
      frequencies(rotary.inverse_frequencies(context)),
      factor(rotary.attention_factor),
      pairs(which) {}

void RotaryTable::extend(size_t count) {
  if (count <= positions) return;
  count = std::max(count, positions * 2);
  cosine.resize(count * half);
  sine.resize(count * half);
  for (size_t p = positions; p < count; ++p)
    for (size_t i = 0; i < half; ++i) {
      const double angle = static_cast<double>(p) * frequencies[i];
      cosine[p * half + i] = static_cast<float>(std::cos(angle) * factor);
      sine[p * half + i] = static_cast<float>(std::sin(angle) * factor);
    }
  positions = count;
}

namespace {

// direction 1: by the angle; -1: by its negative
void turn(const RotaryTable& table, float* row, size_t heads, size_t head_size, size_t position,
          float direction) noexcept {
  const float* c = table.cosine.data() + position * table.half;
  const float* s = table.sine.data() + position * table.half;
  const bool halves = table.pairs == RotaryPairs::halves;
  const size_t step = halves ? 1 : 2, apart = halves ? table.half : 1;  // of a pair's first elements; of a pair
  for (size_t head = 0; head < heads; ++head) {
    float* x = row + head * head_size;
    for (size_t i = 0; i < table.half; ++i) {
      float &a = x[step * i], &b = x[step * i + apart];
      const float first = a, second = b, sine = direction * s[i];
      a = first * c[i] - second * sine;
      b = first * sine + second * c[i];
    }
  }
}

}  // namespace

void RotaryTable::rotate(float* row, size_t heads, size_t head_size, size_t position) const noexcept {
  turn(*this, row, heads, head_size, position, 1.0f);
}
void RotaryTable::rotate_back(float* row, size_t heads, size_t head_size, size_t position) const noexcept {
  turn(*this, row, heads, head_size, position, -1.0f);
}

}  // namespace whit::torch_room
