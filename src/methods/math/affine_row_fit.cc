#include "methods/math/affine_row_fit.h"

#include <algorithm>
#include <cmath>
#include <limits>

#include "base/checked.h"

namespace whit {

void RowFitter::GroupFit::resize(size_t groups) {
  scale.resize(groups);
  minimum.resize(groups);
  error.resize(groups);
  moments.resize(groups);
}

void RowFitter::GroupFit::copy_group(const GroupFit& from, size_t g) {
  scale[g] = from.scale[g];
  minimum[g] = from.minimum[g];
  error[g] = from.error[g];
  moments[g] = from.moments[g];
}

RowFitter::RowFitter(const AffineFormat& format, const AffineFreedom& freedom, const AffineFitOptions& options,
                     uint64_t cols)
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

void RowFitter::fit(const float* w, const float* h, const float* source_scale, const float* source_minimum,
                    float* scale, float* minimum) {
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
  round(best_);
  measure(best_);
  // Among exact fits the source's is the one that was storable once already.
  if (source_scale)
    try_rounded([&](size_t g, float& s, float& m) {
      s = source_scale[g];
      m = source_minimum[g];
    });
  if (refine)
    for (int64_t round = 0; round < options_.rounds; ++round)
      if (!refit_rounded()) break;
  std::copy(best_.scale.begin(), best_.scale.end(), scale);
  std::copy(best_.minimum.begin(), best_.minimum.end(), minimum);
}

void RowFitter::start_range(float factor, bool negative) {
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
void RowFitter::fix_minimum() {
  for (size_t g = 0; g < groups_; ++g) {
    const float s = trial_.scale[g];
    if (freedom_.kind == AffineFreedom::Kind::symmetric) trial_.minimum[g] = -centre_ * s;
    if (freedom_.kind == AffineFreedom::Kind::zero_point)
      trial_.minimum[g] = s == 0 ? 0.0f : -s * std::clamp(std::nearbyint(-trial_.minimum[g] / s), 0.0f, top_);
  }
}

void RowFitter::measure(GroupFit& fit) const {
  group_moments(w_, h_, cols_, group_, fit.scale.data(), fit.minimum.data(), top_, fit.moments.data());
  for (size_t g = 0; g < groups_; ++g) fit.error[g] = fit.moments[g].error;
}

// True when some group got better.
bool RowFitter::evaluate_trial() {
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
void RowFitter::refine_trial(int64_t rounds) {
  for (int64_t round = 0; round < rounds; ++round) {
    for (size_t g = 0; g < groups_; ++g) least_squares(g, trial_, trial_.scale[g], trial_.minimum[g]);
    if (!evaluate_trial()) break;
  }
}

// w ~ s q + m over the group: the normal equations in h-weighted sums; w ~ s (q - z) where z is fixed.
void RowFitter::least_squares(size_t g, const GroupFit& from, float& scale, float& minimum) const {
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

void RowFitter::round(GroupFit& fit) {
  rounded_.scale = fit.scale;
  rounded_.minimum = fit.minimum;
  format_.round_parameters({1, cols_}, rounded_);
  fit.scale = rounded_.scale;
  fit.minimum = rounded_.minimum;
}

// Moves stored parameters to storable neighbours where that lowers the error: the minimum that fits best to the scale
// as it was rounded, the scales next to it (with the minimum that fits best to them), the zero points next to it.
bool RowFitter::refit_rounded() {
  bool better = false;
  if (freedom_.kind == AffineFreedom::Kind::minimum) {
    better |= try_rounded([&](size_t g, float&, float& m) { m = fitted_minimum(g, best_.scale[g]); });
  } else if (freedom_.kind == AffineFreedom::Kind::zero_point) {
    for (const float shift : {-1.0f, 1.0f}) better |= try_rounded([&](size_t, float& s, float& m) { m += shift * s; });
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

float RowFitter::fitted_minimum(size_t g, float scale) const {
  const double h = sums_[g].h;
  return h > 0 ? static_cast<float>((sums_[g].hw - static_cast<double>(scale) * best_.moments[g].hq) / h)
               : best_.minimum[g];
}

// `wish` changes the parameters of a group. The groups for which the rounded wish is better are taken together if the
// row is better after rounding them together (a row's super-scales tie its groups).
template <class Wish>
bool RowFitter::try_rounded(const Wish& wish) {
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

}  // namespace whit
