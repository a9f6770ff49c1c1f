// What every quantizer does with a unit besides rounding it: checks before, packing and the honest loss after.
#pragma once

#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "methods/math/affine_fit.h"
#include "methods/stages.h"

namespace whit {

// ErrorKind::numeric naming the unit for NaN or infinity in its weights or gram matrix; ErrorKind::usage without a
// plan.
void check_unit(const TensorState& state);
// The same without a plan: what steps before quantization ask for.
void check_weights(const TensorState& state);

// Weights of importance per input: the diagonal of the gram matrix plus `damping` of its mean, so that an input that stayed
// silent on the calibration text is rounded well too. Empty without statistics, and where all inputs were silent: no weight
// counts there more than another.
std::vector<float> input_importance(const TensorState& state, double damping = 0.01);
// The same as the option `importance` of a method asks: auto, activations (ErrorKind::usage without statistics), uniform (empty).
std::vector<float> input_importance(const TensorState& state, std::string_view asked, std::string_view method,
                                    double damping = 0.01);

// The fit's view of the unit.
AffineFitInput fit_input(const TensorState& state, const AffineFormat& format, std::span<const float> importance);

// ErrorKind::usage naming the unit where it is not pruned to N:M exactly.
void require_pattern(const TensorState& state, NmPattern pattern);

// ErrorKind::usage naming the unit where its zeros cannot be stored: a masked weight in a group whose levels do not
// contain zero exactly or, where the format has a pattern, a mask that has not.
void require_exact_zero(const TensorState& state, const AffineFormat& format, const AffineParameters& parameters);

// trace(d gram d^T) of the packed unit against its weights, from unpacked bytes; without statistics the plain squares.
StageReport measure_loss(const TensorState& state);
// The same for weights that a step changed: d = state.weights - before.
StageReport measure_change(const TensorState& state, const Matrix& before);

}  // namespace whit
