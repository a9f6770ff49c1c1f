// The formats that can be learned: the rows that tune and reconstruct pass to make_parametrization.
#pragma once

#include <vector>

#include "model/torch/parametrization.h"

namespace whit {

const std::vector<ParametrizationRow>& parametrization_rows();

// affine.cc: grid and the affine ggml types.
std::unique_ptr<Parametrization> parametrize_affine(const Packed& packed, const ParametrizationStart& start);
// dense.cc: f32, f16, bf16.
std::unique_ptr<Parametrization> parametrize_dense(const Packed& packed, const ParametrizationStart& start);
// lowrank_sign.cc
std::unique_ptr<Parametrization> parametrize_lowrank_sign(const Packed& packed, const ParametrizationStart& start);

}  // namespace whit
