// gptq (arXiv 2210.17323): rounds a linear one input column at a time; after each column the columns that are still
// free move so that the output of the linear changes least.
//
// With H = E[x x^T] and H^-1 = U^T U (U upper triangular), for j = 1, 2, ...:
//   q_j = nearest level of w_j,  e = (w_j - q_j) / U_jj,  w_k -= e U_jk for k > j,  and the sum of all e^2 is
// trace((W - Q) H (W - Q)^T) exactly (undamped). Columns go in blocks of 128: inside a block row by row in the
// first-level cache, the rest of the matrix by one product per block.
//
// Where we differ from the paper: H without the factor 2 (only the damping sees it); scales are fitted before the loop
// on the original weights ("static groups"), so any column order goes with any group size and no index is stored; the
// fit weighs errors by 1 / U_jj^2, which is what an error in column j costs in this very loss; inputs that never fired
// (H_jj = 0) keep their weights, rounded to nearest, instead of being zeroed; damping is raised tenfold until the
// factorization succeeds, and reported.
// Needs the gram matrix [m, m]; memory 4 (3 n m + 2 m^2) bytes and 48 m^2 inside the factorization; time n m^2 + m^3.
#include <algorithm>
#include <cmath>

#include "base/checked.h"
#include "methods/math/affine_kernels.h"
#include "methods/math/gram_factor.h"
#include "methods/math/unit_state.h"
#include "methods/registry.h"

namespace whit {
namespace {

constexpr size_t kBlock = 128;

struct GptqOptions {
  double damp_ratio = 0.01;
  bool act_order = true;
  std::string importance = "pivot";
  AffineFitOptions fit;
  template <class V>
  void visit(V& v) {
    v("damp_ratio", damp_ratio,
      "damping added to the diagonal, as a share of its mean; raised tenfold while it is not enough", Range{0, 1});
    v("act_order", act_order, "columns with the most active inputs first");
    v("importance", importance,
      "what weighs errors while scales are fitted: the loss of an error that later columns make up for (pivot), the "
      "input's mean square (activations), nothing (uniform)",
      Choices{{"pivot", "activations", "uniform"}});
    fit.visit(v);
  }
};

class Gptq final : public Quantizer {
 public:
  explicit Gptq(const GptqOptions& options) : options_(options) {}
  Json options() const override { return write_options(options_); }
  bool accepts(const Format& format) const override { return dynamic_cast<const AffineFormat*>(&format) != nullptr; }
  bool needs_statistics() const override { return true; }
  uint64_t scratch_bytes(Shape shape, const Format& format) const override {
    // Moving copy of the weights and a block of errors; codes; scales and minima (groups of 32, and the source's own).
    return shape.rows * (shape.cols + kBlock) * sizeof(float) + shape.count() + shape.count() / 2 +
           (format.pattern() ? 2 * shape.count() : 0) + gram_factor_bytes(shape.cols);
  }

  StageReport quantize(TensorState& state, const MethodContext& context) const override {
    check_unit(state);
    const Shape shape{state.weights.rows, state.weights.cols};
    state.plan->check_shape(shape, state.unit.name);
    const auto format = as_affine(state.plan);
    if (!format)
      throw Error(ErrorKind::usage, "gptq rounds to scaled levels; this format has none", state.unit.name,
                  state.plan->label(), "a grid, q4_0 to q8_0; rtn for dense formats");
    if (!state.statistics || state.statistics->tokens == 0)
      throw Error(ErrorKind::usage, "gptq needs statistics of the unit's inputs and there are none", state.unit.name,
                  "", "calibrate first, or rtn");
    const GramFactor& factor = factor_of(state);

    std::vector<float> importance;
    if (options_.importance == "activations") importance = input_importance(state);
    if (options_.importance == "pivot") {
      importance.resize(shape.cols);
      for (size_t k = 0; k < shape.cols; ++k) {
        const float pivot = factor.upper.row(k)[k];
        importance[factor.order[k]] = 1.0f / (pivot * pivot);
      }
    }
    AffineCodes codes;
    codes.shape = shape;
    codes.parameters = fit_affine(fit_input(state, *format, importance), options_.fit, context.pool);
    require_exact_zero(state, *format, codes.parameters);
    if (format->pattern()) codes.mask = state.mask;
    round_with_feedback(state, *format, factor, codes, context.pool);
    state.packed = format->pack(codes);
    StageReport report = measure_loss(state);
    report.damp_ratio = factor.damp_ratio;
    return report;
  }

 private:
  // The factorization of 1536 inputs costs more than rounding a few hundred rows, and whoever tries several formats on
  // one unit asks with the same statistics each time; so the last one is kept. An instance serves one thread at a time.
  const GramFactor& factor_of(const TensorState& state) const {
    if (seen_.lock() != state.statistics) {
      seen_.reset();
      factor_ = factorize_gram(state.statistics->gram, options_.damp_ratio, options_.act_order, state.unit.name);
      seen_ = state.statistics;
    }
    return factor_;
  }

  static void round_with_feedback(const TensorState& state, const AffineFormat& format, const GramFactor& factor,
                                  AffineCodes& codes, ThreadPool& pool) {
    const size_t rows = codes.shape.rows, cols = codes.shape.cols;
    const std::vector<size_t>& order = factor.order;
    const AffineParameters& p = codes.parameters;
    const uint64_t group = format.group(cols), groups = p.groups_per_row;
    const float top = static_cast<float>(format.levels() - 1);
    const bool sparse = format.pattern().has_value();  // zeros have no code

    Matrix work(rows, cols);  // columns in the order of rounding
    pool.parallel_for(rows, 1, [&](size_t begin, size_t end, int) {
      for (size_t i = begin; i < end; ++i)
        for (size_t k = 0; k < cols; ++k) work.row(i)[k] = state.weights.row(i)[order[k]];
    });
    codes.codes.resize(codes.shape.count());
    Matrix error(rows, kBlock);
    for (size_t b = 0; b < cols; b += kBlock) {
      const size_t count = std::min(kBlock, cols - b);
      float inverse_pivot[kBlock], column[kBlock];
      uint64_t group_of[kBlock];
      for (size_t k = 0; k < count; ++k) {
        inverse_pivot[k] = 1.0f / factor.upper.row(b + k)[b + k];
        column[k] = p.column.empty() ? 1.0f : p.column[order[b + k]];
        group_of[k] = order[b + k] / group;
      }
      pool.parallel_for(rows, 1, [&](size_t begin, size_t end, int) {
        float scale[kBlock], minimum[kBlock];
        uint8_t code[kBlock], keep[kBlock], zero[kBlock];
        for (size_t i = begin; i < end; ++i) {
          for (size_t k = 0; k < count; ++k) {
            scale[k] = p.scale[i * groups + group_of[k]];
            minimum[k] = p.minimum[i * groups + group_of[k]];
          }
          if (!state.mask.empty())
            for (size_t k = 0; k < count; ++k) {
              keep[k] = state.mask[i * cols + order[b + k]];
              zero[k] = keep[k] || sparse ? 0 : static_cast<uint8_t>(zero_code(scale[k], minimum[k], format.levels()));
            }
          const FeedbackRow row{work.row(i) + b,
                                error.row(i),
                                code,
                                scale,
                                minimum,
                                p.column.empty() ? nullptr : column,
                                state.mask.empty() ? nullptr : keep,
                                zero};
          feedback_block(row, count, factor.upper.row(b) + b, cols, inverse_pivot, top);
          for (size_t k = 0; k < count; ++k) codes.codes[i * cols + order[b + k]] = code[k];
        }
      });
      if (b + count < cols)
        multiply_add(-1.0f, {error.data.data(), rows, count, kBlock},
                     {factor.upper.row(b) + b + count, count, cols - b - count, cols}, false,
                     work.data.data() + b + count, cols);
    }
  }

  GptqOptions options_;
  mutable std::weak_ptr<const UnitStatistics> seen_;
  mutable GramFactor factor_;
};

}  // namespace

WHIT_DEFINE_METHOD(quantize, gptq, Gptq, GptqOptions)

}  // namespace whit
