// ria, relative importance and activations (Zhang et al., ICLR 2024, "Plug-and-Play"):
//   S_ij = (|W_ij| / sum_j |W_ij| + |W_ij| / sum_i |W_ij|) ||X_j||^a,  a = 0.5.
// A weight counts by its share of its row and of its column, so no output and no input loses all of its weights.
//
// ||X_j||^2 = E[x_j^2] over tokens; with an exponent the convention is a common factor still. Sums are over the linear
// itself: the members of a stack (q, k, v) have column sums of their own.
// Needs the gram matrix's diagonal; two sweeps; memory 8 bytes a weight.
#include <cmath>

#include "methods/math/scores.h"
#include "methods/math/unit_state.h"
#include "methods/registry.h"

namespace whit {
namespace {

struct RiaOptions {
  double exponent = 0.5;
  template <class V>
  void visit(V& v) {
    v("exponent", exponent, "power of the input's norm; 0 leaves activations out", Range{0, 4});
  }
};

class Ria final : public Importance {
 public:
  explicit Ria(const RiaOptions& options) : options_(options) {}
  Json options() const override { return write_options(options_); }
  bool needs_statistics() const override { return true; }
  uint64_t scratch_bytes(Shape shape) const override { return shape.count() * sizeof(float); }
  void score(TensorState& state, const MethodContext& context) const override {
    check_weights(state);
    std::vector<float> factor = input_norms(state, "ria");
    for (float& norm : factor) norm = static_cast<float>(std::pow(norm, options_.exponent));
    const Matrix mu = relative_magnitude(state, context.pool);
    fill_scores(state, context.pool, [&](size_t i, size_t j) { return mu.row(i)[j] * factor[j]; });
  }

 private:
  RiaOptions options_;
};

}  // namespace

WHIT_DEFINE_METHOD(importance, ria, Ria, RiaOptions)

}  // namespace whit
