// nm: N:M pruning by scores, one-shot. In every row and every group of m consecutive inputs the n weights with the
// highest scores stay; of a last short group of r, ceil(n r / m). Nothing is repaired. With importance wanda, ria or
// obs before it, this is those papers' N:M (arXiv 2306.11695); n counts what is KEPT, where published code often counts
// what is removed.
//
// Ties go by index, the lowest is pruned first; inputs that never fired lose their weights first. With layerwise other
// than uniform, n is the target and every block gets its own, decided from the original model before the walk
// (methods/math/layerwise.h): that needs one pass over the original, and exact a backward pass too.
// Needs scores; time n_out m per group, memory one byte a weight for the mask (and the loss it reports, 4 bytes a
// weight).
#include <fmt/format.h>

#include "methods/math/pruning.h"
#include "methods/math/unit_state.h"
#include "methods/registry.h"

namespace whit {
namespace {

struct NmOptions {
  int n = 2, m = 4;
  LayerwiseOptions layerwise;
  template <class V>
  void visit(V& v) {
    v("n", n, "weights kept of each group", Range{1, kEnumerativeMost});
    v("m", m, "consecutive inputs of a group", Range{1, kEnumerativeMost});
    layerwise.visit(v);
  }
};

class Nm final : public Pruner {
 public:
  explicit Nm(const NmOptions& options) : options_(options) {
    if (options.n > options.m)
      throw Error(ErrorKind::usage, "more weights are kept than a group has", "nm",
                  fmt::format("n {}, m {}", options.n, options.m));
  }
  Json options() const override { return write_options(options_); }
  bool needs_statistics() const override { return false; }
  bool needs_scores() const override { return true; }
  uint64_t scratch_bytes(Shape shape) const override { return shape.count() * sizeof(float); }
  std::optional<NmPattern> pattern() const override {
    return NmPattern{static_cast<unsigned>(options_.n), static_cast<unsigned>(options_.m)};
  }

  StageReport prune(TensorState& state, const MethodContext& context) const override {
    check_weights(state);
    check_scores(state, "nm");
    require_resolved(options_.layerwise, state);
    const NmPattern nm = *pattern();
    const size_t cols = state.weights.cols;
    const std::vector<uint8_t> dead = dead_inputs(state);
    state.mask.assign(state.weights.data.size(), 1);
    context.pool.parallel_for(state.weights.rows, 16, [&](size_t begin, size_t end, int) {
      for (size_t i = begin; i < end; ++i)
        for (size_t j = 0; j < cols; j += nm.m) {
          const auto size = static_cast<unsigned>(std::min<size_t>(nm.m, cols - j));
          select_group(state.scores.row(i) + j, dead.data() + j, size, nm.kept_of(size), &state.mask[i * cols + j]);
        }
    });
    const Matrix before = state.weights;
    apply_mask(state);
    return measure_change(state, before);
  }

 private:
  NmOptions options_;
};

}  // namespace

WHIT_DEFINE_METHOD(prune, nm, Nm, NmOptions)

}  // namespace whit
