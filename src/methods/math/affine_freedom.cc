#include "methods/math/affine_freedom.h"

#include <cmath>
#include <vector>

namespace whit {

AffineFreedom affine_freedom(const AffineFormat& format) {
  using Kind = AffineFreedom::Kind;
  AffineFreedom freedom;
  const uint64_t group = format.group(1u << 20);
  const bool one_group = group == (1u << 20);
  const Shape shape{1, one_group ? 64 : 2 * group};
  AffineParameters p;
  p.groups_per_row = one_group ? 1 : 2;
  p.column.assign(format.has_columns() ? shape.cols : 0, 1.0f);
  const float centre = static_cast<float>(format.centre());
  const auto round = [&](float s0, float m0, float s1, float m1) {
    p.scale = one_group ? std::vector<float>{s0} : std::vector<float>{s0, s1};
    p.minimum = one_group ? std::vector<float>{m0} : std::vector<float>{m0, m1};
    format.round_parameters(shape, p);
  };
  if (format.symmetric()) {
    freedom.kind = Kind::symmetric;
  } else {
    round(1.0f, -1.375f, 1.0f, -1.375f);
    if (p.minimum[0] == -1.0f) freedom.kind = Kind::zero_point;
  }
  const float sign_minimum = format.symmetric() ? centre : -1.0f;
  round(-1.0f, sign_minimum, -1.0f, sign_minimum);
  freedom.negative_scale = p.scale[0] < 0;
  if (!one_group) {
    // Half of the largest scale is exact in half floats and lies between two codes of 2^p - 1 steps.
    const float minimum = format.symmetric() ? -centre : 0.0f;
    round(1.0f, minimum, 0.5f, 0.5f * minimum);
    freedom.scale_step = 2 * std::fabs(p.scale[1] - 0.5f);
  }
  return freedom;
}

}  // namespace whit
