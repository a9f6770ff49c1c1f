// How each format that we write is learned: the rows that tune and reconstruct pass to make_parametrization.
#pragma once

#include <vector>

#include "model/torch/parametrization.h"

namespace whit {

const std::vector<ParametrizationRow>& parametrization_rows();

// affine.cc: grid, nm_grid and the affine ggml types.
std::unique_ptr<Parametrization> parametrize_affine(const Packed& packed, const ParametrizationStart& start);
// dense.cc: f32, f16, bf16, nm_f16.
std::unique_ptr<Parametrization> parametrize_dense(const Packed& packed, const ParametrizationStart& start);
// lowrank_sign.cc
std::unique_ptr<Parametrization> parametrize_lowrank_sign(const Packed& packed, const ParametrizationStart& start);
// nm_sign.cc
std::unique_ptr<Parametrization> parametrize_nm_sign(const Packed& packed, const ParametrizationStart& start);
// constant.cc: types of ggml whose scales are integers or whose levels are uneven, and members of several types;
// nothing of them is learned.
std::unique_ptr<Parametrization> parametrize_constant(const Packed& packed, const ParametrizationStart& start);
// binary_groups.cc
std::unique_ptr<Parametrization> parametrize_binary_groups(const Packed& packed, const ParametrizationStart& start);

}  // namespace whit
