#include "methods/math/affine_kernels.h"

#include <cmath>

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "methods/math/affine_kernels.cc"
#include <hwy/foreach_target.h>
#include <hwy/highway.h>

HWY_BEFORE_NAMESPACE();
namespace whit {
namespace HWY_NAMESPACE {

namespace hn = hwy::HWY_NAMESPACE;
using D = hn::ScalableTag<float>;
using V = hn::Vec<D>;

HWY_INLINE float sum_lanes(V v) { return hn::GetLane(hn::SumOfLanes(D(), v)); }

// Full vectors and one masked rest: lanes past the end read as 0, so an importance of 0 makes them count for nothing.
HWY_INLINE V load(const float* p, size_t left) {
  const D d;
  if (left >= hn::Lanes(d)) return hn::LoadU(d, p);
  return hn::MaskedLoad(hn::FirstN(d, left), d, p);
}

// The code as a float. Rounds ties to even like the scalar tail of feedback_block.
HWY_INLINE V nearest(V w, V minimum, V inverse, V top) {
  const V q = hn::Round(hn::Mul(hn::Sub(w, minimum), inverse));
  return hn::Min(hn::Max(q, hn::Zero(D())), top);
}

HWY_INLINE float inverse_scale(float scale) { return scale == 0.0f ? 0.0f : 1.0f / scale; }

void GroupSumsRow(const float* w, const float* h, size_t cols, size_t group, GroupSums* out) {
  const D d;
  const size_t lanes = hn::Lanes(d);
  for (size_t begin = 0; begin < cols; begin += group, ++out) {
    const size_t end = begin + group < cols ? begin + group : cols;
    V sum_h = hn::Zero(d), sum_hw = hn::Zero(d), sum_hww = hn::Zero(d);
    float least = w[begin], most = w[begin];
    V low = hn::Set(d, least), high = low;
    size_t j = begin;
    for (; j < end; j += lanes) {
      const V vw = load(w + j, end - j), vh = load(h + j, end - j);
      const V hw = hn::Mul(vh, vw);
      sum_h = hn::Add(sum_h, vh);
      sum_hw = hn::Add(sum_hw, hw);
      sum_hww = hn::MulAdd(hw, vw, sum_hww);
      if (end - j >= lanes) {
        low = hn::Min(low, vw);
        high = hn::Max(high, vw);
      } else {
        for (size_t k = j; k < end; ++k) {
          least = w[k] < least ? w[k] : least;
          most = w[k] > most ? w[k] : most;
        }
      }
    }
    const float low_lane = hn::GetLane(hn::MinOfLanes(d, low)), high_lane = hn::GetLane(hn::MaxOfLanes(d, high));
    *out = {sum_lanes(sum_h), sum_lanes(sum_hw), sum_lanes(sum_hww), low_lane < least ? low_lane : least,
            high_lane > most ? high_lane : most};
  }
}

void GroupMomentsRow(const float* w, const float* h, size_t cols, size_t group, const float* scale,
                     const float* minimum, float top, GroupMoments* out) {
  const D d;
  const size_t lanes = hn::Lanes(d);
  const V vtop = hn::Set(d, top);
  for (size_t begin = 0, g = 0; begin < cols; begin += group, ++g) {
    const size_t end = begin + group < cols ? begin + group : cols;
    const V s = hn::Set(d, scale[g]), m = hn::Set(d, minimum[g]), inverse = hn::Set(d, inverse_scale(scale[g]));
    V error = hn::Zero(d), hq = hn::Zero(d), hqq = hn::Zero(d), hqw = hn::Zero(d);
    for (size_t j = begin; j < end; j += lanes) {
      const V vw = load(w + j, end - j), vh = load(h + j, end - j);
      const V q = nearest(vw, m, inverse, vtop);
      const V e = hn::Sub(vw, hn::MulAdd(s, q, m));
      const V vhq = hn::Mul(vh, q);
      error = hn::MulAdd(hn::Mul(vh, e), e, error);
      hq = hn::Add(hq, vhq);
      hqq = hn::MulAdd(vhq, q, hqq);
      hqw = hn::MulAdd(vhq, vw, hqw);
    }
    out[g] = {sum_lanes(error), sum_lanes(hq), sum_lanes(hqq), sum_lanes(hqw)};
  }
}

void GroupCodesRow(const float* w, size_t cols, size_t group, const float* scale, const float* minimum, float top,
                   uint8_t* codes) {
  const D d;
  const hn::RebindToSigned<D> di;
  const size_t lanes = hn::Lanes(d);
  const V vtop = hn::Set(d, top);
  HWY_ALIGN int32_t lane[HWY_MAX_BYTES / sizeof(int32_t)];
  for (size_t begin = 0, g = 0; begin < cols; begin += group, ++g) {
    const size_t end = begin + group < cols ? begin + group : cols;
    const V m = hn::Set(d, minimum[g]), inverse = hn::Set(d, inverse_scale(scale[g]));
    for (size_t j = begin; j < end; j += lanes) {
      hn::Store(hn::ConvertTo(di, nearest(load(w + j, end - j), m, inverse, vtop)), di, lane);
      for (size_t k = 0; k < lanes && j + k < end; ++k) codes[j + k] = static_cast<uint8_t>(lane[k]);
    }
  }
}

double FeedbackBlock(const FeedbackRow& row, size_t count, const float* upper, size_t stride,
                     const float* inverse_pivot, float top) {
  const D d;
  const size_t lanes = hn::Lanes(d);
  double loss = 0;
  for (size_t j = 0; j < count; ++j) {
    const float s = row.scale[j], m = row.minimum[j], c = row.column ? row.column[j] : 1.0f;
    float value;
    if (row.keep && row.keep[j] == 0) {
      row.codes[j] = row.zero_code[j];
      value = 0.0f;
    } else {
      // Comparisons instead of a rounding instruction's result alone: a runaway weight must not overflow the integer.
      const float w = row.column ? (c == 0.0f ? 0.0f : row.w[j] / c) : row.w[j];
      const float t = (w - m) * inverse_scale(s);
      const float clamped = t > 0.0f ? (t < top ? t : top) : 0.0f;
      // 2^23: the unit of the mantissa becomes 1, so adding it rounds to an integer, ties to even.
      const float q = (clamped + 8388608.0f) - 8388608.0f;
      row.codes[j] = static_cast<uint8_t>(q);
      value = c * (s * q + m);
    }
    const float error = (row.w[j] - value) * inverse_pivot[j];
    row.error[j] = error;
    loss += static_cast<double>(error) * error;
    const float* u = upper + j * stride;
    const V minus = hn::Set(d, -error);
    size_t k = j + 1;
    for (; k + lanes <= count; k += lanes)
      hn::StoreU(hn::MulAdd(minus, hn::LoadU(d, u + k), hn::LoadU(d, row.w + k)), d, row.w + k);
    for (; k < count; ++k) row.w[k] -= error * u[k];
  }
  return loss;
}

float Dot(const float* a, const float* b, size_t count) {
  const D d;
  const size_t lanes = hn::Lanes(d);
  V sum0 = hn::Zero(d), sum1 = sum0;
  size_t i = 0;
  for (; i + 2 * lanes <= count; i += 2 * lanes) {
    sum0 = hn::MulAdd(hn::LoadU(d, a + i), hn::LoadU(d, b + i), sum0);
    sum1 = hn::MulAdd(hn::LoadU(d, a + i + lanes), hn::LoadU(d, b + i + lanes), sum1);
  }
  for (; i < count; i += lanes) sum0 = hn::MulAdd(load(a + i, count - i), load(b + i, count - i), sum0);
  return sum_lanes(hn::Add(sum0, sum1));
}

void AddScaled(float alpha, const float* x, size_t count, float* y) {
  const D d;
  const size_t lanes = hn::Lanes(d);
  const V a = hn::Set(d, alpha);
  size_t i = 0;
  for (; i + lanes <= count; i += lanes) hn::StoreU(hn::MulAdd(a, hn::LoadU(d, x + i), hn::LoadU(d, y + i)), d, y + i);
  for (; i < count; ++i) y[i] += alpha * x[i];
}

}  // namespace HWY_NAMESPACE
}  // namespace whit
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace whit {

HWY_EXPORT(GroupSumsRow);
HWY_EXPORT(GroupMomentsRow);
HWY_EXPORT(GroupCodesRow);
HWY_EXPORT(FeedbackBlock);
HWY_EXPORT(Dot);
HWY_EXPORT(AddScaled);

void group_sums(const float* w, const float* h, size_t cols, size_t group, GroupSums* out) noexcept {
  HWY_DYNAMIC_DISPATCH(GroupSumsRow)(w, h, cols, group, out);
}
void group_moments(const float* w, const float* h, size_t cols, size_t group, const float* scale, const float* minimum,
                   float top, GroupMoments* out) noexcept {
  HWY_DYNAMIC_DISPATCH(GroupMomentsRow)(w, h, cols, group, scale, minimum, top, out);
}
void group_codes(const float* w, size_t cols, size_t group, const float* scale, const float* minimum, float top,
                 uint8_t* codes) noexcept {
  HWY_DYNAMIC_DISPATCH(GroupCodesRow)(w, cols, group, scale, minimum, top, codes);
}
double feedback_block(const FeedbackRow& row, size_t count, const float* upper, size_t stride,
                      const float* inverse_pivot, float top) noexcept {
  return HWY_DYNAMIC_DISPATCH(FeedbackBlock)(row, count, upper, stride, inverse_pivot, top);
}
float dot(const float* a, const float* b, size_t count) noexcept { return HWY_DYNAMIC_DISPATCH(Dot)(a, b, count); }
void add_scaled(float alpha, const float* x, size_t count, float* y) noexcept {
  HWY_DYNAMIC_DISPATCH(AddScaled)(alpha, x, count, y);
}

}  // namespace whit
#endif  // HWY_ONCE
