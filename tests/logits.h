// How far apart two arrays of logits or hidden states are.
#pragma once

#include <cmath>
#include <span>

namespace whit::tests {

inline double standard_deviation(std::span<const float> values) {
  double sum = 0, squares = 0;
  for (const float v : values) sum += v;
  const double n = static_cast<double>(values.size()), mean = sum / n;
  for (const float v : values) squares += (v - mean) * (v - mean);
  return std::sqrt(squares / n);
}

// NaN where one of them is.
inline double greatest_difference(std::span<const float> a, std::span<const float> b) {
  double most = 0;
  for (size_t i = 0; i < a.size(); ++i) {
    const double apart = std::fabs(static_cast<double>(a[i]) - b[i]);
    if (!(apart <= most)) most = apart;
  }
  return most;
}

}  // namespace whit::tests
