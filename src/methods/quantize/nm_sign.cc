// nm_sign: keeps the signs of n of every m consecutive inputs under a scale per row (and per column). Of our own making
// from known parts: the column sweep of gptq (2210.17323) and sparsegpt (2301.00774), least squares for scales.
//
// With H = E[x x^T] and H^-1 = U^T U, for j = 1, 2, ...: when the sweep comes to a group, each row keeps the n weights
// whose sign is worth most there, (w_j^2 - (|w_j| - s_j)^2) / U_jj^2 of the CURRENT weights, s_j = row_i column_j;
// q_j = s_j sign(w_j) or 0, e = (w_j - q_j) / U_jj, w_k -= e U_jk for k > j. So zeros and signs are made up for by
// the inputs that are still free, and nothing that was passed over comes back.
//
// Scales before the sweep: mask by the same worth of the original weights with s = |w|, then alternating least squares,
//   row_i = sum_j d_j c_j |w_ij| / sum_j d_j c_j^2,  column_j = sum_i r_i |w_ij| / sum_i r_i^2  over what is kept,
// d_j = H_jj. After it each row's scale is its exact optimum under H: row_i = q_i H w_i^T / q_i H q_i^T.
//
// A mask from an earlier step is kept if it has the pattern. Ties (a base that is quantized itself has many) go by
// index, so counts are exact. Without statistics H is the identity: the largest weights, no sweep.
// Needs the gram matrix where there is one; memory 8 bytes a weight and 24 m^2 in the factorization; time n m^2 + m^3.
#include "format/nm_sign.h"

#include <algorithm>
#include <cmath>

#include "format/bit_stream.h"
#include "methods/math/affine_kernels.h"
#include "methods/math/gram_factor.h"
#include "methods/math/pruning.h"
#include "methods/math/unit_state.h"
#include "methods/registry.h"

namespace whit {
namespace {

constexpr size_t kBlock = 128;

struct NmSignQuantizerOptions {
  double damp_ratio = 0.01;
  int fit_rounds = 6;
  std::string importance = "auto";
  template <class V>
  void visit(V& v) {
    v("damp_ratio", damp_ratio,
      "damping added to the diagonal, as a share of its mean; raised tenfold while it is not enough", Range{0, 1});
    v("fit_rounds", fit_rounds, "rounds of least squares for row and column scales", Range{1, 100});
    v("importance", importance,
      "errors are weighed and made up for by the inputs' gram matrix (activations), not at all (uniform), or the "
      "former "
      "where statistics were taken (auto)",
      Choices{{"auto", "activations", "uniform"}});
  }
};

// (w^2 - (|w| - s)^2): what keeping a sign saves of the squared error.
float worth(float w, float s) { return s * (2 * std::fabs(w) - s); }

class NmSignQuantizer final : public Quantizer {
 public:
  explicit NmSignQuantizer(const NmSignQuantizerOptions& options) : options_(options) {}
  Json options() const override { return write_options(options_); }
  bool accepts(const Format& format) const override { return format.name() == "nm_sign"; }
  bool needs_statistics() const override { return options_.importance == "activations"; }
  uint64_t scratch_bytes(Shape shape, const Format&) const override {
    // Moving copy of the weights and a block of errors, then the values against the gram matrix; mask and signs.
    return (2 * shape.count() + shape.rows * 2 * kBlock) * sizeof(float) + 2 * shape.count() +
           gram_factor_bytes(shape.cols);
  }

  StageReport quantize(TensorState& state, const MethodContext& context) const override {
    check_unit(state);
    const Shape shape{state.weights.rows, state.weights.cols};
    state.plan->check_shape(shape, state.unit.name);
    const auto format = as_nm_sign(state.plan);
    if (!format)
      throw Error(ErrorKind::usage, "nm_sign keeps signs; this format has none", state.unit.name, state.plan->label(),
                  "a format nm_sign");
    if (!state.mask.empty()) require_pattern(state, format->kept_pattern());
    Work work{state, *format, context.pool, input_importance(state, options_.importance, "nm_sign"), {}, {}, {}};
    const bool weighted = !work.importance.empty();
    GramFactor factor;
    std::vector<float> pivots(shape.cols, 1.0f);  // 1 / U_jj^2: what an error in column j costs in the end
    if (weighted) {
      factor = factorize_gram(state.statistics->gram, options_.damp_ratio, /*act_order=*/false, state.unit.name);
      for (size_t j = 0; j < shape.cols; ++j) pivots[j] = 1.0f / (factor.upper.row(j)[j] * factor.upper.row(j)[j]);
    } else {
      work.importance.assign(shape.cols, 1.0f);
    }
    fit_scales(work, pivots);
    sweep(work, weighted ? &factor.upper : nullptr);
    refit_rows(work, weighted ? &state.statistics->gram : nullptr);
    for (const float value : work.signs.scales)
      if (!std::isfinite(value)) throw Error(ErrorKind::numeric, "a scale is not a finite number", state.unit.name);
    state.packed = format->pack(work.signs);
    StageReport report = measure_loss(state);
    report.damp_ratio = factor.damp_ratio;
    return report;
  }

 private:
  struct Work {
    const TensorState& state;
    const NmSignFormat& format;
    ThreadPool& pool;
    std::vector<float> importance;  // of squared errors, per input
    std::vector<uint8_t> mask;      // [rows, cols]
    std::vector<float> columns;     // [cols], as the decoder will see them; 1 where the format has none
    NmSigns signs;

    const Matrix& weights() const { return state.weights; }
  };

  // Marks what is kept of the group of w that begins at column j. scores(k) of input j + k.
  template <class Score>
  static void keep(const Work& work, size_t j, uint8_t* mask, const Score& score) {
    static constexpr uint8_t kAlive[kEnumerativeMost] = {};
    const NmPattern pattern = work.format.kept_pattern();
    const auto size = static_cast<unsigned>(std::min<size_t>(pattern.m, work.weights().cols - j));
    float scores[kEnumerativeMost];
    for (unsigned k = 0; k < size; ++k) scores[k] = score(k);
    select_group(scores, kAlive, size, pattern.kept_of(size), mask);
  }

  void fit_scales(Work& work, const std::vector<float>& pivots) const {
    const Matrix& w = work.weights();
    const NmPattern pattern = work.format.kept_pattern();
    work.mask = work.state.mask;
    if (work.mask.empty()) {
      work.mask.resize(w.data.size());
      work.pool.parallel_for(w.rows, 16, [&](size_t begin, size_t end, int) {
        for (size_t i = begin; i < end; ++i)
          for (size_t j = 0; j < w.cols; j += pattern.m)
            keep(work, j, &work.mask[i * w.cols + j],
                 [&](unsigned k) { return worth(w.row(i)[j + k], std::fabs(w.row(i)[j + k])) * pivots[j + k]; });
      });
    }
    NmSigns& to = work.signs;
    to.shape = {w.rows, w.cols};
    to.scales.assign(w.rows, 0.0f);
    work.columns.assign(w.cols, 1.0f);
    for (int round = 0; round < options_.fit_rounds; ++round) {
      work.pool.parallel_for(w.rows, 16, [&](size_t begin, size_t end, int) {
        for (size_t i = begin; i < end; ++i) {
          double along = 0, squares = 0;
          for (size_t j = 0; j < w.cols; ++j) {
            if (!work.mask[i * w.cols + j]) continue;
            const double c = work.columns[j], d = work.importance[j];
            along += d * c * std::fabs(w.row(i)[j]);
            squares += d * c * c;
          }
          to.scales[i] = squares > 0 ? static_cast<float>(along / squares) : 0.0f;
        }
      });
      if (!work.format.has_columns()) return;
      work.pool.parallel_for(w.cols, 16, [&](size_t begin, size_t end, int) {
        std::vector<double> along(end - begin, 0.0), squares(end - begin, 0.0);
        for (size_t i = 0; i < w.rows; ++i)
          for (size_t j = begin; j < end; ++j) {
            if (!work.mask[i * w.cols + j]) continue;
            along[j - begin] += static_cast<double>(to.scales[i]) * std::fabs(w.row(i)[j]);
            squares[j - begin] += static_cast<double>(to.scales[i]) * to.scales[i];
          }
        for (size_t j = begin; j < end; ++j)
          work.columns[j] = squares[j - begin] > 0 ? static_cast<float>(along[j - begin] / squares[j - begin]) : 0.0f;
      });
    }
    // Columns around 1: the magnitude belongs to the rows. What is stored is what the sweep sees.
    double mean = 0;
    for (const float c : work.columns) mean += c / static_cast<double>(w.cols);
    for (float& c : work.columns) c = round_to_half(mean > 0 ? static_cast<float>(c / mean) : 1.0f);
    for (float& r : to.scales) r = static_cast<float>(r * mean);
    to.columns = work.columns;
  }

  static void sweep(Work& work, const Matrix* upper) {
    const Matrix& original = work.weights();
    const size_t rows = original.rows, cols = original.cols, m = work.format.kept_pattern().m;
    const bool choose = work.state.mask.empty();
    work.signs.signs.assign(rows * cols, 0);
    Matrix w = original;
    const size_t width = std::max<size_t>(kBlock / m, 1) * m;  // whole groups
    Matrix error(rows, width);
    for (size_t b = 0; b < cols; b += width) {
      const size_t count = std::min(width, cols - b);
      work.pool.parallel_for(rows, 1, [&](size_t begin, size_t end, int) {
        for (size_t i = begin; i < end; ++i) {
          const float scale = work.signs.scales[i];
          float* row = w.row(i) + b;
          uint8_t* mask = &work.mask[i * cols + b];
          int8_t* signs = &work.signs.signs[i * cols + b];
          for (size_t k = 0; k < count; ++k) {
            const float* factor = upper ? upper->row(b + k) + b : nullptr;
            if (choose && k % m == 0)
              keep(work, b + k, mask + k, [&](unsigned g) {
                const float pivot = upper ? upper->row(b + k + g)[b + k + g] : 1.0f;
                return worth(row[k + g], scale * work.columns[b + k + g]) / (pivot * pivot);
              });
            if (mask[k]) signs[k] = std::signbit(row[k]) ? -1 : 1;
            if (!upper) continue;
            const float value = static_cast<float>(signs[k]) * scale * work.columns[b + k];
            error.row(i)[k] = (row[k] - value) / factor[k];
            add_scaled(-error.row(i)[k], factor + k + 1, count - k - 1, row + k + 1);
          }
        }
      });
      if (upper && b + count < cols)
        multiply_add(-1.0f, {error.data.data(), rows, count, width},
                     {upper->row(b) + b + count, count, cols - b - count, cols}, false, w.data.data() + b + count,
                     cols);
    }
  }

  // The best scale of each row for its signs and columns, against the original weights.
  static void refit_rows(Work& work, const Matrix* gram) {
    const Matrix& w = work.weights();
    Matrix q(w.rows, w.cols), product;
    for (size_t i = 0; i < w.rows; ++i)
      for (size_t j = 0; j < w.cols; ++j)
        q.row(i)[j] = static_cast<float>(work.signs.signs[i * w.cols + j]) * work.columns[j];
    if (gram) {
      product = Matrix(w.rows, w.cols);
      multiply_add(1.0f, q, *gram, false, product.data.data(), w.cols);
    }
    work.pool.parallel_for(w.rows, 16, [&](size_t begin, size_t end, int) {
      for (size_t i = begin; i < end; ++i) {
        const float* qh = gram ? product.row(i) : q.row(i);
        double along = 0, squares = 0;
        for (size_t j = 0; j < w.cols; ++j) {
          along += static_cast<double>(qh[j]) * w.row(i)[j];
          squares += static_cast<double>(qh[j]) * q.row(i)[j];
        }
        if (squares > 0) work.signs.scales[i] = static_cast<float>(along / squares);
      }
    });
    if (!work.format.has_columns()) work.signs.columns.clear();
  }

  NmSignQuantizerOptions options_;
};

}  // namespace

WHIT_DEFINE_METHOD(quantize, nm_sign, NmSignQuantizer, NmSignQuantizerOptions)

}  // namespace whit
