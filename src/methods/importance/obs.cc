// obs: the optimal-brain-surgeon score of SparseGPT (arXiv 2301.00774): S_ij = W_ij^2 / U_jj^2, where (H + damping)^-1
// = U^T U and H = E[x x^T]: what removing the weight costs when all inputs after j make up for it and those before j
// are fixed. With uncorrelated inputs it is Wanda's score squared.
//
// One-shot: all scores are of the original weights. The sweep that scores weights again after each group has moved them
// is prune/sparsegpt. H without the factor 2 (only the damping sees it); an input that never fired scores 0.
// Needs the gram matrix [m, m]; time m^3; memory 48 m^2 bytes inside the factorization.
#include "methods/math/gram_factor.h"
#include "methods/math/scores.h"
#include "methods/math/unit_state.h"
#include "methods/registry.h"

namespace whit {
namespace {

struct ObsOptions {
  double damp_ratio = 0.01;
  template <class V>
  void visit(V& v) {
    v("damp_ratio", damp_ratio,
      "damping added to the diagonal, as a share of its mean; raised tenfold while it is not enough", Range{0, 1});
  }
};

class Obs final : public Importance {
 public:
  explicit Obs(const ObsOptions& options) : options_(options) {}
  Json options() const override { return write_options(options_); }
  bool needs_statistics() const override { return true; }
  uint64_t scratch_bytes(Shape shape) const override { return gram_factor_bytes(shape.cols); }
  void score(TensorState& state, const MethodContext& context) const override {
    check_weights(state);
    std::vector<float> factor = input_norms(state, "obs");
    const GramFactor gram = factorize_gram(state.statistics->gram, options_.damp_ratio, false, state.unit.name);
    for (size_t j = 0; j < factor.size(); ++j) {
      const float pivot = gram.upper.row(j)[j];
      factor[j] = factor[j] == 0 ? 0.0f : 1.0f / (pivot * pivot);
    }
    fill_scores(state, context.pool, [&](size_t i, size_t j) {
      const float w = state.weights.row(i)[j];
      return w * w * factor[j];
    });
  }

 private:
  ObsOptions options_;
};

}  // namespace

WHIT_DEFINE_METHOD(importance, obs, Obs, ObsOptions)

}  // namespace whit
