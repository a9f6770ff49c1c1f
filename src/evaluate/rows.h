// What one logit row says about one token, and how far two rows are from each other. All sums in double.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

namespace whit {

struct RowSums {
  double log_sum_exp = 0;  // ln sum_i exp(logit_i)
  size_t top = 0;          // the likeliest token, the lowest id of equals
};

RowSums sum_row(std::span<const float> logits) noexcept;

// KL(base || model) = sum_i p_base(i) (ln p_base(i) - ln p_model(i)), nats. Equal rows give exactly 0.
double row_divergence(std::span<const float> base, const RowSums& base_sums, std::span<const float> model,
                      const RowSums& model_sums) noexcept;

// The mean and its standard error sqrt((mean(x^2) - mean(x)^2) / (n - 1)), as llama.cpp computes it.
struct MeanError {
  double mean, error;  // NaN: no values, or (error) fewer than two
};
MeanError mean_error(std::span<const double> values) noexcept;

// Quantile between the order statistics, linear, q in [0, 1]. NaN when there are none.
double quantile(std::span<const double> values, double q);

}  // namespace whit
