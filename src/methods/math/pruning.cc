#include "methods/math/pruning.h"

#include <algorithm>
#include <cmath>
#include <numeric>

namespace whit {

std::vector<uint8_t> dead_inputs(const TensorState& state) {
  std::vector<uint8_t> dead(state.weights.cols, 0);
  if (!state.statistics || state.statistics->tokens == 0) return dead;
  const Matrix& gram = state.statistics->gram;
  for (size_t j = 0; j < dead.size(); ++j) dead[j] = gram.row(j)[j] == 0;
  return dead;
}

void check_scores(const TensorState& state, const char* method) {
  if (state.scores.data.empty() && !state.weights.data.empty())
    throw Error(ErrorKind::usage, std::string(method) + " prunes by scores and there are none", state.unit.name, "",
                "put an importance step (magnitude, wanda, ria, ...) before");
  WHIT_CHECK(state.scores.rows == state.weights.rows && state.scores.cols == state.weights.cols);
  for (const float score : state.scores.data)
    if (!std::isfinite(score))
      throw Error(ErrorKind::numeric, "a score is NaN or infinity", state.unit.name, std::to_string(score),
                  "weights or activations are too large for the score");
}

void require_resolved(const LayerwiseOptions& options, const TensorState& state) {
  if (options.layerwise == "uniform") return;
  throw Error(ErrorKind::usage, "how much this unit keeps depends on the whole model, which is not at hand here",
              state.unit.name, "layerwise " + options.layerwise, "layerwise = \"uniform\"");
}

void pruning_order(const float* scores, const uint8_t* dead, unsigned size, unsigned* order) noexcept {
  // The place of each by counting those before it: groups are small.
  for (unsigned k = 0; k < size; ++k) {
    unsigned before = 0;
    for (unsigned other = 0; other < size; ++other) {
      if (dead[other] != dead[k])
        before += dead[other];
      else
        before += scores[other] < scores[k] || (scores[other] == scores[k] && other < k);
    }
    order[before] = k;
  }
}

void select_group(const float* scores, const uint8_t* dead, unsigned size, unsigned kept, uint8_t* mask) noexcept {
  unsigned order[kEnumerativeMost];
  pruning_order(scores, dead, size, order);
  for (unsigned k = 0; k < size; ++k) mask[order[k]] = k >= size - kept;
}

uint64_t pruned_count(double sparsity, uint64_t count) noexcept {
  const double wanted = std::floor(sparsity * static_cast<double>(count) * (1 + 1e-12));
  return std::min(count, static_cast<uint64_t>(std::max(wanted, 0.0)));
}

void select_part(const Matrix& scores, const std::vector<uint8_t>& dead, const Part& part, uint64_t count,
                 std::vector<uint8_t>& mask) {
  const size_t cols = scores.cols, width = part.col_end - part.col_begin;
  std::vector<uint32_t> order((part.row_end - part.row_begin) * width);
  WHIT_CHECK(count <= order.size() && order.size() <= UINT32_MAX);
  std::iota(order.begin(), order.end(), 0u);
  const auto at = [&](uint32_t k) { return (part.row_begin + k / width) * cols + part.col_begin + k % width; };
  const auto first = [&](uint32_t a, uint32_t b) {
    const size_t i = at(a), j = at(b);
    if (dead[i % cols] != dead[j % cols]) return dead[i % cols] != 0;
    return scores.data[i] < scores.data[j] || (scores.data[i] == scores.data[j] && a < b);
  };
  std::nth_element(order.begin(), order.begin() + static_cast<ptrdiff_t>(count), order.end(), first);
  for (size_t k = 0; k < order.size(); ++k) mask[at(order[k])] = k >= count;
}

void apply_mask(TensorState& state) {
  for (size_t k = 0; k < state.mask.size(); ++k)
    if (!state.mask[k]) state.weights.data[k] = 0.0f;
}

}  // namespace whit
