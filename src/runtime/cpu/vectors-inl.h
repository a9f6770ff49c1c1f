// What happens between the products: norms, activations, rotary positions, softmax, rounding of activations to 8 bits.
#if defined(WHIT_RUNTIME_CPU_VECTORS_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef WHIT_RUNTIME_CPU_VECTORS_INL_H_
#undef WHIT_RUNTIME_CPU_VECTORS_INL_H_
#else
#define WHIT_RUNTIME_CPU_VECTORS_INL_H_
#endif

#include <hwy/contrib/math/math-inl.h>

#include <cmath>

#include "runtime/cpu/simd-inl.h"

HWY_BEFORE_NAMESPACE();
namespace whit::cpu::HWY_NAMESPACE {

inline void rms_norm(const float* x, const float* gain, float epsilon, size_t n, float* out) noexcept {
  const Floats d;
  const size_t N = hn::Lanes(d);
  auto s0 = hn::Zero(d), s1 = hn::Zero(d);
  size_t i = 0;
  for (; i + 2 * N <= n; i += 2 * N) {
    const auto a = hn::LoadU(d, x + i), b = hn::LoadU(d, x + i + N);
    s0 = hn::MulAdd(a, a, s0);
    s1 = hn::MulAdd(b, b, s1);
  }
  float rest = 0.0f;
  for (; i < n; ++i) rest += x[i] * x[i];
  const float mean = (hn::GetLane(hn::SumOfLanes(d, hn::Add(s0, s1))) + rest) / static_cast<float>(n);
  const float factor = 1.0f / std::sqrt(mean + epsilon);
  const auto f = hn::Set(d, factor);
  for (i = 0; i + N <= n; i += N)
    hn::StoreU(hn::Mul(hn::Mul(hn::LoadU(d, x + i), f), hn::LoadU(d, gain + i)), d, out + i);
  for (; i < n; ++i) out[i] = x[i] * factor * gain[i];
}

template <class V>
HWY_INLINE V Silu(V x) {
  const Floats d;
  // exp is defined up to 88; below -88 the value is smaller than the smallest normal float.
  const auto low = hn::Set(d, -88.0f);
  const auto value = hn::Div(x, hn::Add(hn::Set(d, 1.0f), hn::Exp(d, hn::Neg(hn::Max(x, low)))));
  return hn::IfThenZeroElse(hn::Lt(x, low), value);
}

inline void layer_norm(const float* x, const float* gain, const float* bias, float epsilon, size_t n,
                       float* out) noexcept {
  const Floats d;
  const size_t N = hn::Lanes(d);
  auto sums = hn::Zero(d);
  size_t i = 0;
  for (; i + N <= n; i += N) sums = hn::Add(sums, hn::LoadU(d, x + i));
  float sum = hn::GetLane(hn::SumOfLanes(d, sums));
  for (; i < n; ++i) sum += x[i];
  const float mean = sum / static_cast<float>(n);
  const auto middle = hn::Set(d, mean);
  auto squares = hn::Zero(d);
  for (i = 0; i + N <= n; i += N) {
    const auto apart = hn::Sub(hn::LoadU(d, x + i), middle);
    squares = hn::MulAdd(apart, apart, squares);
  }
  float square = hn::GetLane(hn::SumOfLanes(d, squares));
  for (; i < n; ++i) square += (x[i] - mean) * (x[i] - mean);
  const float factor = 1.0f / std::sqrt(square / static_cast<float>(n) + epsilon);
  const auto f = hn::Set(d, factor);
  for (i = 0; i + N <= n; i += N) {
    const auto unit = hn::Mul(hn::Sub(hn::LoadU(d, x + i), middle), f);
    hn::StoreU(hn::MulAdd(unit, hn::LoadU(d, gain + i), hn::LoadU(d, bias + i)), d, out + i);
  }
  for (; i < n; ++i) out[i] = (x[i] - mean) * factor * gain[i] + bias[i];
}

template <Curve kCurve, class V>
HWY_INLINE V CurveOf(V x) {
  const Floats d;
  if constexpr (kCurve == Curve::silu) {
    return Silu(x);
  } else if constexpr (kCurve == Curve::relu) {
    return hn::Max(x, hn::Zero(d));
  } else if constexpr (kCurve == Curve::gelu_tanh) {
    // x (1 + tanh u) / 2 = x / (1 + e^(-2u)) = silu(2u) x / (2u), u = sqrt(2 / pi) (x + 0.044715 x^3)
    const auto inner = hn::MulAdd(hn::Mul(hn::Mul(x, x), hn::Set(d, 0.044715f)), x, x);
    const auto low = hn::Set(d, -88.0f);
    const auto twice = hn::Max(hn::Mul(inner, hn::Set(d, 1.5957691216f)), low);
    const auto value = hn::Div(x, hn::Add(hn::Set(d, 1.0f), hn::Exp(d, hn::Neg(twice))));
    return hn::IfThenZeroElse(hn::Le(twice, low), value);
  } else {
    HWY_ALIGN float buffer[HWY_MAX_BYTES / sizeof(float)];
    hn::Store(x, d, buffer);
    for (size_t i = 0; i < hn::Lanes(d); ++i) buffer[i] *= 0.5f * (1.0f + std::erf(buffer[i] * 0.70710678f));
    return hn::Load(d, buffer);
  }
}

template <Curve kCurve>
HWY_INLINE void CurveLoop(const float* x, const float* up, size_t n, float* out) {
  const Floats d;
  const size_t N = hn::Lanes(d);
  size_t i = 0;
  for (; i + N <= n; i += N) {
    const auto value = CurveOf<kCurve>(hn::LoadU(d, x + i));
    hn::StoreU(up ? hn::Mul(value, hn::LoadU(d, up + i)) : value, d, out + i);
  }
  if (i < n) {  // the rest through a padded register, so that it rounds like the others
    HWY_ALIGN float buffer[HWY_MAX_BYTES / sizeof(float)] = {};
    std::memcpy(buffer, x + i, (n - i) * sizeof(float));
    hn::Store(CurveOf<kCurve>(hn::Load(d, buffer)), d, buffer);
    for (size_t j = i; j < n; ++j) out[j] = up ? buffer[j - i] * up[j] : buffer[j - i];
  }
}

inline void activate(Curve f, const float* x, const float* up, size_t n, float* out) noexcept {
  switch (f) {
    case Curve::silu: return CurveLoop<Curve::silu>(x, up, n, out);
    case Curve::relu: return CurveLoop<Curve::relu>(x, up, n, out);
    case Curve::gelu: return CurveLoop<Curve::gelu>(x, up, n, out);
    case Curve::gelu_tanh: return CurveLoop<Curve::gelu_tanh>(x, up, n, out);
  }
}

inline void add(const float* x, size_t n, float* out) noexcept {
  const Floats d;
  const size_t N = hn::Lanes(d);
  size_t i = 0;
  for (; i + N <= n; i += N) hn::StoreU(hn::Add(hn::LoadU(d, out + i), hn::LoadU(d, x + i)), d, out + i);
  for (; i < n; ++i) out[i] += x[i];
}

inline void multiply(const float* x, const float* y, size_t n, float* out) noexcept {
  const Floats d;
  const size_t N = hn::Lanes(d);
  size_t i = 0;
  for (; i + N <= n; i += N) hn::StoreU(hn::Mul(hn::LoadU(d, x + i), hn::LoadU(d, y + i)), d, out + i);
  for (; i < n; ++i) out[i] = x[i] * y[i];
}

inline void rotate(const float* cosine, const float* sine, size_t dimensions, float* x) noexcept {
  const Floats d;
  const size_t N = hn::Lanes(d);
  size_t i = 0;
  for (; i + N <= dimensions; i += N) {
    const auto v = hn::LoadU(d, x + i);
    const auto turned = hn::Mul(hn::Shuffle2301(v), hn::LoadU(d, sine + i));
    hn::StoreU(hn::MulAdd(v, hn::LoadU(d, cosine + i), turned), d, x + i);
  }
  for (; i + 1 < dimensions; i += 2) {
    const float a = x[i], b = x[i + 1];
    x[i] = a * cosine[i] + b * sine[i];
    x[i + 1] = b * cosine[i + 1] + a * sine[i + 1];
  }
}

inline void rotate_halves(const float* cosine, const float* sine, size_t dimensions, float* x) noexcept {
  const Floats d;
  const size_t N = hn::Lanes(d), half = dimensions / 2;
  size_t i = 0;
  for (; i + N <= half; i += N) {
    const auto a = hn::LoadU(d, x + i), b = hn::LoadU(d, x + half + i);
    const auto c = hn::LoadU(d, cosine + i), s = hn::LoadU(d, sine + i);
    hn::StoreU(hn::NegMulAdd(b, s, hn::Mul(a, c)), d, x + i);
    hn::StoreU(hn::MulAdd(b, c, hn::Mul(a, s)), d, x + half + i);
  }
  for (; i < half; ++i) {
    const float a = x[i], b = x[half + i];
    x[i] = a * cosine[i] - b * sine[i];
    x[half + i] = b * cosine[i] + a * sine[i];
  }
}

// Two stages of butterflies: a, b, c, e are the elements 0, h, 2 h, 3 h of a group.
template <class V>
HWY_INLINE void Butterflies(V& a, V& b, V& c, V& e) {
  const V s0 = hn::Add(a, b), d0 = hn::Sub(a, b), s1 = hn::Add(c, e), d1 = hn::Sub(c, e);
  a = hn::Add(s0, s1);
  b = hn::Add(d0, d1);
  c = hn::Sub(s0, s1);
  e = hn::Sub(d0, d1);
}

// Two stages a pass, so that x is read and written half as often. Strides 1 and 2 lie inside a register: there four
// registers are transposed by an interleaved load.
inline void hadamard(float* x, size_t n) noexcept {
  const float scale = 1.0f / std::sqrt(static_cast<float>(n));
  if (n < 16) {
    for (size_t h = 1; h < n; h *= 2)
      for (size_t i = 0; i < n; ++i)
        if ((i & h) == 0) {
          const float a = x[i], b = x[i + h];
          x[i] = a + b;
          x[i + h] = a - b;
        }
    for (size_t i = 0; i < n; ++i) x[i] *= scale;
    return;
  }
  const hn::CappedTag<float, 4> d4;
  using V4 = hn::Vec<decltype(d4)>;
  const V4 f = hn::Set(d4, scale);
  for (size_t i = 0; i < n; i += 16) {
    V4 a, b, c, e;
    hn::LoadInterleaved4(d4, x + i, a, b, c, e);
    Butterflies(a, b, c, e);
    hn::StoreInterleaved4(a, b, c, e, d4, x + i);
    a = hn::LoadU(d4, x + i);
    b = hn::LoadU(d4, x + i + 4);
    c = hn::LoadU(d4, x + i + 8);
    e = hn::LoadU(d4, x + i + 12);
    Butterflies(a, b, c, e);
    hn::StoreU(hn::Mul(a, f), d4, x + i);
    hn::StoreU(hn::Mul(b, f), d4, x + i + 4);
    hn::StoreU(hn::Mul(c, f), d4, x + i + 8);
    hn::StoreU(hn::Mul(e, f), d4, x + i + 12);
  }
  const Floats d;
  const size_t N = hn::Lanes(d);
  size_t h = 16;
  for (; 4 * h <= n; h *= 4)
    for (size_t base = 0; base < n; base += 4 * h)
      for (size_t i = base; i < base + h; i += N) {
        auto a = hn::LoadU(d, x + i), b = hn::LoadU(d, x + i + h), c = hn::LoadU(d, x + i + 2 * h),
             e = hn::LoadU(d, x + i + 3 * h);
        Butterflies(a, b, c, e);
        hn::StoreU(a, d, x + i);
        hn::StoreU(b, d, x + i + h);
        hn::StoreU(c, d, x + i + 2 * h);
        hn::StoreU(e, d, x + i + 3 * h);
      }
  if (h == n) return;
  for (size_t i = 0; i < h; i += N) {
    const auto a = hn::LoadU(d, x + i), b = hn::LoadU(d, x + i + h);
    hn::StoreU(hn::Add(a, b), d, x + i);
    hn::StoreU(hn::Sub(a, b), d, x + i + h);
  }
}

inline void softmax(float* x, size_t begin, size_t end, size_t padded_end) noexcept {
  const Floats d;
  const size_t N = hn::Lanes(d);
  std::memset(x, 0, begin * sizeof(float));
  std::memset(x + end, 0, (padded_end - end) * sizeof(float));
  if (begin >= end) return;
  float largest = x[begin];
  size_t i = begin;
  auto high = hn::Set(d, largest);
  for (; i + N <= end; i += N) high = hn::Max(high, hn::LoadU(d, x + i));
  largest = hn::GetLane(hn::MaxOfLanes(d, high));
  for (; i < end; ++i) largest = HWY_MAX(largest, x[i]);
  const auto top = hn::Set(d, largest);
  auto sums = hn::Zero(d);
  for (i = begin; i + N <= end; i += N) {
    const auto e = hn::Exp(d, hn::Sub(hn::LoadU(d, x + i), top));
    hn::StoreU(e, d, x + i);
    sums = hn::Add(sums, e);
  }
  float sum = 0.0f;
  if (i < end) {
    HWY_ALIGN float buffer[16] = {};
    std::memcpy(buffer, x + i, (end - i) * sizeof(float));
    hn::Store(hn::Exp(d, hn::Sub(hn::Load(d, buffer), top)), d, buffer);
    for (size_t j = 0; j < end - i; ++j) sum += x[i + j] = buffer[j];
  }
  sum += hn::GetLane(hn::SumOfLanes(d, sums));
  const float factor = 1.0f / sum;
  const auto f = hn::Set(d, factor);
  for (i = begin; i + N <= end; i += N) hn::StoreU(hn::Mul(hn::LoadU(d, x + i), f), d, x + i);
  for (; i < end; ++i) x[i] *= factor;
}

// Blocks of at least 8, so registers of 8 floats.
inline void quantize(const float* x, size_t which, const QuantizedRows& out) noexcept {
  const hn::CappedTag<float, 8> d;
  const hn::RebindToSigned<decltype(d)> di;
  const hn::Rebind<int8_t, decltype(d)> d8;
  const Bytes32 du8;
  const hn::RebindToSigned<Bytes32> ds8;
  const hn::Repartition<int32_t, Bytes32> dsum;
  const size_t N = hn::Lanes(d), k = padded(out.cols), blocks = out.blocks();
  int8_t* HWY_RESTRICT codes = out.codes + which * k;
  for (size_t b = 0; b < blocks; ++b) {
    const size_t begin = b * out.block;
    const float* block = x + begin;
    float copy[32];
    if (begin + out.block > out.cols) {
      std::memset(copy, 0, sizeof(copy));
      if (begin < out.cols) std::memcpy(copy, block, (out.cols - begin) * sizeof(float));
      block = copy;
    }
    auto high = hn::Zero(d);
    for (size_t i = 0; i < out.block; i += N) high = hn::Max(high, hn::Abs(hn::LoadU(d, block + i)));
    const float largest = hn::GetLane(hn::MaxOfLanes(d, high));
    // The smallest largest value whose inverse is finite; below it the block is as good as zero.
    const bool zero = !(largest > 1e-30f);
    const float scale = zero ? 0.0f : largest / 127.0f;
    const auto inverse = hn::Set(d, zero ? 0.0f : 127.0f / largest);
    auto sums = hn::Zero(di);
    for (size_t i = 0; i < out.block; i += N) {
      const auto q = hn::NearestInt(hn::Mul(hn::LoadU(d, block + i), inverse));
      sums = hn::Add(sums, q);
      hn::StoreU(hn::DemoteTo(d8, q), d8, codes + begin + i);
    }
    const int32_t sum = hn::GetLane(hn::SumOfLanes(di, sums));
    out.scales[which * blocks + b] = scale;
    out.sums[which * blocks + b] = scale * static_cast<float>(sum);
    out.starts[which * blocks + b] = -out.offset * sum;
  }
  int32_t* HWY_RESTRICT lane_starts = out.lane_starts + which * (k / 4);
  const auto ones = hn::Set(du8, uint8_t{1});
  const auto minus = hn::Set(dsum, -out.offset);
  for (size_t j = 0; j < k; j += hn::Lanes(du8)) {
    const auto four = Dot4<false>(dsum, hn::Zero(dsum), ones, hn::LoadU(ds8, codes + j));
    hn::StoreU(hn::Mul(four, minus), dsum, lane_starts + j / 4);
  }
}

inline float read_memory(const float* x, size_t n) noexcept {
  const Floats d;
  const size_t N = hn::Lanes(d);
  auto a = hn::Zero(d), b = a, c = a, e = a;
  for (size_t i = 0; i < n; i += 4 * N) {
    a = hn::Add(a, hn::LoadU(d, x + i));
    b = hn::Add(b, hn::LoadU(d, x + i + N));
    c = hn::Add(c, hn::LoadU(d, x + i + 2 * N));
    e = hn::Add(e, hn::LoadU(d, x + i + 3 * N));
  }
  return hn::GetLane(hn::SumOfLanes(d, hn::Add(hn::Add(a, b), hn::Add(c, e))));
}

// One round is kFmaFlops: on narrower registers more instructions are made of it.
inline float fma_burst(size_t rounds) noexcept {
  const Floats d;
  const size_t repeats = 64 * 16 / hn::Lanes(d);
  const auto x = hn::Set(d, 0.5f), y = hn::Set(d, 0.25f);
  hn::Vec<Floats> sum[12];
  HWY_UNROLL(12)
  for (size_t i = 0; i < 12; ++i) sum[i] = hn::Set(d, static_cast<float>(i));
  for (size_t r = 0; r < rounds * repeats; ++r) {
    HWY_UNROLL(12)
    for (size_t i = 0; i < 12; ++i) sum[i] = hn::MulAdd(sum[i], x, y);
  }
  auto all = sum[0];
  HWY_UNROLL(12)
  for (size_t i = 1; i < 12; ++i) all = hn::Add(all, sum[i]);
  return hn::GetLane(hn::SumOfLanes(d, all));
}

inline void fill_vectors(Kernels& kernels) {
  kernels.rms_norm = rms_norm;
  kernels.layer_norm = layer_norm;
  kernels.activate = activate;
  kernels.add = add;
  kernels.multiply = multiply;
  kernels.rotate = rotate;
  kernels.rotate_halves = rotate_halves;
  kernels.hadamard = hadamard;
  kernels.softmax = softmax;
  kernels.quantize = quantize;
  kernels.read_memory = read_memory;
  kernels.fma_burst = fma_burst;
}

}  // namespace whit::cpu::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();
#endif
