// Formats that are not learned: what is stored stays, bit for bit, while the rest of a model learns around it.
#include "methods/parametrize/parametrizations.h"

namespace whit {
namespace {

class ConstantParametrization final : public Parametrization {
 public:
  explicit ConstantParametrization(const Packed& packed) : packed_(packed) {
    Matrix values(packed.shape.rows, packed.shape.cols);
    packed.format->unpack(packed.shape, packed.views(), 0, packed.shape.rows, values.data.data());
    values_ = Tensor::from(values);
  }

  Tensor materialize() const override { return values_; }
  Packed encode() const override { return packed_; }
  std::vector<ParameterGroup> parameters() const override { return {}; }

 private:
  Packed packed_;
  Tensor values_;
};

}  // namespace

std::unique_ptr<Parametrization> parametrize_constant(const Packed& packed, const ParametrizationStart&) {
  return std::make_unique<ConstantParametrization>(packed);
}

}  // namespace whit
