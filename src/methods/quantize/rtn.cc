// rtn: round to nearest. Every weight becomes the nearest level of its group; all the care is in choosing the levels.
//
// Affine formats: scale and minimum of a group are fitted by math/affine_fit (extremes, shrunken ranges, least squares)
// under the squared error weighted by E[x_j^2] of its inputs where statistics are there, plain otherwise; parameters
// are rounded to what the format stores, then codes are chosen again. Dense formats (f16, bf16, f32, nm_f16): each
// weight rounded. Cost: about 60 sweeps over the weights at the default options, nothing held but the unit itself.
//
// The papers' "RTN" baseline is range = "minmax", importance = "uniform".
#include "methods/math/unit_state.h"
#include "methods/registry.h"

namespace whit {
namespace {

struct RtnOptions {
  std::string importance = "auto";
  AffineFitOptions fit;
  template <class V>
  void visit(V& v) {
    v("importance", importance,
      "what weighs the errors of an input: its mean square (activations), nothing (uniform), or the mean square where "
      "statistics were taken (auto)",
      Choices{{"auto", "activations", "uniform"}});
    fit.visit(v);
  }
};

class Rtn final : public Quantizer {
 public:
  explicit Rtn(const RtnOptions& options) : options_(options) {}
  Json options() const override { return write_options(options_); }
  bool accepts(const Format& format) const override {
    const std::string name = format.name();
    return dynamic_cast<const AffineFormat*>(&format) || name == "f32" || name == "f16" || name == "bf16" ||
           name == "nm_f16";
  }
  bool needs_statistics() const override { return options_.importance == "activations"; }
  uint64_t scratch_bytes(Shape shape, const Format& format) const override {
    const bool affine = dynamic_cast<const AffineFormat*>(&format) != nullptr;
    if (format.pattern() && !affine) return shape.count() * sizeof(float);  // the kept weights, moved together
    if (!affine) return 0;
    // Codes; scales and minima in groups of 32, and the source's own; with a mask this and the kept codes.
    return shape.count() + shape.count() / 2 + (format.pattern() ? 2 * shape.count() : 0);
  }

  StageReport quantize(TensorState& state, const MethodContext& context) const override {
    check_unit(state);
    const Shape shape{state.weights.rows, state.weights.cols};
    state.plan->check_shape(shape, state.unit.name);
    if (const auto format = as_affine(state.plan)) {
      const std::vector<float> importance = input_importance(state, options_.importance, "rtn");
      const AffineFitInput input = fit_input(state, *format, importance);
      AffineCodes codes;
      codes.shape = shape;
      codes.parameters = fit_affine(input, options_.fit, context.pool);
      require_exact_zero(state, *format, codes.parameters);
      if (format->pattern()) codes.mask = state.mask;
      codes.codes = nearest_codes(input, codes.parameters, context.pool);
      state.packed = format->pack(codes);
    } else if (const auto pattern = state.plan->pattern()) {
      require_pattern(state, *pattern);
      state.packed = pack_masked(state.plan, shape, state.weights.data, state.mask);
    } else {
      state.packed = pack_dense(state.plan, shape, state.weights.data);
    }
    return measure_loss(state);
  }

 private:
  RtnOptions options_;
};

}  // namespace

WHIT_DEFINE_METHOD(quantize, rtn, Rtn, RtnOptions)

}  // namespace whit
