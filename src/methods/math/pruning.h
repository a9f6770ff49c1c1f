// Choosing what to prune by scores. The order is total, so masks do not depend on threads or on how equal scores came
// about: weights of dead inputs first (they change nothing on the calibration text), then the lower score, then the
// lower index.
#pragma once

#include <cstdint>
#include <vector>

#include "methods/math/layerwise.h"
#include "methods/stages.h"

namespace whit {

// 1 for inputs that never fired on the calibration text; none without statistics. [cols]
std::vector<uint8_t> dead_inputs(const TensorState& state);

// state.scores are there and finite: ErrorKind::usage (internal sizes aside) or numeric, naming the unit.
void check_scores(const TensorState& state, const char* method);

// ErrorKind::usage naming the unit unless layerwise is "uniform": whoever walks the model has to resolve it before.
void require_resolved(const LayerwiseOptions& options, const TensorState& state);

// order[0], order[1], ...: the positions of a group of up to kEnumerativeMost scores as they are pruned.
void pruning_order(const float* scores, const uint8_t* dead, unsigned size, unsigned* order) noexcept;
// Of a group of up to kEnumerativeMost scores prunes all but `kept`: mask[k] = 1 for those that stay.
void select_group(const float* scores, const uint8_t* dead, unsigned size, unsigned kept, uint8_t* mask) noexcept;

// Weights to prune of `count` at a sparsity: the integer part of their product (a decimal fraction's own rounding
// aside).
uint64_t pruned_count(double sparsity, uint64_t count) noexcept;

// Prunes `count` entries of the part [row_begin, row_end) x [col_begin, col_end) of a matrix of scores with `cols`
// columns; mask[i * cols + j] becomes 0 or 1 there. score(i, j) must be finite.
struct Part {
  size_t row_begin, row_end, col_begin, col_end;
};
void select_part(const Matrix& scores, const std::vector<uint8_t>& dead, const Part& part, uint64_t count,
                 std::vector<uint8_t>& mask);

// Zeros where the mask is 0.
void apply_mask(TensorState& state);

}  // namespace whit
