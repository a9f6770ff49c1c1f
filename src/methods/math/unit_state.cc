#include "methods/math/unit_state.h"

#include <algorithm>
#include <cmath>

#include "base/checked.h"

namespace whit {
namespace {

bool all_finite(const std::vector<float>& values) {
  // A sum of zeros: NaN and infinity times zero are NaN. Vectorizes, unlike a test with an early exit.
  float sum = 0;
  for (const float value : values) sum += value * 0.0f;
  return sum == 0.0f;
}

}  // namespace

void check_unit(const TensorState& state) {
  if (!state.plan) throw Error(ErrorKind::usage, "a unit has no format to be stored in", state.unit.name);
  check_weights(state);
}

void check_weights(const TensorState& state) {
  const std::string& name = state.unit.name;
  WHIT_CHECK(state.mask.empty() || state.mask.size() == state.weights.data.size());
  if (!all_finite(state.weights.data))
    throw Error(ErrorKind::numeric, "weights hold NaN or infinity", name, "", "the model file is damaged or diverged");
  if (!state.statistics || state.statistics->tokens == 0) return;
  const Matrix& gram = state.statistics->gram;
  WHIT_CHECK(gram.rows == state.weights.cols && gram.cols == gram.rows);
  if (!all_finite(gram.data))
    throw Error(ErrorKind::numeric, "the gram matrix of the inputs holds NaN or infinity", name, "",
                "activations overflowed on the calibration text; measure them again");
  for (size_t j = 0; j < gram.rows; ++j)
    if (gram.row(j)[j] < 0)
      throw Error(ErrorKind::numeric, "the gram matrix of the inputs has a negative diagonal", name,
                  std::to_string(gram.row(j)[j]));
}

std::vector<float> input_importance(const TensorState& state, double damping) {
  if (!state.statistics || state.statistics->tokens == 0) return {};
  const Matrix& gram = state.statistics->gram;
  std::vector<float> importance(gram.rows);
  double mean = 0;
  for (size_t j = 0; j < gram.rows; ++j) mean += gram.row(j)[j] / static_cast<double>(gram.rows);
  if (mean == 0) return {};
  for (size_t j = 0; j < gram.rows; ++j) importance[j] = static_cast<float>(gram.row(j)[j] + damping * mean);
  return importance;
}

std::vector<float> input_importance(const TensorState& state, std::string_view asked, std::string_view method,
                                    double damping) {
  if (asked == "activations" && (!state.statistics || state.statistics->tokens == 0))
    throw Error(ErrorKind::usage,
                std::string(method) + " was asked to weigh errors by activations, but there are no statistics",
                state.unit.name, "importance = \"activations\"", "calibrate first, or importance = \"auto\"");
  return asked == "uniform" ? std::vector<float>() : input_importance(state, damping);
}

AffineFitInput fit_input(const TensorState& state, const AffineFormat& format, std::span<const float> importance) {
  return {format,
          Shape{state.weights.rows, state.weights.cols},
          state.weights.data.data(),
          importance,
          state.mask.empty() ? nullptr : state.mask.data(),
          state.source_grid ? &*state.source_grid : nullptr,
          state.source_group};
}

void require_pattern(const TensorState& state, NmPattern pattern) {
  const uint64_t cols = state.weights.cols, groups = div_up(cols, pattern.m);
  const std::string wanted = std::to_string(pattern.n) + ":" + std::to_string(pattern.m);
  if (state.mask.empty())
    throw Error(ErrorKind::usage, "the format stores " + wanted + " sparse matrices, and the unit is not pruned",
                state.unit.name, "", "put a prune step with the same n and m before");
  for (size_t i = 0; i < state.weights.rows; ++i)
    if (const uint64_t g = first_other_group(pattern, state.mask.data() + i * cols, cols); g < groups)
      throw Error(ErrorKind::usage, "the format stores " + wanted + " sparse matrices, and the mask is another",
                  state.unit.name, "row " + std::to_string(i) + ", group " + std::to_string(g),
                  "give the prune step the n and m of the format");
}

void require_exact_zero(const TensorState& state, const AffineFormat& format, const AffineParameters& parameters) {
  if (const auto pattern = format.pattern()) return require_pattern(state, *pattern);
  if (state.mask.empty()) return;
  const uint64_t cols = state.weights.cols, group = format.group(cols), groups = parameters.groups_per_row;
  for (size_t i = 0; i < state.weights.rows; ++i)
    for (uint64_t g = 0; g < groups; ++g) {
      const uint8_t* mask = state.mask.data() + i * cols;
      const uint64_t end = std::min((g + 1) * group, cols);
      const bool masked = std::find(mask + g * group, mask + end, uint8_t{0}) != mask + end;
      if (masked &&
          zero_code(parameters.scale[i * groups + g], parameters.minimum[i * groups + g], format.levels()) < 0)
        throw Error(ErrorKind::usage, "the unit is pruned, but its format cannot store zero exactly", state.unit.name,
                    format.label(), "a grid with zero = \"integer\", or q4_0");
    }
}

namespace {

// fill(begin, count, out): rows [begin, begin + count) of what became of the weights `before`.
template <class Fill>
StageReport measure(const TensorState& state, const Matrix& before, const Fill& fill) {
  const bool weighted = state.statistics && state.statistics->tokens > 0;
  constexpr size_t kRows = 512;  // 3 MB of scratch at 1536 inputs
  std::vector<float> difference(std::min(kRows, before.rows) * before.cols);
  std::vector<double> forms(kRows);
  double loss = 0, whole = 0;
  const auto add = [&](MatrixView view, double& sum) {
    if (!weighted) {
      for (size_t i = 0; i < view.rows * view.cols; ++i) sum += static_cast<double>(view.data[i]) * view.data[i];
      return;
    }
    const std::span<double> out(forms.data(), view.rows);
    quadratic_forms(view, state.statistics->gram, out);
    for (const double form : out) sum += form;
  };
  for (size_t begin = 0; begin < before.rows; begin += kRows) {
    const size_t count = std::min(kRows, before.rows - begin);
    fill(begin, count, difference.data());
    const float* original = before.row(begin);
    for (size_t k = 0; k < count * before.cols; ++k) difference[k] -= original[k];
    add({difference.data(), count, before.cols, before.cols}, loss);
    add({original, count, before.cols, before.cols}, whole);
  }
  StageReport report;
  report.loss = std::max(loss, 0.0);
  report.relative_loss = whole > 0 ? report.loss / whole : 0.0;
  return report;
}

}  // namespace

StageReport measure_loss(const TensorState& state) {
  const Packed& packed = *state.packed;
  const auto parts = packed.views();
  return measure(state, state.weights, [&](size_t begin, size_t count, float* out) {
    packed.format->unpack(packed.shape, parts, begin, count, out);
  });
}

StageReport measure_change(const TensorState& state, const Matrix& before) {
  return measure(state, before, [&](size_t begin, size_t count, float* out) {
    std::copy_n(state.weights.row(begin), count * state.weights.cols, out);
  });
}

}  // namespace whit
