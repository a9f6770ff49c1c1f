#include "methods/math/affine_fit.h"

#include <algorithm>
#include <cmath>

#include "base/checked.h"
#include "methods/math/affine_freedom.h"
#include "methods/math/affine_kernels.h"
#include "methods/math/affine_row_fit.h"

namespace whit {
namespace {

// A row's weights and importances as the fit wants them: divided by column scales, masked weights without importance.
struct RowView {
  std::vector<float> w, h;
  const float* weights = nullptr;
  const float* importance = nullptr;

  void set(const AffineFitInput& in, const std::vector<float>& uniform, const std::vector<float>& column, size_t row) {
    const size_t cols = in.shape.cols;
    weights = in.weights + row * cols;
    importance = in.importance.empty() ? uniform.data() : in.importance.data();
    if (!column.empty()) {
      w.resize(cols);
      h.resize(cols);
      for (size_t j = 0; j < cols; ++j) {
        w[j] = column[j] == 0 ? 0.0f : weights[j] / column[j];
        h[j] = importance[j] * column[j] * column[j];
      }
      weights = w.data();
      importance = h.data();
    }
    if (in.mask) {
      if (importance != h.data()) h.assign(importance, importance + cols);
      const uint8_t* mask = in.mask + row * cols;
      for (size_t j = 0; j < cols; ++j)
        if (mask[j] == 0) h[j] = 0;
      importance = h.data();
    }
  }
};

// Column scales of "rc" formats: start from root mean squares (two balancing rounds), then alternate rows and columns
// by least squares. sum over rows in blocks of fixed size, so the result does not depend on the number of threads.
constexpr size_t kRowBlock = 256;

template <class AddRow>  // (row, numerator[cols], denominator[cols])
void column_ratio(const AffineFitInput& in, ThreadPool& pool, const AddRow& add_row, std::vector<double>& numerator,
                  std::vector<double>& denominator) {
  const size_t cols = in.shape.cols, blocks = div_up(in.shape.rows, kRowBlock);
  std::vector<std::vector<double>> parts(blocks);
  pool.parallel_for(blocks, 1, [&](size_t begin, size_t end, int) {
    for (size_t b = begin; b < end; ++b) {
      parts[b].assign(2 * cols, 0.0);
      for (size_t i = b * kRowBlock; i < std::min<size_t>(in.shape.rows, (b + 1) * kRowBlock); ++i)
        add_row(i, parts[b].data(), parts[b].data() + cols);
    }
  });
  numerator.assign(cols, 0.0);
  denominator.assign(cols, 0.0);
  for (const auto& part : parts)
    for (size_t j = 0; j < cols; ++j) {
      numerator[j] += part[j];
      denominator[j] += part[cols + j];
    }
}

class ColumnFitter {
 public:
  ColumnFitter(const AffineFitInput& in, const std::vector<float>& uniform, const AffineFreedom& freedom,
               const AffineFitOptions& options, ThreadPool& pool)
      : in_(in), uniform_(uniform), freedom_(freedom), options_(options), pool_(pool) {}

  void fit(AffineParameters& p) {
    const size_t rows = in_.shape.rows, cols = in_.shape.cols;
    std::vector<double> numerator, denominator;
    p.column.assign(cols, 1.0f);
    std::vector<double> row_square(rows, 1.0);
    for (int round = 0; round < 3; ++round) {
      pool_.parallel_for(rows, 1, [&](size_t begin, size_t end, int) {
        for (size_t i = begin; i < end; ++i) {
          double sum = 0;
          for (size_t j = 0; j < cols; ++j) {
            const double v = p.column[j] == 0 ? 0.0 : in_.weights[i * cols + j] / p.column[j];
            sum += v * v;
          }
          row_square[i] = sum / static_cast<double>(cols);
        }
      });
      column_ratio(
          in_, pool_,
          [&](size_t i, double* num, double* den) {
            if (row_square[i] == 0) return;
            for (size_t j = 0; j < cols; ++j) {
              const double w = in_.weights[i * cols + j];
              num[j] += w * w / row_square[i];
              den[j] += 1;
            }
          },
          numerator, denominator);
      for (size_t j = 0; j < cols; ++j)
        p.column[j] = denominator[j] > 0 ? static_cast<float>(std::sqrt(numerator[j] / denominator[j])) : 1.0f;
    }
    normalize(p.column);
    if (options_.range != "least_squares") return;
    for (int64_t round = 0; round < options_.rounds; ++round) {
      fit_rows(p);
      const float top = static_cast<float>(in_.format.levels() - 1);
      column_ratio(
          in_, pool_,
          [&](size_t i, double* num, double* den) {
            const float s = p.scale[i], m = p.minimum[i];
            if (s == 0) return;
            const float inverse = 1.0f / s;
            for (size_t j = 0; j < cols; ++j) {
              if (p.column[j] == 0 || (in_.mask && in_.mask[i * cols + j] == 0)) continue;
              const float w = in_.weights[i * cols + j];
              const float q = std::clamp(std::nearbyint((w / p.column[j] - m) * inverse), 0.0f, top);
              const double v = s * q + m;
              num[j] += v * w;
              den[j] += v * v;
            }
          },
          numerator, denominator);
      for (size_t j = 0; j < cols; ++j)
        if (denominator[j] > 0 && numerator[j] > 0) p.column[j] = static_cast<float>(numerator[j] / denominator[j]);
    }
    normalize(p.column);
  }

  void fit_rows(AffineParameters& p) {
    pool_.parallel_for(in_.shape.rows, 1, [&](size_t begin, size_t end, int) {
      RowFitter fitter(in_.format, freedom_, options_, in_.shape.cols);
      fitter.set_columns(p.column);
      RowView view;
      for (size_t i = begin; i < end; ++i) {
        view.set(in_, uniform_, p.column, i);
        fitter.fit(view.weights, view.importance, nullptr, nullptr, &p.scale[i], &p.minimum[i]);
      }
    });
  }

 private:
  // Mean 1 over the columns: rows keep the magnitude, half floats keep the precision.
  static void normalize(std::vector<float>& column) {
    double sum = 0;
    for (const float c : column) sum += c;
    if (sum == 0) return;
    const float factor = static_cast<float>(static_cast<double>(column.size()) / sum);
    for (float& c : column) c *= factor;
  }

  const AffineFitInput& in_;
  const std::vector<float>& uniform_;
  const AffineFreedom& freedom_;
  const AffineFitOptions& options_;
  ThreadPool& pool_;
};

}  // namespace

int zero_code(float scale, float minimum, uint32_t levels) noexcept {
  if (scale == 0) return minimum == 0 ? 0 : -1;
  const float q = std::nearbyint(-minimum / scale);
  if (!(q >= 0 && q < static_cast<float>(levels))) return -1;
  const float product = scale * q;
  // The product is rounded once more where it is not fused: one unit of its last place is zero to every reader.
  return std::fabs(product + minimum) <= std::fabs(product) * 0x1p-23f ? static_cast<int>(q) : -1;
}

AffineParameters fit_affine(const AffineFitInput& in, const AffineFitOptions& options, ThreadPool& pool) {
  const uint64_t cols = in.shape.cols, group = in.format.group(cols), groups = div_up(cols, group);
  WHIT_CHECK(in.importance.empty() || in.importance.size() == cols);
  const std::vector<float> uniform(in.importance.empty() ? cols : 0, 1.0f);
  const AffineFreedom freedom = affine_freedom(in.format);
  AffineParameters p;
  p.groups_per_row = groups;
  p.scale.assign(in.shape.rows * groups, 0.0f);
  p.minimum.assign(in.shape.rows * groups, 0.0f);
  if (in.format.has_columns()) {
    WHIT_CHECK(groups == 1);
    ColumnFitter fitter(in, uniform, freedom, options, pool);
    fitter.fit(p);
    in.format.round_parameters(in.shape, p);  // the columns; rows follow
    fitter.fit_rows(p);
    in.format.round_parameters(in.shape, p);
    return p;
  }

  const bool from_source = in.source && options.source_grid && options.range != "minmax" && in.source_group >= group &&
                           in.source_group % group == 0 && in.source->column.empty() &&
                           in.source->groups_per_row == div_up(cols, in.source_group);
  pool.parallel_for(in.shape.rows, 16, [&](size_t begin, size_t end, int) {
    RowFitter fitter(in.format, freedom, options, cols);
    RowView view;
    std::vector<float> source_scale(groups), source_minimum(groups);
    for (size_t i = begin; i < end; ++i) {
      view.set(in, uniform, p.column, i);
      if (from_source)
        for (size_t g = 0; g < groups; ++g) {
          const size_t at = i * in.source->groups_per_row + g * group / in.source_group;
          source_scale[g] = in.source->scale[at];
          source_minimum[g] = in.source->minimum[at];
        }
      fitter.fit(view.weights, view.importance, from_source ? source_scale.data() : nullptr, source_minimum.data(),
                 &p.scale[i * groups], &p.minimum[i * groups]);
    }
  });
  return p;
}

std::vector<uint8_t> nearest_codes(const AffineFitInput& in, const AffineParameters& p, ThreadPool& pool) {
  const uint64_t cols = in.shape.cols, group = in.format.group(cols), groups = p.groups_per_row;
  const float top = static_cast<float>(in.format.levels() - 1);
  std::vector<uint8_t> codes(in.shape.count());
  const std::vector<float> uniform(cols, 1.0f);
  pool.parallel_for(in.shape.rows, 16, [&](size_t begin, size_t end, int) {
    RowView view;
    for (size_t i = begin; i < end; ++i) {
      view.set(in, uniform, p.column, i);
      uint8_t* row = codes.data() + i * cols;
      group_codes(view.weights, cols, group, &p.scale[i * groups], &p.minimum[i * groups], top, row);
      if (!in.mask) continue;
      for (size_t j = 0; j < cols; ++j) {
        if (in.mask[i * cols + j]) continue;
        if (in.format.pattern()) {  // the format stores the mask, zeros have no code
          row[j] = 0;
          continue;
        }
        const int zero =
            zero_code(p.scale[i * groups + j / group], p.minimum[i * groups + j / group], in.format.levels());
        WHIT_CHECK(zero >= 0);  // callers check with require_exact_zero
        row[j] = static_cast<uint8_t>(zero);
      }
    }
  });
  return codes;
}

}  // namespace whit
