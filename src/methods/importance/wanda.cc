// wanda (arXiv 2306.11695): S_ij = |W_ij| ||X_j||, ||X_j||^2 = E[x_j^2] over the calibration tokens: how much the
// output changes without the weight, if the inputs are uncorrelated. Meant to be compared inside each row (prune/nm,
// prune/unstructured with comparison = "row"): across rows it compares outputs, which says little.
//
// Where we differ from the published code: the mean over tokens instead of the sum over sequences divided by their
// number (a common factor, no ranking changes). Needs the gram matrix's diagonal; one sweep; memory 4 bytes a weight
// for the scores.
#include <cmath>

#include "methods/math/scores.h"
#include "methods/math/unit_state.h"
#include "methods/registry.h"

namespace whit {
namespace {

struct WandaOptions {
  template <class V>
  void visit(V&) {}
};

class Wanda final : public Importance {
 public:
  explicit Wanda(const WandaOptions&) {}
  Json options() const override { return Json::object(); }
  bool needs_statistics() const override { return true; }
  void score(TensorState& state, const MethodContext& context) const override {
    check_weights(state);
    const std::vector<float> norms = input_norms(state, "wanda");
    fill_scores(state, context.pool, [&](size_t i, size_t j) { return std::fabs(state.weights.row(i)[j]) * norms[j]; });
  }
};

}  // namespace

WHIT_DEFINE_METHOD(importance, wanda, Wanda, WandaOptions)

}  // namespace whit
