#include "evaluate/rows.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <vector>

namespace whit {
namespace {

// exp(x) in double for x <= 0, below 1e-14 relative; written so that compilers vectorize the loops that call it.
// x = k ln 2 + r with |r| <= ln 2 / 2, exp(r) by its Taylor series to r^12 / 12! (rest 0.35^13 / 13! = 2e-16).
// Below -700 the result is that of -700 (1e-304): nothing in a sum of probabilities.
inline double exp_negative(double x) noexcept {
  x = x < -700.0 ? -700.0 : x;
  constexpr double shift = 6755399441055744.0;  // 1.5 * 2^52: adding it rounds to an integer in the low bits
  const double shifted = x * 1.4426950408889634 + shift;
  const double k = shifted - shift;
  const double r = (x - k * 0x1.62e42fefa0000p-1) - k * 0x1.cf79abc9e3b3ap-40;
  double sum = 1.0 / 479001600.0;
  sum = sum * r + 1.0 / 39916800.0;
  sum = sum * r + 1.0 / 3628800.0;
  sum = sum * r + 1.0 / 362880.0;
  sum = sum * r + 1.0 / 40320.0;
  sum = sum * r + 1.0 / 5040.0;
  sum = sum * r + 1.0 / 720.0;
  sum = sum * r + 1.0 / 120.0;
  sum = sum * r + 1.0 / 24.0;
  sum = sum * r + 1.0 / 6.0;
  sum = sum * r + 0.5;
  sum = sum * r + 1.0;
  sum = sum * r + 1.0;
  // 2^k through the exponent bits: the low bits of `shifted` hold k.
  const uint64_t bits = (__builtin_bit_cast(uint64_t, shifted) + 1023) << 52;
  return sum * __builtin_bit_cast(double, bits);
}

constexpr size_t lanes = 8;  // partial sums: a fixed order that vector units can follow

}  // namespace

RowSums sum_row(std::span<const float> logits) noexcept {
  RowSums sums;
  for (size_t i = 1; i < logits.size(); ++i)
    if (logits[i] > logits[sums.top]) sums.top = i;
  const double most = logits[sums.top];
  double partial[lanes] = {};
  size_t i = 0;
  for (; i + lanes <= logits.size(); i += lanes)
    for (size_t lane = 0; lane < lanes; ++lane) partial[lane] += exp_negative(logits[i + lane] - most);
  double sum = 0;
  for (; i < logits.size(); ++i) sum += exp_negative(logits[i] - most);
  bool finite = std::isfinite(most);
  for (const float logit : logits) finite &= !std::isnan(logit);
  for (const double part : partial) sum += part;
  sums.log_sum_exp = finite ? most + std::log(sum) : std::numeric_limits<double>::quiet_NaN();
  return sums;
}

double row_divergence(std::span<const float> base, const RowSums& base_sums, std::span<const float> model,
                      const RowSums& model_sums) noexcept {
  if (!std::isfinite(base_sums.log_sum_exp) || !std::isfinite(model_sums.log_sum_exp))
    return std::numeric_limits<double>::quiet_NaN();
  double partial[lanes] = {};
  const auto term = [&](size_t i) {
    const double log_base = base[i] - base_sums.log_sum_exp;
    const double p = exp_negative(log_base);
    const double difference = log_base - (model[i] - model_sums.log_sum_exp);
    return log_base > -700.0 ? p * difference : 0.0;  // p underflows to 0, whatever the difference
  };
  size_t i = 0;
  for (; i + lanes <= base.size(); i += lanes)
    for (size_t lane = 0; lane < lanes; ++lane) partial[lane] += term(i + lane);
  double sum = 0;
  for (; i < base.size(); ++i) sum += term(i);
  for (const double part : partial) sum += part;
  return sum;
}

MeanError mean_error(std::span<const double> values) noexcept {
  constexpr double nan = std::numeric_limits<double>::quiet_NaN();
  if (values.empty()) return {nan, nan};
  const double n = static_cast<double>(values.size());
  double sum = 0, squares = 0;
  for (const double value : values) sum += value;
  const double mean = sum / n;
  // Around the mean: no cancellation.
  for (const double value : values) squares += (value - mean) * (value - mean);
  return {mean, n > 1 ? std::sqrt(squares / n / (n - 1)) : nan};
}

double quantile(std::span<const double> values, double q) {
  if (values.empty()) return std::numeric_limits<double>::quiet_NaN();
  std::vector<double> sorted(values.begin(), values.end());
  // NaN would break the order: one of them makes the quantile meaningless.
  for (const double value : sorted)
    if (std::isnan(value)) return value;
  std::sort(sorted.begin(), sorted.end());
  const double at = q * static_cast<double>(sorted.size() - 1);
  const auto low = static_cast<size_t>(at);
  const size_t high = std::min(low + 1, sorted.size() - 1);
  return sorted[low] + (at - static_cast<double>(low)) * (sorted[high] - sorted[low]);
}

}  // namespace whit
