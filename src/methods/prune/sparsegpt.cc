// sparsegpt (arXiv 2301.00774): prunes a linear one input column at a time, and the columns still free make up for each
// weight that goes (the sweep of gptq, with "zero or as it is" instead of levels).
//
// With H = E[x x^T] and (H + damping)^-1 = U^T U, for j = 1, 2, ...: q_j = w_j or 0, e = (w_j - q_j) / U_jj, w_k -= e
// U_jk for k > j. Scores are W_ij^2 / U_jj^2 of the CURRENT weights, which have made up for all columns before:
//   N:M (m > 0): when the sweep comes to a group of m inputs, each row keeps its n best of it, of a last short group of
//   r
//     ceil(n r / m);
//   unstructured (sparsity > 0): one threshold per block of 128 inputs over all rows, so rows may differ, blocks may
//   not.
// Neither, or n = m: nothing is pruned and the weights stay bit for bit.
//
// Where we differ from the published code: counts are exact (its threshold prunes one more a block); H without the
// factor 2 (only the damping sees it); damping is raised tenfold until the factorization succeeds, and reported; inputs
// that never fired lose their weights first and nothing makes up for them; ties go by index, the lowest first. n counts
// what is KEPT. Layer-wise N:M as in prune/nm, by the scores of an importance step before it, or Wanda's; the sweep
// itself needs no scores. Needs the gram matrix [m, m]; memory 8 bytes a weight and 48 m^2 in the factorization; time n
// m^2 / 2 + m^3.
#include <fmt/format.h>

#include <algorithm>

#include "methods/math/affine_kernels.h"
#include "methods/math/gram_factor.h"
#include "methods/math/pruning.h"
#include "methods/math/unit_state.h"
#include "methods/registry.h"

namespace whit {
namespace {

constexpr size_t kBlock = 128;

struct SparseGptOptions {
  int n = 0, m = 0;
  double sparsity = 0;
  double damp_ratio = 0.01;
  LayerwiseOptions layerwise;
  template <class V>
  void visit(V& v) {
    v("n", n, "weights kept of each group; 0 with sparsity", Range{0, kEnumerativeMost});
    v("m", m, "consecutive inputs of a group; 0 with sparsity", Range{0, kEnumerativeMost});
    v("sparsity", sparsity, "share of the weights that is pruned, instead of n and m", Range{0, 1});
    v("damp_ratio", damp_ratio,
      "damping added to the diagonal, as a share of its mean; raised tenfold while it is not enough", Range{0, 1});
    layerwise.visit(v);
  }
};

class SparseGpt final : public Pruner {
 public:
  explicit SparseGpt(const SparseGptOptions& options) : options_(options) {
    const auto refuse = [](const char* what, const std::string& found) {
      throw Error(ErrorKind::usage, what, "sparsegpt", found, "n and m (2 and 4, ...), or sparsity");
    };
    if (options.n > options.m)
      refuse("more weights are kept than a group has", fmt::format("n {}, m {}", options.n, options.m));
    if (options.m > 0 && options.n == 0) refuse("m without n", fmt::format("m {}", options.m));
    if (options.m > 0 && options.sparsity > 0)
      refuse("n:m and a sparsity exclude each other", fmt::format("m {}, sparsity {}", options.m, options.sparsity));
    if (options.m == 0 && options.layerwise.layerwise != "uniform")
      refuse("blocks share n, and there is none", "layerwise " + options.layerwise.layerwise);
  }
  Json options() const override { return write_options(options_); }
  bool needs_statistics() const override { return true; }
  bool needs_scores() const override { return false; }
  uint64_t scratch_bytes(Shape shape) const override {
    // The original for the loss, a block of errors and of scores.
    return (shape.count() + 2 * shape.rows * kBlock) * sizeof(float) + gram_factor_bytes(shape.cols);
  }
  std::optional<NmPattern> pattern() const override {
    if (options_.m == 0) return std::nullopt;
    return NmPattern{static_cast<unsigned>(options_.n), static_cast<unsigned>(options_.m)};
  }

  StageReport prune(TensorState& state, const MethodContext& context) const override {
    check_weights(state);
    require_resolved(options_.layerwise, state);
    if (!state.statistics || state.statistics->tokens == 0)
      throw Error(ErrorKind::usage, "sparsegpt needs statistics of the unit's inputs and there are none",
                  state.unit.name, "", "calibrate first, or an importance step and nm");
    state.mask.assign(state.weights.data.size(), 1);
    if (options_.n == options_.m && options_.sparsity == 0) return {};
    const GramFactor factor =
        factorize_gram(state.statistics->gram, options_.damp_ratio, /*act_order=*/false, state.unit.name);
    const Matrix before = state.weights;
    sweep(state, factor.upper, context.pool);
    StageReport report = measure_change(state, before);
    report.damp_ratio = factor.damp_ratio;
    return report;
  }

 private:
  void sweep(TensorState& state, const Matrix& upper, ThreadPool& pool) const {
    Matrix& w = state.weights;
    const size_t rows = w.rows, cols = w.cols;
    const std::vector<uint8_t> dead = dead_inputs(state);
    const auto nm = pattern();
    const size_t width = nm ? std::max<size_t>(kBlock / nm->m, 1) * nm->m : kBlock;  // whole groups
    Matrix error(rows, width), scores;
    if (!nm) scores = Matrix(rows, cols);
    uint64_t pruned = 0;
    for (size_t b = 0; b < cols; b += width) {
      const size_t count = std::min(width, cols - b);
      if (!nm) {
        const uint64_t wanted = pruned_count(options_.sparsity, rows * (b + count));
        score_columns(w, upper, b, b + count, pool, scores);
        select_part(scores, dead, {0, rows, b, b + count}, wanted - pruned, state.mask);
        pruned = wanted;
      }
      pool.parallel_for(rows, 1, [&](size_t begin, size_t end, int) {
        for (size_t i = begin; i < end; ++i)
          row_through_block(w.row(i) + b, upper, b, count, nm, dead.data() + b, &state.mask[i * cols + b],
                            error.row(i));
      });
      if (b + count < cols)
        multiply_add(-1.0f, {error.data.data(), rows, count, width},
                     {upper.row(b) + b + count, count, cols - b - count, cols}, false, w.data.data() + b + count, cols);
    }
  }

  static void score_columns(const Matrix& w, const Matrix& upper, size_t begin_column, size_t end_column,
                            ThreadPool& pool, Matrix& scores) {
    pool.parallel_for(w.rows, 16, [&](size_t begin, size_t end, int) {
      for (size_t i = begin; i < end; ++i)
        for (size_t j = begin_column; j < end_column; ++j) {
          const float e = w.row(i)[j] / upper.row(j)[j];
          scores.row(i)[j] = e * e;
        }
    });
  }

  // Columns [b, b + count) of one row; w, dead, mask and error begin at column b.
  static void row_through_block(float* w, const Matrix& upper, size_t b, size_t count,
                                const std::optional<NmPattern>& nm, const uint8_t* dead, uint8_t* mask, float* error) {
    float scores[kEnumerativeMost];
    for (size_t k = 0; k < count; ++k) {
      if (nm && k % nm->m == 0) {
        const auto size = static_cast<unsigned>(std::min<size_t>(nm->m, count - k));
        for (unsigned g = 0; g < size; ++g) {
          const float e = w[k + g] / upper.row(b + k + g)[b + k + g];
          scores[g] = e * e;
        }
        select_group(scores, dead + k, size, nm->kept_of(size), mask + k);
      }
      error[k] = 0.0f;
      if (mask[k]) continue;
      const float* row = upper.row(b + k) + b;
      error[k] = w[k] / row[k];
      w[k] = 0.0f;
      add_scaled(-error[k], row + k + 1, count - k - 1, w + k + 1);
    }
  }

  SparseGptOptions options_;
};

}  // namespace

WHIT_DEFINE_METHOD(prune, sparsegpt, SparseGpt, SparseGptOptions)

}  // namespace whit
