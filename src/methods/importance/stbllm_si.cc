// stbllm_si, the standardized importance of STBLLM (arXiv 2408.01803), in both published forms. With
//   mu_ij = |W_ij| / sum_j |W_ij| + |W_ij| / sum_i |W_ij|:
// form = "released" (the default, what the published code computes): S_ij = mu_ij ||X_j||^0.5, which is importance/ria.
// form = "standardized" (what the paper writes): S_ij = sigma(mu_ij) ||X_j||, sigma(x) = (x - mean) / deviation. The
// paper does not say over what mean and deviation go; here over the linear's whole matrix, the largest scope in which
// all scores that are ever compared (a row's, a group's) share both, so that the deviation cancels. Below-average
// weights have negative scores, and a larger input makes them more negative: the order is turned over there. It is kept
// as written.
//
// ||X_j||^2 = E[x_j^2] over tokens, a common factor away from the code's.
// Needs the gram matrix's diagonal; three sweeps; memory 8 bytes a weight.
#include <cmath>

#include "methods/math/scores.h"
#include "methods/math/unit_state.h"
#include "methods/registry.h"

namespace whit {
namespace {

struct StbllmSiOptions {
  std::string form = "released";
  template <class V>
  void visit(V& v) {
    v("form", form, "as the released code computes it, or standardized as the paper writes it",
      Choices{{"released", "standardized"}});
  }
};

// mu := (mu - mean) / deviation, member by member. A matrix whose entries are all the same becomes 0.
void standardize(const TensorState& state, Matrix& mu) {
  for_each_member(state, [&](size_t begin, size_t end) {
    const double count = static_cast<double>((end - begin) * mu.cols);
    double sum = 0, square = 0;
    for (size_t k = begin * mu.cols; k < end * mu.cols; ++k) sum += mu.data[k];
    const double mean = count > 0 ? sum / count : 0.0;
    for (size_t k = begin * mu.cols; k < end * mu.cols; ++k) square += (mu.data[k] - mean) * (mu.data[k] - mean);
    const double deviation = count > 0 ? std::sqrt(square / count) : 0.0;
    for (size_t k = begin * mu.cols; k < end * mu.cols; ++k)
      mu.data[k] = deviation > 0 ? static_cast<float>((mu.data[k] - mean) / deviation) : 0.0f;
  });
}

class StbllmSi final : public Importance {
 public:
  explicit StbllmSi(const StbllmSiOptions& options) : options_(options) {}
  Json options() const override { return write_options(options_); }
  bool needs_statistics() const override { return true; }
  uint64_t scratch_bytes(Shape shape) const override { return shape.count() * sizeof(float); }
  void score(TensorState& state, const MethodContext& context) const override {
    check_weights(state);
    std::vector<float> factor = input_norms(state, "stbllm_si");
    Matrix mu = relative_magnitude(state, context.pool);
    if (options_.form == "standardized")
      standardize(state, mu);
    else
      for (float& norm : factor) norm = std::sqrt(norm);
    fill_scores(state, context.pool, [&](size_t i, size_t j) { return mu.row(i)[j] * factor[j]; });
  }

 private:
  StbllmSiOptions options_;
};

}  // namespace

WHIT_DEFINE_METHOD(importance, stbllm_si, StbllmSi, StbllmSiOptions)

}  // namespace whit
