#include "methods/math/gram_factor.h"

#include <algorithm>
#include <numeric>

namespace whit {

GramFactor factorize_gram(const Matrix& gram, double damp_ratio, bool act_order, const std::string& unit) {
  const size_t n = gram.rows;
  GramFactor factor;
  factor.order.resize(n);
  std::iota(factor.order.begin(), factor.order.end(), size_t{0});
  double mean = 0;
  for (size_t j = 0; j < n; ++j) mean += gram.row(j)[j] / static_cast<double>(n);
  if (act_order)
    std::stable_sort(factor.order.begin(), factor.order.end(),
                     [&](size_t a, size_t b) { return gram.row(a)[a] > gram.row(b)[b]; });
  Matrix h(n, n);
  for (size_t i = 0; i < n; ++i) {
    const float* from = gram.row(factor.order[i]);
    float* to = h.row(i);
    for (size_t j = 0; j < n; ++j) to[j] = from[factor.order[j]];
  }
  // An input that never fired has a zero row and column: any positive pivot leaves it out of everybody's way.
  for (size_t i = 0; i < n; ++i)
    if (h.row(i)[i] == 0) h.row(i)[i] = static_cast<float>(mean > 0 ? mean : 1.0);
  const double unit_damp = mean > 0 ? mean : 1.0;
  for (double ratio = damp_ratio; ratio <= 1e3; ratio = ratio == 0 ? 1e-6 : ratio * 10) {
    factor.damp_ratio = ratio;
    if (inverse_cholesky_upper(h, ratio * unit_damp, factor.upper)) return factor;
  }
  throw Error(ErrorKind::numeric, "the gram matrix of the inputs cannot be factorized at any damping", unit, "",
              "calibrate on more text");
}

}  // namespace whit
