// Small units to try methods on: deterministic weights and gram matrices with what real ones have (heavy tails, columns
// of different size, correlated inputs).
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "methods/stages.h"

namespace whit::tests {

// [rows, cols], standard normal times a factor per column, a few outliers.
Matrix random_weights(size_t rows, size_t cols, uint64_t seed);
// Mean of x x^T over `tokens` correlated inputs; full rank when tokens > cols.
std::shared_ptr<UnitStatistics> random_statistics(size_t cols, size_t tokens, uint64_t seed);
// A gram matrix that is diagonal: mean squares of uncorrelated inputs.
std::shared_ptr<UnitStatistics> uncorrelated(const std::vector<float>& mean_squares);
TensorState make_unit(size_t rows, size_t cols, FormatPtr plan, uint64_t seed, bool statistics = true);

// Packed bytes as floats.
Matrix unpacked(const Packed& packed);
// trace((a - b) h (a - b)^T) in double, plainly.
double trace_error(const Matrix& a, const Matrix& b, const Matrix& h);

// Every affine format, grid in variants in which every pair of values of two of its options meets (three group sizes).
std::vector<FormatPtr> affine_variants();
// Formats that store an N:M mask: nm_grid in variants of patterns, bits and parameters, nm_f16.
std::vector<FormatPtr> sparse_variants();
// binary_groups in variants of all its options, and the quantizer that makes it.
struct BinaryVariant {
  FormatPtr format;
  std::string method;
};
std::vector<BinaryVariant> binary_variants();
// Formats of signs, which only their own quantizers write: lowrank_sign, nm_sign.
std::vector<FormatPtr> sign_variants();
// Prunes to N:M by magnitude.
void prune_to(NmPattern pattern, TensorState& state);

}  // namespace whit::tests
