// Beyond this, products of queries and keys are a matter of rounding: a float near 2^20 has steps of 1/16, and softmax takes
// their exponentials. Executors would answer differently, each with one position alone; none does.
#pragma once

#include <span>

namespace whit {

inline constexpr float kLargestScore = 0x1p20f;
// ErrorKind::numeric unless the largest of the scores of a query, times `scale`, is within that on both sides.
void check_scores(std::span<const float> scores, float scale);

}  // namespace whit
