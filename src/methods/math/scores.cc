#include "methods/math/scores.h"

#include <cmath>

#include "methods/math/unit_state.h"

namespace whit {

std::vector<float> input_norms(const TensorState& state, const char* method) {
  if (!state.statistics || state.statistics->tokens == 0)
    throw Error(ErrorKind::usage, std::string(method) + " needs statistics of the unit's inputs and there are none",
                state.unit.name, "", "calibrate first, or magnitude");
  const Matrix& gram = state.statistics->gram;
  std::vector<float> norms(gram.rows);
  for (size_t j = 0; j < gram.rows; ++j) norms[j] = std::sqrt(gram.row(j)[j]);
  return norms;
}

Matrix relative_magnitude(const TensorState& state, ThreadPool& pool) {
  const Matrix& w = state.weights;
  Matrix mu(w.rows, w.cols);
  for_each_member(state, [&](size_t first, size_t last) {
    std::vector<double> column(w.cols, 0.0);
    pool.parallel_for(w.cols, 16, [&](size_t begin, size_t end, int) {
      for (size_t i = first; i < last; ++i)
        for (size_t j = begin; j < end; ++j) column[j] += std::fabs(w.row(i)[j]);
    });
    pool.parallel_for(last - first, 16, [&](size_t begin, size_t end, int) {
      for (size_t i = first + begin; i < first + end; ++i) {
        double row = 0;
        for (size_t j = 0; j < w.cols; ++j) row += std::fabs(w.row(i)[j]);
        for (size_t j = 0; j < w.cols; ++j) {
          const double magnitude = std::fabs(w.row(i)[j]);
          mu.row(i)[j] = magnitude == 0 ? 0.0f : static_cast<float>(magnitude / row + magnitude / column[j]);
        }
      }
    });
  });
  return mu;
}

}  // namespace whit
