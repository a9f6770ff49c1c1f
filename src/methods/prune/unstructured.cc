// unstructured: prunes the weights with the lowest scores wherever they are, one-shot. What is compared with what
// decides:
//   row     inside each output row, floor(sparsity m) weights of each (Wanda, arXiv 2306.11695: essential to its score)
//   block   inside each block of 128 inputs over all rows (the groups of SparseGPT, arXiv 2301.00774)
//   tensor  over the whole unit (classical magnitude pruning)
// Counts are exact: of any comparison group, and over the unit, what was asked for, rounded down.
//
// Ties go by index, the lowest is pruned first; inputs that never fired lose their weights first. The published code's
// threshold (<= the sorted score at int(count s)) prunes one more; here it is the count itself.
// Needs scores; time linear in the weights; memory 4 bytes a weight for the order and 4 for the loss it reports.
#include <algorithm>

#include "methods/math/pruning.h"
#include "methods/math/unit_state.h"
#include "methods/registry.h"

namespace whit {
namespace {

constexpr size_t kBlock = 128;

struct UnstructuredOptions {
  double sparsity = 0.5;
  std::string comparison = "row";
  template <class V>
  void visit(V& v) {
    v("sparsity", sparsity, "share of the weights that is pruned", Range{0, 1});
    v("comparison", comparison, "which scores are compared: of a row, of 128 inputs over all rows, of the whole unit",
      Choices{{"row", "block", "tensor"}});
  }
};

class Unstructured final : public Pruner {
 public:
  explicit Unstructured(const UnstructuredOptions& options) : options_(options) {}
  Json options() const override { return write_options(options_); }
  bool needs_statistics() const override { return false; }
  bool needs_scores() const override { return true; }
  uint64_t scratch_bytes(Shape shape) const override { return 2 * shape.count() * sizeof(float); }

  StageReport prune(TensorState& state, const MethodContext& context) const override {
    check_weights(state);
    check_scores(state, "unstructured");
    const size_t rows = state.weights.rows, cols = state.weights.cols;
    const std::vector<uint8_t> dead = dead_inputs(state);
    state.mask.assign(state.weights.data.size(), 1);
    if (options_.comparison == "row") {
      const uint64_t count = pruned_count(options_.sparsity, cols);
      context.pool.parallel_for(rows, 16, [&](size_t begin, size_t end, int) {
        for (size_t i = begin; i < end; ++i) select_part(state.scores, dead, {i, i + 1, 0, cols}, count, state.mask);
      });
    } else {
      const size_t width = options_.comparison == "block" ? kBlock : std::max<size_t>(cols, 1);
      uint64_t pruned = 0;
      for (size_t j = 0; j < cols; j += width) {
        const size_t end = std::min(cols, j + width);
        const uint64_t wanted = pruned_count(options_.sparsity, rows * end);  // of all columns so far
        select_part(state.scores, dead, {0, rows, j, end}, wanted - pruned, state.mask);
        pruned = wanted;
      }
    }
    const Matrix before = state.weights;
    apply_mask(state);
    return measure_change(state, before);
  }

 private:
  UnstructuredOptions options_;
};

}  // namespace

WHIT_DEFINE_METHOD(prune, unstructured, Unstructured, UnstructuredOptions)

}  // namespace whit
