// Dense formats as learnable tensors: the weights themselves, one kind ("weights"). Rounding to the
// stored type happens in encode() only; its relative step (2^-9 for bf16, 2^-12 for f16) is far below a learning step.
// nm_f16 keeps its mask: pruned weights are zero, and no gradient reaches them.
#include <cmath>

#include "methods/parametrize/parametrizations.h"

namespace whit {
namespace {

class DenseParametrization final : public Parametrization {
 public:
  explicit DenseParametrization(const Packed& packed) : format_(packed.format), shape_(packed.shape) {
    const auto parts = packed.views();
    Matrix values(shape_.rows, shape_.cols);
    format_->unpack(shape_, parts, 0, shape_.rows, values.data.data());
    values_ = Tensor::from(values).requires_grad();
    if (!format_->pattern()) return;
    mask_ = stored_mask(packed);
    kept_ = Tensor::from(std::vector<float>(mask_.begin(), mask_.end()), values_.shape());
  }

  Tensor materialize() const override { return kept_ ? values_ * kept_ : values_; }
  Packed encode() const override {
    const std::vector<float> values = values_.values();
    for (const float value : values)
      if (!std::isfinite(value))
        throw Error(ErrorKind::numeric, "a learned weight is not a finite number", format_->label());
    return mask_.empty() ? pack_dense(format_, shape_, values) : pack_masked(format_, shape_, values, mask_);
  }
  std::vector<ParameterGroup> parameters() const override { return {{"weights", {values_}}}; }

 private:
  FormatPtr format_;
  Shape shape_;
  std::vector<uint8_t> mask_;
  Tensor values_, kept_;
};

}  // namespace

std::unique_ptr<Parametrization> parametrize_dense(const Packed& packed, const ParametrizationStart&) {
  return std::make_unique<DenseParametrization>(packed);
}

}  // namespace whit
