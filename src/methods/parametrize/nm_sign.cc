// nm_sign as learnable tensors: w = row_i column_j q(x), q the sign of the n largest |x| of every m inputs and 0
// elsewhere, straight-through (the gradient passes to all of x, so that a weight that was left out can come back). Row
// and column scales are their start times exp(theta), so signs stay.
//
// x starts where learning left it, else at the weights in units of their scales. Where feedback chose otherwise,
// magnitudes and signs are moved just so far that q shows what is stored.
#include "format/nm_sign.h"

#include <algorithm>
#include <cmath>

#include "methods/parametrize/parametrizations.h"

namespace whit {
namespace {

constexpr float kApart = 1e-3f;  // between what is kept and what is not, relative

class NmSignParametrization final : public Parametrization {
 public:
  NmSignParametrization(const Packed& packed, const ParametrizationStart& start)
      : format_(as_nm_sign(packed.format)), shape_(packed.shape) {
    WHIT_CHECK(format_ != nullptr);
    const NmSigns signs = format_->unpack_signs(packed);
    const auto rows = static_cast<int64_t>(shape_.rows), cols = static_cast<int64_t>(shape_.cols);
    row_ = Tensor::from(signs.scales, {rows, 1});
    row_theta_ = Tensor::full({rows, 1}, 0).requires_grad();
    if (format_->has_columns()) {
      column_ = Tensor::from(signs.columns, {1, cols});
      column_theta_ = Tensor::full({1, cols}, 0).requires_grad();
    }
    latents_ = Tensor::from(start_latents(signs, start)).requires_grad();
  }

  Tensor materialize() const override {
    const Tensor w = signs() * scales();
    return column_ ? w * columns() : w;
  }

  Packed encode() const override {
    const NoGrad guard;
    checked(latents_);
    NmSigns to{shape_, {}, checked(scales()), {}};
    for (const float sign : signs().values()) to.signs.push_back(static_cast<int8_t>(sign));
    if (column_) to.columns = checked(columns());
    return format_->pack(to);
  }

  std::vector<ParameterGroup> parameters() const override {
    std::vector<ParameterGroup> groups = {{"codes", {latents_}}, {"scales", {row_theta_}}};
    if (column_) groups[1].tensors.push_back(column_theta_);
    return groups;
  }
  std::vector<Matrix> latents() const override { return {latents_.matrix()}; }

 private:
  Tensor signs() const {
    const NmPattern pattern = format_->kept_pattern();
    return nm_sign_ste(latents_, pattern.n, pattern.m);
  }
  Tensor scales() const { return row_ * exp(row_theta_); }
  Tensor columns() const { return column_ * exp(column_theta_); }

  Matrix start_latents(const NmSigns& signs, const ParametrizationStart& start) const {
    const MatrixView weights = start.weights;
    WHIT_CHECK(start.latents.empty() || start.latents[0].data.size() == shape_.count());
    const size_t m = format_->kept_pattern().m;
    Matrix out(shape_.rows, shape_.cols);
    for (size_t i = 0; i < shape_.rows; ++i)
      for (size_t begin = 0; begin < shape_.cols; begin += m) {
        const size_t end = std::min(begin + m, shape_.cols);
        const int8_t* sign = signs.signs.data() + i * shape_.cols;
        float kept = 3e38f, left = 0;  // the smallest magnitude of those kept, the largest of the others
        for (size_t j = begin; j < end; ++j) {
          float x = sign[j];
          const float scale = signs.scales[i] * (signs.columns.empty() ? 1.0f : signs.columns[j]);
          if (!start.latents.empty())
            x = start.latents[0].row(i)[j];
          else if (weights.data && scale != 0)
            x = weights.data[i * weights.stride + j] / scale;
          if (sign[j] != 0 && x * sign[j] <= 0) x = kApart * sign[j];
          out.row(i)[j] = x;
          (sign[j] != 0 ? kept : left) = sign[j] != 0 ? std::min(kept, std::fabs(x)) : std::max(left, std::fabs(x));
        }
        if (kept > left * (1 + kApart)) continue;
        const float middle = (kept + left) / 2;
        for (size_t j = begin; j < end; ++j) {
          float& x = out.row(i)[j];
          x = std::copysign(sign[j] != 0 ? std::max(std::fabs(x), middle * (1 + kApart))
                                         : std::min(std::fabs(x), middle * (1 - kApart)),
                            x);
        }
      }
    return out;
  }

  std::vector<float> checked(const Tensor& tensor) const {
    std::vector<float> values = tensor.values();
    for (const float value : values)
      if (!std::isfinite(value))
        throw Error(ErrorKind::numeric, "a learned parameter is not a finite number", format_->label(), "",
                    "a smaller learning rate");
    return values;
  }

  std::shared_ptr<const NmSignFormat> format_;
  Shape shape_;
  Tensor row_, column_;                        // where learning starts
  Tensor latents_, row_theta_, column_theta_;  // what is learned
};

}  // namespace

std::unique_ptr<Parametrization> parametrize_nm_sign(const Packed& packed, const ParametrizationStart& start) {
  return std::make_unique<NmSignParametrization>(packed, start);
}

}  // namespace whit
