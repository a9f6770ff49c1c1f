// Affine formats as learnable tensors: w = c (s q + m), q = clamp(round(u), 0, levels - 1) straight-through, also where u
// is outside: at 2 bits an eighth of all weights is, and would otherwise never come back (LSQ, 1902.08153, stops it there).
//
// u lives in units of a step, so one learning rate fits all groups. Scales and columns are s0 exp(theta) and the
// minimum is m0 + s0 phi: theta = phi = 0 at the start, so what materialize() shows first is what was stored, to the
// last bit, and signs stay. A zero point is an integer z rounded straight-through, with m = -z s; symmetric levels have
// no m of their own. Scales are rounded to what the format stores by encode() alone. Where the format stores a mask it
// is fixed: pruned weights are zero, and no gradient reaches their codes.
#include <algorithm>
#include <cmath>

#include "base/checked.h"
#include "methods/math/affine_freedom.h"
#include "methods/parametrize/parametrizations.h"

namespace whit {
namespace {

class AffineParametrization final : public Parametrization {
 public:
  AffineParametrization(const Packed& packed, const ParametrizationStart& start)
      : format_(as_affine(packed.format)), shape_(packed.shape) {
    WHIT_CHECK(format_ != nullptr);
    kind_ = affine_freedom(*format_).kind;
    const AffineCodes codes = format_->unpack_codes(packed);
    const AffineParameters& p = codes.parameters;
    groups_ = p.groups_per_row;
    group_ = format_->group(shape_.cols);
    const std::vector<int64_t> by_group = {static_cast<int64_t>(shape_.rows), static_cast<int64_t>(groups_)};
    scale_ = Tensor::from(p.scale, by_group);
    theta_ = Tensor::full(by_group, 0).requires_grad();
    if (kind_ == AffineFreedom::Kind::minimum) {
      minimum_ = Tensor::from(p.minimum, by_group);
      phi_ = Tensor::full(by_group, 0).requires_grad();
    }
    if (kind_ == AffineFreedom::Kind::zero_point) {
      std::vector<float> zero(p.scale.size(), 0.0f);
      for (size_t i = 0; i < zero.size(); ++i)
        if (p.scale[i] != 0) zero[i] = std::nearbyint(-p.minimum[i] / p.scale[i]);
      zero_ = Tensor::from(zero, by_group).requires_grad();
    }
    if (!p.column.empty()) {
      column_ = Tensor::from(p.column, {1, static_cast<int64_t>(shape_.cols)});
      column_theta_ = Tensor::full({1, static_cast<int64_t>(shape_.cols)}, 0).requires_grad();
    }
    position_ = Tensor::from(start_positions(codes, start)).requires_grad();
    mask_ = codes.mask;
    if (!mask_.empty())
      kept_ = Tensor::from(std::vector<float>(mask_.begin(), mask_.end()),
                           {static_cast<int64_t>(shape_.rows), static_cast<int64_t>(shape_.cols)});
  }

  Tensor materialize() const override {
    const Tensor scale = scales();
    const Tensor q = code_ste(position_, 0, format_->levels() - 1.0);
    Tensor w = spread(scale) * q + spread(minima(scale));
    if (column_) w = w * (column_ * exp(column_theta_));
    return kept_ ? w * kept_ : w;
  }

  Packed encode() const override {
    const NoGrad guard;
    AffineCodes codes;
    codes.shape = shape_;
    codes.parameters.groups_per_row = groups_;
    const Tensor scale = scales();
    codes.parameters.scale = checked(scale.values());
    codes.parameters.minimum = checked(minima(scale).values());
    if (column_) codes.parameters.column = checked((column_ * exp(column_theta_)).values());
    format_->round_parameters(shape_, codes.parameters);
    const std::vector<float> positions = checked(position_.values());
    codes.codes.resize(positions.size());
    codes.mask = mask_;
    const float top = static_cast<float>(format_->levels() - 1);
    for (size_t k = 0; k < positions.size(); ++k)
      codes.codes[k] = static_cast<uint8_t>(std::nearbyint(std::clamp(positions[k], 0.0f, top)));
    return format_->pack(codes);
  }

  std::vector<ParameterGroup> parameters() const override {
    std::vector<ParameterGroup> groups = {{"codes", {position_}}, {"scales", {theta_}}};
    if (zero_) groups[0].tensors.push_back(zero_);
    if (phi_) groups[1].tensors.push_back(phi_);
    if (column_) groups[1].tensors.push_back(column_theta_);
    return groups;
  }
  std::vector<Matrix> latents() const override { return {position_.matrix()}; }

 private:
  // A weight that feedback (GPTQ) moved to another step than its own starts in the middle of that one: at its border the
  // first steps of training would take it back, and all that feedback had gained.
  static float own_step(float u, float code) { return std::fabs(u - code) <= 0.5f ? u : code; }

  // Where learning left the positions; else the original weights where they lie inside the step that was stored for
  // them: what learning moves first is then what was nearly rounded the other way.
  Matrix start_positions(const AffineCodes& codes, const ParametrizationStart& start) const {
    const AffineParameters& p = codes.parameters;
    const float top = static_cast<float>(format_->levels() - 1);
    const MatrixView weights = start.weights;
    WHIT_CHECK(start.latents.empty() || start.latents[0].data.size() == shape_.count());
    Matrix out(shape_.rows, shape_.cols);
    for (size_t i = 0; i < shape_.rows; ++i)
      for (size_t j = 0; j < shape_.cols; ++j) {
        const float code = codes.codes[i * shape_.cols + j];
        const size_t g = i * groups_ + j / group_;
        float u = code;
        const float column = p.column.empty() ? 1.0f : p.column[j];
        if (!start.latents.empty())
          u = start.latents[0].row(i)[j];
        else if (weights.data && p.scale[g] != 0 && column != 0)
          u = own_step((weights.data[i * weights.stride + j] / column - p.minimum[g]) / p.scale[g], code);
        // Ties belong to the even neighbour: stay clear of them. Outside of [0, top] no gradient would pass.
        out.row(i)[j] = std::clamp(u, std::max(0.0f, code - 0.499f), std::min(top, code + 0.499f));
      }
    return out;
  }

  Tensor scales() const { return scale_ * exp(theta_); }
  Tensor minima(const Tensor& scale) const {
    switch (kind_) {
      case AffineFreedom::Kind::minimum:
        return minimum_ + scale_ * phi_;
      case AffineFreedom::Kind::zero_point:
        return -(round_ste(clamp(zero_, 0, format_->levels() - 1.0)) * scale);
      case AffineFreedom::Kind::symmetric:
        break;
    }
    return -(scale * format_->centre());
  }

  // [rows, groups] -> [rows, cols]; the last group may be short.
  Tensor spread(const Tensor& by_group) const {
    const int64_t rows = static_cast<int64_t>(shape_.rows), groups = static_cast<int64_t>(groups_),
                  group = static_cast<int64_t>(group_), cols = static_cast<int64_t>(shape_.cols);
    const Tensor wide = reshape(by_group, {rows, groups, 1}) * Tensor::full({1, 1, group}, 1);
    const Tensor flat = reshape(wide, {rows, groups * group});
    return groups * group == cols ? flat : narrow(flat, 1, 0, cols);
  }

  std::vector<float> checked(std::vector<float> values) const {
    for (const float value : values)
      if (!std::isfinite(value))
        throw Error(ErrorKind::numeric, "a learned parameter is not a finite number", format_->label(), "",
                    "a smaller learning rate");
    return values;
  }

  std::shared_ptr<const AffineFormat> format_;
  Shape shape_;
  AffineFreedom::Kind kind_;
  uint64_t groups_ = 1, group_ = 1;
  std::vector<uint8_t> mask_;                            // [rows, cols], 1 = kept; empty: all
  Tensor scale_, minimum_, column_, kept_;               // where learning starts; the mask
  Tensor position_, theta_, phi_, zero_, column_theta_;  // what is learned
};

}  // namespace

std::unique_ptr<Parametrization> parametrize_affine(const Packed& packed, const ParametrizationStart& start) {
  return std::make_unique<AffineParametrization>(packed, start);
}

}  // namespace whit
