// The factor of the inverse gram matrix that the column sweeps of gptq and sparsegpt share.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "model/torch/matrix.h"

namespace whit {

// H^-1 = U^T U of the permuted, damped gram matrix H of a unit's inputs.
struct GramFactor {
  std::vector<size_t> order;  // column of the matrix at each position
  Matrix upper;               // U, [cols, cols]
  double damp_ratio = 0;      // what the factorization needed
};

// damp_ratio: added to the diagonal, as a share of its mean; raised tenfold until the factorization succeeds.
// act_order: the most active inputs first; else the order of the matrix. An input that never fired gets the mean pivot
// and touches nobody. ErrorKind::numeric naming the unit when no damping helps.
GramFactor factorize_gram(const Matrix& gram, double damp_ratio, bool act_order, const std::string& unit);

// Held while it runs: the permuted matrix and U in floats; in double the matrix, the identity, the factor, and what
// solves the triangle twice (LibTorch gives it in columns, it is wanted in rows).
inline uint64_t gram_factor_bytes(uint64_t cols) { return (2 * sizeof(float) + 5 * sizeof(double)) * cols * cols; }

}  // namespace whit
