// The inner loops of rounding to affine levels, w ~ scale * q + minimum, q = 0 .. top. Vectorized by Highway for every
// instruction set and chosen once at run time. Callers have checked sizes and that weights are finite.
#pragma once

#include <cstddef>
#include <cstdint>

namespace whit {

// Sums over one group with codes q chosen nearest under (scale, minimum): enough for the error and for the weighted
// least squares of both parameters with those codes.
struct GroupMoments {
  float error;  // sum of h (w - scale q - minimum)^2
  float hq, hqq, hqw;
};

// Sums that no parameter changes, and the range.
struct GroupSums {
  float h, hw, hww;
  float least, most;
};

// A row of `cols` weights w with weights of importance h >= 0, in groups of `group` (the last may be short).
void group_sums(const float* w, const float* h, size_t cols, size_t group, GroupSums* out) noexcept;
// scale[g] == 0 codes everything 0.
void group_moments(const float* w, const float* h, size_t cols, size_t group, const float* scale, const float* minimum,
                   float top, GroupMoments* out) noexcept;
// The codes themselves. Ties to even, as group_moments.
void group_codes(const float* w, size_t cols, size_t group, const float* scale, const float* minimum, float top,
                 uint8_t* codes) noexcept;

// One row through one block of columns with error feedback (GPTQ step 5). In order j = 0 .. count-1:
//   q = nearest level of w[j] under (scale[j], minimum[j]), value = column[j] (scale[j] q + minimum[j]) (column null:
//   1; keep[j] == 0 (keep null: all kept): value = 0 with the code zero_code[j]), error[j] = (w[j] - value) *
//   inverse_pivot[j],  w[k] -= error[j] * upper[j * stride + k] for k > j.
// `upper` is the block's diagonal square of U. Returns the sum of error^2.
struct FeedbackRow {
  float* w;
  float* error;
  uint8_t* codes;
  const float* scale;
  const float* minimum;
  const float* column;
  const uint8_t* keep;
  const uint8_t* zero_code;
};
double feedback_block(const FeedbackRow& row, size_t count, const float* upper, size_t stride,
                      const float* inverse_pivot, float top) noexcept;

// sum of a[i] * b[i], and y += alpha * x.
float dot(const float* a, const float* b, size_t count) noexcept;
void add_scaled(float alpha, const float* x, size_t count, float* y) noexcept;

}  // namespace whit
