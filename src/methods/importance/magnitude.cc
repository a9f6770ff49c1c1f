// magnitude: S_ij = |W_ij|. The oldest score (Han et al. 1506.02626); what an input carries does not matter. The
// baseline that the others are held against. Needs the weights; one sweep; memory 4 bytes a weight for the scores.
#include <cmath>

#include "methods/math/scores.h"
#include "methods/math/unit_state.h"
#include "methods/registry.h"

namespace whit {
namespace {

struct MagnitudeOptions {
  template <class V>
  void visit(V&) {}
};

class Magnitude final : public Importance {
 public:
  explicit Magnitude(const MagnitudeOptions&) {}
  Json options() const override { return Json::object(); }
  bool needs_statistics() const override { return false; }
  void score(TensorState& state, const MethodContext& context) const override {
    check_weights(state);
    fill_scores(state, context.pool, [&](size_t i, size_t j) { return std::fabs(state.weights.row(i)[j]); });
  }
};

}  // namespace

WHIT_DEFINE_METHOD(importance, magnitude, Magnitude, MagnitudeOptions)

}  // namespace whit
