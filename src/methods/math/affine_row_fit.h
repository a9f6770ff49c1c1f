// Fits scale and minimum of all groups of one row; owns its scratch memory, one fitter per worker.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

#include "methods/math/affine_fit.h"
#include "methods/math/affine_freedom.h"
#include "methods/math/affine_kernels.h"

namespace whit {

class RowFitter {
 public:
  RowFitter(const AffineFormat& format, const AffineFreedom& freedom, const AffineFitOptions& options, uint64_t cols);
  // Column scales that the row's weights were already divided by, so that rounding sees them.
  void set_columns(const std::vector<float>& column) { rounded_.column = column; }
  // w, h: [cols]; the source's parameters per group of the format, or null; writes storable ones.
  void fit(const float* w, const float* h, const float* source_scale, const float* source_minimum, float* scale,
           float* minimum);

 private:
  struct GroupFit {
    std::vector<float> scale, minimum, error;
    std::vector<GroupMoments> moments;
    void resize(size_t groups);
    void copy_group(const GroupFit& from, size_t g);
  };

  void start_range(float factor, bool negative);
  void fix_minimum();
  void measure(GroupFit& fit) const;
  bool evaluate_trial();
  void refine_trial(int64_t rounds);
  void least_squares(size_t g, const GroupFit& from, float& scale, float& minimum) const;
  void round(GroupFit& fit);
  bool refit_rounded();
  float fitted_minimum(size_t g, float scale) const;
  template <class Wish>
  bool try_rounded(const Wish& wish);

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

}  // namespace whit
