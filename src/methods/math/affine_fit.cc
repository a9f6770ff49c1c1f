#include "methods/math/affine_fit.h"

#include <algorithm>
#include <cmath>
#include <limits>

#include "base/checked.h"
#include "methods/math/affine_freedom.h"
#include "methods/math/affine_kernels.h"

namespace whit {
namespace {

struct GroupFit {
  std::vector<float> scale, minimum, error;
  std::vector<GroupMoments> moments;
  void resize(size_t groups) {
    scale.resize(groups);
    minimum.resize(groups);
    error.resize(groups);
    moments.resize(groups);
  }
  void copy_group(const GroupFit& from, size_t g) {
    scale[g] = from.scale[g];
    minimum[g] = from.minimum[g];
    error[g] = from.error[g];
    moments[g] = from.moments[g];
  }
};

// Fits one row at a time; owns its scratch memory, one per worker.
class RowFitter {
 public:
  RowFitter(const AffineFormat& format, const AffineFreedom& freedom, const AffineFitOptions& options, uint64_t cols)
      : format_(format),
        freedom_(freedom),
        options_(options),
        cols_(cols),
        group_(format.group(cols)),
        groups_(div_up(cols, group_)),
        top_(static_cast<float>(format.levels() - 1)),
        centre_(static_cast<float>(format.centre())),
        sums_(groups_) {
    for (GroupFit* fit : {&best_, &trial_, &merged_}) fit->resize(groups_);
    rounded_.groups_per_row = groups_;
    // Ranges narrower than this lose more by clipping than they gain by finer steps.
    const double levels = format.levels();
    least_factor_ = levels <= 4 ? 0.35 : levels <= 8 ? 0.5 : levels <= 16 ? 0.6 : levels <= 64 ? 0.8 : 0.95;
  }

  // Column scales that the row's weights were already divided by, so that rounding sees them.
  void set_columns(const std::vector<float>& column) { rounded_.column = column; }

  void fit(const float* w, const float* h, const float* source_scale, const float* source_minimum, float* scale,
           float* minimum) {
    w_ = w;
    h_ = h;
    group_sums(w, h, cols_, group_, sums_.data());
    std::fill(best_.error.begin(), best_.error.end(), std::numeric_limits<float>::infinity());
    const bool refine = options_.range == "least_squares";
    const int64_t candidates = options_.range == "minmax" ? 1 : options_.candidates;
    for (int64_t c = 0; c < candidates; ++c) {
      const double share = candidates == 1 ? 0.0 : static_cast<double>(c) / static_cast<double>(candidates - 1);
      const float factor = static_cast<float>(1.0 - share * (1.0 - least_factor_));
      for (const bool negative : {false, true}) {
        // Levels that reach further on one side (q4_0: -8 .. 7) are worth turning over.
        if (negative &&
            !(freedom_.negative_scale && freedom_.kind == AffineFreedom::Kind::symmetric && top_ != 2 * centre_))
          continue;
        start_range(factor, negative);
        if (evaluate_trial() && refine) refine_trial(1);
      }
    }
    if (source_scale) {
      for (size_t g = 0; g < groups_; ++g) {
        trial_.scale[g] = source_scale[g];
        trial_.minimum[g] = source_minimum[g];
      }
      fix_minimum();
      evaluate_trial();
    }
    if (refine) {
      trial_ = best_;
      refine_trial(options_.rounds);
    }
    round_best();
    if (refine)
      for (int64_t round = 0; round < options_.rounds; ++round)
        if (!refit_rounded()) break;
    std::copy(best_.scale.begin(), best_.scale.end(), scale);
    std::copy(best_.minimum.begin(), best_.minimum.end(), minimum);
  }

 private:
  void start_range(float factor, bool negative) {
    for (size_t g = 0; g < groups_; ++g) {
      float least = sums_[g].least, most = sums_[g].most;
      float& s = trial_.scale[g];
      float& m = trial_.minimum[g];
      if (freedom_.kind == AffineFreedom::Kind::symmetric) {
        const float above = top_ - centre_, below = centre_;
        s = negative ? -std::max(-least / above, most / below) : std::max(most / above, -least / below);
        s *= factor;
        m = -centre_ * s;
        continue;
      }
      if (freedom_.kind == AffineFreedom::Kind::zero_point) {
        least = std::min(least, 0.0f);
        most = std::max(most, 0.0f);
        s = factor * (most - least) / top_;
        m = s == 0 ? 0.0f : -s * std::clamp(std::nearbyint(-factor * least / s), 0.0f, top_);
        continue;
      }
      const float middle = 0.5f * (least + most), half = 0.5f * factor * (most - least);
      s = 2 * half / top_;
      m = middle - half;
    }
  }

  // A symmetric or integer zero point leaves no free minimum: follow the scale.
  void fix_minimum() {
    for (size_t g = 0; g < groups_; ++g) {
      const float s = trial_.scale[g];
      if (freedom_.kind == AffineFreedom::Kind::symmetric) trial_.minimum[g] = -centre_ * s;
      if (freedom_.kind == AffineFreedom::Kind::zero_point)
        trial_.minimum[g] = s == 0 ? 0.0f : -s * std::clamp(std::nearbyint(-trial_.minimum[g] / s), 0.0f, top_);
    }
  }

  void measure(GroupFit& fit) {
    group_moments(w_, h_, cols_, group_, fit.scale.data(), fit.minimum.data(), top_, fit.moments.data());
    for (size_t g = 0; g < groups_; ++g) fit.error[g] = fit.moments[g].error;
  }

  // True when some group got better.
  bool evaluate_trial() {
    measure(trial_);
    bool better = false;
    for (size_t g = 0; g < groups_; ++g)
      if (trial_.error[g] < best_.error[g]) {
        best_.copy_group(trial_, g);
        better = true;
      }
    return better;
  }

  // Weighted least squares of the free parameters with the codes of trial_, then new codes; repeated.
  void refine_trial(int64_t rounds) {
    for (int64_t round = 0; round < rounds; ++round) {
      for (size_t g = 0; g < groups_; ++g) least_squares(g, trial_, trial_.scale[g], trial_.minimum[g]);
      if (!evaluate_trial()) break;
    }
  }

  // w ~ s q + m over the group: the normal equations in h-weighted sums; w ~ s (q - z) where z is fixed.
  void least_squares(size_t g, const GroupFit& from, float& scale, float& minimum) const {
    const double h = sums_[g].h, hw = sums_[g].hw;
    const GroupMoments& sum = from.moments[g];
    if (freedom_.kind == AffineFreedom::Kind::minimum) {
      const double determinant = h * sum.hqq - static_cast<double>(sum.hq) * sum.hq;
      if (!(determinant > 1e-9 * h * sum.hqq)) return;  // all codes equal: any scale fits
      const double s = (h * sum.hqw - sum.hq * hw) / determinant;
      if (!(s > 0) && !freedom_.negative_scale) return;
      scale = static_cast<float>(s);
      minimum = static_cast<float>((hw - s * sum.hq) / h);
      return;
    }
    if (from.scale[g] == 0) return;
    const double z = freedom_.kind == AffineFreedom::Kind::symmetric ? centre_ : -from.minimum[g] / from.scale[g];
    const double square = sum.hqq - 2 * z * sum.hq + z * z * h;
    const double s = square > 0 ? (sum.hqw - z * hw) / square : 0.0;
    if (!(s > 0) && !freedom_.negative_scale) return;
    scale = static_cast<float>(s);
    minimum = static_cast<float>(-z * s);
  }

  void round(GroupFit& fit) {
    rounded_.scale = fit.scale;
    rounded_.minimum = fit.minimum;
    format_.round_parameters({1, cols_}, rounded_);
    fit.scale = rounded_.scale;
    fit.minimum = rounded_.minimum;
  }

  void round_best() {
    round(best_);
    measure(best_);
  }

  // Moves stored parameters to storable neighbours where that lowers the error: the minimum that fits best to the scale
  // as it was rounded, the scales next to it (with the minimum that fits best to them), the zero points next to it.
  bool refit_rounded() {
    bool better = false;
    if (freedom_.kind == AffineFreedom::Kind::minimum) {
      better |= try_rounded([&](size_t g, float&, float& m) { m = fitted_minimum(g, best_.scale[g]); });
    } else if (freedom_.kind == AffineFreedom::Kind::zero_point) {
      for (const float shift : {-1.0f, 1.0f})
        better |= try_rounded([&](size_t, float& s, float& m) { m += shift * s; });
      better |= try_rounded([&](size_t g, float& s, float& m) { least_squares(g, best_, s, m); });
    }
    if (freedom_.scale_step > 0) {
      float largest = 0;
      for (const float s : best_.scale) largest = std::max(largest, std::fabs(s));
      for (const float direction : {1.0f, -1.0f})
        better |= try_rounded([&](size_t g, float& s, float& m) {
          // The largest scale of the row is the unit of all the others: it stays.
          if (std::fabs(s) == largest) return;
          const float z = s == 0 ? 0.0f : -m / s;
          s = std::clamp(s + direction * freedom_.scale_step * largest, -largest, largest);
          m = freedom_.kind == AffineFreedom::Kind::minimum ? fitted_minimum(g, s) : -z * s;
        });
    }
    return better;
  }

  float fitted_minimum(size_t g, float scale) const {
    const double h = sums_[g].h;
    return h > 0 ? static_cast<float>((sums_[g].hw - static_cast<double>(scale) * best_.moments[g].hq) / h)
                 : best_.minimum[g];
  }

  // `wish` changes the parameters of a group. The groups for which the rounded wish is better are taken together if the
  // row is better after rounding them together (a row's super-scales tie its groups).
  template <class Wish>
  bool try_rounded(const Wish& wish) {
    trial_.scale = best_.scale;
    trial_.minimum = best_.minimum;
    for (size_t g = 0; g < groups_; ++g) wish(g, trial_.scale[g], trial_.minimum[g]);
    round(trial_);
    measure(trial_);
    merged_ = best_;
    bool taken = false;
    double before = 0;
    for (size_t g = 0; g < groups_; ++g) {
      before += best_.error[g];
      if (trial_.error[g] < best_.error[g]) {
        merged_.copy_group(trial_, g);
        taken = true;
      }
    }
    if (!taken) return false;
    round(merged_);
    measure(merged_);
    double after = 0;
    for (const float error : merged_.error) after += error;
    if (!(after < before)) return false;
    std::swap(best_, merged_);
    return true;
  }

  const AffineFormat& format_;
  const AffineFreedom& freedom_;
  const AffineFitOptions& options_;
  const uint64_t cols_, group_;
  const size_t groups_;
  const float top_, centre_;
  double least_factor_;
  const float* w_ = nullptr;
  const float* h_ = nullptr;
  std::vector<GroupSums> sums_;
  GroupFit best_, trial_, merged_;
  AffineParameters rounded_;
};

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
