// Dense formats as learnable tensors: the weights themselves, one kind ("scales": they are continuous). Rounding to the
// stored type happens in encode() only; its relative step (2^-9 for bf16, 2^-12 for f16) is far below a learning step.
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
  }

  Tensor materialize() const override { return values_; }
  Packed encode() const override {
    const std::vector<float> values = values_.values();
    for (const float value : values)
      if (!std::isfinite(value))
        throw Error(ErrorKind::numeric, "a learned weight is not a finite number", format_->label());
    return pack_dense(format_, shape_, values);
  }
  std::vector<ParameterGroup> parameters() const override { return {{"scales", {values_}}}; }

 private:
  FormatPtr format_;
  Shape shape_;
  Tensor values_;
};

}  // namespace

std::unique_ptr<Parametrization> parametrize_dense(const Packed& packed, const ParametrizationStart&) {
  return std::make_unique<DenseParametrization>(packed);
}

}  // namespace whit
