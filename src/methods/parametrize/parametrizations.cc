#include "methods/parametrize/parametrizations.h"

namespace whit {

const std::vector<ParametrizationRow>& parametrization_rows() {
  static const std::vector<ParametrizationRow> rows = {
      {"grid", parametrize_affine},        {"q4_0", parametrize_affine},
      {"q4_1", parametrize_affine},        {"q8_0", parametrize_affine},
      {"q5_0", parametrize_affine},        {"q5_1", parametrize_affine},
      {"f32", parametrize_dense},          {"f16", parametrize_dense},
      {"bf16", parametrize_dense},         {"nm_grid", parametrize_affine},
      {"nm_f16", parametrize_dense},       {"lowrank_sign", parametrize_lowrank_sign},
      {"nm_sign", parametrize_nm_sign},    {"binary_groups", parametrize_binary_groups},
      {"q2_k", parametrize_constant},      {"q3_k", parametrize_constant},
      {"q4_k", parametrize_constant},      {"q5_k", parametrize_constant},
      {"q6_k", parametrize_constant},      {"iq4_nl", parametrize_constant},
      {"iq4_xs", parametrize_constant},    {"mxfp4", parametrize_constant},
      {"tq1_0", parametrize_constant},     {"tq2_0", parametrize_constant},
      {"row_stack", parametrize_constant},
  };
  return rows;
}

}  // namespace whit
