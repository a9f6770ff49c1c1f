// lowrank_sign as learnable tensors: W = diag(h) sign(U) diag(l) sign(V^T) diag(g), signs straight-through (the
// gradient of sign is taken as the identity), h, l, g = their start times exp(theta), so signs stay and one learning
// rate fits all magnitudes.
//
// The latents U and V^T have mean magnitude 1 over a row of U and over a column of V^T: what a factorization found
// times such factors has the same signs, and a learning rate then says how fast signs flip. A file keeps only signs;
// without the latents of the factorization all of them start at +-1.
//
// materialize() costs the product [rows, rank] x [rank, cols] and a handful of element-wise operations.
#include "format/lowrank_sign.h"

#include <cmath>

#include "methods/parametrize/parametrizations.h"

namespace whit {
namespace {

class LowrankSignParametrization final : public Parametrization {
 public:
  LowrankSignParametrization(const Packed& packed, std::span<const Matrix> latents)
      : format_(as_lowrank_sign(packed.format)), shape_(packed.shape) {
    WHIT_CHECK(format_ != nullptr);
    const LowrankSignFactors factors = format_->unpack_factors(packed);
    rows_ = static_cast<int64_t>(shape_.rows);
    cols_ = static_cast<int64_t>(shape_.cols);
    rank_ = static_cast<int64_t>(factors.l.size());
    std::vector<float> scales = factors.h;
    scales.insert(scales.end(), factors.l.begin(), factors.l.end());
    scales.insert(scales.end(), factors.g.begin(), factors.g.end());
    scales_ = Tensor::from(scales, {rows_ + rank_ + cols_});
    theta_ = Tensor::full({rows_ + rank_ + cols_}, 0).requires_grad();
    WHIT_CHECK(latents.empty() || latents.size() == 2);
    u_ = start(factors.u, rows_, rank_, latents.empty() ? nullptr : &latents[0]);
    v_ = start(factors.v, rank_, cols_, latents.empty() ? nullptr : &latents[1]);
  }

  Tensor materialize() const override {
    const Tensor scales = current_scales();
    const Tensor h = reshape(narrow(scales, 0, 0, rows_), {rows_, 1});
    const Tensor l = reshape(narrow(scales, 0, rows_, rank_), {rank_, 1});
    const Tensor g = narrow(scales, 0, rows_ + rank_, cols_);
    return matmul_for_blocks(sign_ste(u_) * h, sign_ste(v_) * l * g);
  }

  Packed encode() const override {
    const NoGrad guard;
    LowrankSignFactors factors{shape_, checked(u_), checked(v_), {}, {}, {}};
    const std::vector<float> scales = checked(current_scales());
    factors.h.assign(scales.begin(), scales.begin() + rows_);
    factors.l.assign(scales.begin() + rows_, scales.begin() + rows_ + rank_);
    factors.g.assign(scales.begin() + rows_ + rank_, scales.end());
    return format_->pack(factors);
  }

  std::vector<ParameterGroup> parameters() const override { return {{"factors", {u_, v_}}, {"scales", {theta_}}}; }
  std::vector<Matrix> latents() const override { return {u_.matrix(), v_.matrix()}; }

 private:
  Tensor current_scales() const { return scales_ * exp(theta_); }

  // The latents where they have the stored signs, else the sign itself.
  static Tensor start(const std::vector<float>& signs, int64_t rows, int64_t cols, const Matrix* latents) {
    std::vector<float> values = signs;
    if (latents) {
      WHIT_CHECK(latents->rows == static_cast<size_t>(rows) && latents->cols == static_cast<size_t>(cols));
      for (size_t i = 0; i < values.size(); ++i)
        if (std::signbit(latents->data[i]) == std::signbit(signs[i])) values[i] = latents->data[i];
    }
    return Tensor::from(values, {rows, cols}).requires_grad();
  }

  std::vector<float> checked(const Tensor& tensor) const {
    std::vector<float> values = tensor.values();
    for (const float value : values)
      if (!std::isfinite(value))
        throw Error(ErrorKind::numeric, "a learned parameter is not a finite number", format_->label(), "",
                    "a smaller learning rate");
    return values;
  }

  std::shared_ptr<const LowrankSignFormat> format_;
  Shape shape_;
  int64_t rows_ = 0, cols_ = 0, rank_ = 0;
  Tensor scales_;         // h, l, g one after another, where learning starts
  Tensor u_, v_, theta_;  // what is learned
};

}  // namespace

std::unique_ptr<Parametrization> parametrize_lowrank_sign(const Packed& packed, const ParametrizationStart& start) {
  return std::make_unique<LowrankSignParametrization>(packed, start.latents);
}

}  // namespace whit
