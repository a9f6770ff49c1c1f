#include "methods/math/binary_blocks.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <numeric>

#include "base/checked.h"
#include "methods/math/gram_factor.h"
#include "methods/math/unit_state.h"

namespace whit {
namespace {

// The mask that the format stores: the unit's where it has a pattern, else none. Both must say the same.
std::vector<uint8_t> stored_mask_of(const TensorState& state, const BinaryGroupsFormat& format,
                                    const BinaryOptions& options) {
  const auto pattern = format.pattern();
  const bool pruned = std::find(state.mask.begin(), state.mask.end(), uint8_t{0}) != state.mask.end();
  const std::string& unit = state.unit.name;
  if (options.zeros == "as_released") {
    if (pattern)
      throw Error(ErrorKind::usage, "no zeros are left as released, so the format has no mask", unit, format.label(),
                  "leave out n and m, or zeros = \"masked\"");
    return {};
  }
  if (!pattern) {
    if (pruned)
      throw Error(ErrorKind::usage, "the unit is pruned, but its format has no mask", unit, format.label(),
                  "n and m of the mask, or zeros = \"as_released\"");
    return {};
  }
  require_pattern(state, *pattern);
  return state.mask;
}

// What the searches look at, see BinaryOptions::search.
Matrix search_values(MatrixView weights, std::span<const float> pivot, const std::string& search) {
  Matrix values(weights.rows, weights.cols);
  for (size_t i = 0; i < weights.rows; ++i)
    for (size_t k = 0; k < weights.cols; ++k) {
      const float w = weights.data[i * weights.stride + k], scaled = w / pivot[k];
      values.row(i)[k] = search == "weights" ? w : search == "scaled" ? scaled : scaled * scaled;
    }
  return values;
}

// Columns by the sum of their saliency, the most salient first.
std::vector<size_t> salient_order(const KeptMatrix& weights, std::span<const float> pivot) {
  const size_t count = weights.values.cols;
  std::vector<double> saliency(count, 0.0);
  for (size_t i = 0; i < weights.values.rows; ++i)
    for (size_t k = 0; k < count; ++k) {
      const double scaled = weights.values.data[i * weights.values.stride + k] / pivot[k];
      if (weights.kept(i, k)) saliency[k] += scaled * scaled;
    }
  std::vector<size_t> order(count);
  std::iota(order.begin(), order.end(), size_t{0});
  std::stable_sort(order.begin(), order.end(), [&](size_t a, size_t b) { return saliency[a] > saliency[b]; });
  return order;
}

// Sets groups.salient and groups.region of the block.
void divide(const BinaryBlock& block, std::span<const float> pivot, const BinaryOptions& options,
            const BinaryGroupsFormat& format, BinaryGroups& groups, ThreadPool& pool) {
  const KeptMatrix& weights = block.weights;
  const size_t rows = weights.values.rows, count = weights.values.cols;
  const BinaryGroupsOptions& stored = format.binary_options();
  const Matrix values = search_values(weights.values, pivot, options.search);
  const KeptMatrix searched{values, weights.keep, weights.keep_stride};
  size_t most = static_cast<size_t>(options.salient_limit);
  if (stored.residual > 0) most = std::min(most, static_cast<size_t>(stored.residual));
  if (!format.layout(groups.shape.cols).salient) most = 0;
  const std::vector<size_t> order = salient_order(weights, pivot);
  const size_t salient = search_salient_count(searched, order, most, stored.means, pool);
  for (size_t k = 0; k < salient; ++k) groups.salient[block.begin + order[k]] = 1;
  const std::span<const uint8_t> marked(groups.salient.data() + block.begin, count);
  const Split split = search_split(searched, marked, stored.regions, stored.means, pool);
  for (size_t i = 0; i < rows; ++i)
    for (size_t k = 0; k < count; ++k)
      if (weights.kept(i, k) && (!marked[k] || stored.residual > 0))
        groups.region[i * groups.shape.cols + block.begin + k] = static_cast<uint8_t>(split.region(values.row(i)[k]));
}

}  // namespace

SignPair nearest_signs(float t, float a1, float a2) noexcept {
  // The larger scale decides first: the levels of its two signs then do not interleave.
  const float first = std::fabs(a1), second = std::fabs(a2);
  const bool large = t >= 0;
  const bool small = (large ? t - std::max(first, second) : t + std::max(first, second)) >= 0;
  const SignPair up = first >= second ? SignPair{large, small} : SignPair{small, large};
  return {up.first != (a1 < 0), up.second != (a2 < 0)};
}

void fit_group_means(const BinaryBlock& block, const BinaryGroupsFormat& format, BinaryGroups& groups,
                     ThreadPool& pool) {
  const KeptMatrix& weights = block.weights;
  const size_t count = weights.values.cols, cols = groups.shape.cols;
  const BinaryLayout at = format.layout(cols);
  const BinaryGroupsOptions& options = format.binary_options();
  pool.parallel_for(weights.values.rows, 1, [&](size_t begin, size_t end, int) {
    std::vector<std::vector<float>> zone(2 * at.scale_slots);  // by first slot: which names region and salience
    for (size_t i = begin; i < end; ++i) {
      const float* w = weights.values.data + i * weights.values.stride;
      const size_t row = i * cols + block.begin, parameters = i * at.blocks + block.index;
      const auto slots = [&](size_t k) {
        return format.slots(groups.salient[block.begin + k] != 0, groups.region[row + k]);
      };
      for (auto& values : zone) values.clear();
      for (size_t k = 0; k < count; ++k)
        if (weights.kept(i, k)) zone[static_cast<size_t>(slots(k).first)].push_back(w[k]);
      float* scale = groups.scale.data() + parameters * at.scale_slots;
      float* mean = groups.mean.data() + parameters * at.mean_slots;
      const auto fit = [&](bool salient, int region) {
        const BinarySlots slot = format.slots(salient, region);
        const Binarized fitted = binarize(zone[static_cast<size_t>(slot.first)], salient ? 2 : 1, options.means);
        scale[slot.first] = BinaryGroupsFormat::rounded(static_cast<float>(fitted.scale[0]));
        if (salient) scale[slot.second] = BinaryGroupsFormat::rounded(static_cast<float>(fitted.scale[1]));
        if (options.means) mean[slot.mean] = BinaryGroupsFormat::rounded(static_cast<float>(fitted.mean));
      };
      for (int region = 0; region < options.regions; ++region) {
        fit(false, region);
        if (at.salient && (region == 0 || options.residual > 0)) fit(true, region);
      }
      for (size_t k = 0; k < count; ++k) {
        if (!weights.kept(i, k)) continue;
        const BinarySlots slot = slots(k);
        const float t = options.means ? w[k] - mean[slot.mean] : w[k];
        const SignPair signs = nearest_signs(t, scale[slot.first], slot.second < 0 ? 0.0f : scale[slot.second]);
        groups.sign[row + k] = signs.first;
        if (slot.second >= 0) groups.second[row + k] = signs.second;
      }
    }
  });
}

StageReport BinaryQuantizer::quantize(TensorState& state, const MethodContext& context) const {
  check_unit(state);
  const size_t rows = state.weights.rows, cols = state.weights.cols;
  const Shape shape{rows, cols};
  if (!accepts(*state.plan))
    throw Error(ErrorKind::usage, name_ + " stores signs with scales per group; this format does not", state.unit.name,
                state.plan->label(), "binary_groups with " + wanted_);
  const auto format = as_binary_groups(state.plan);
  format->check_shape(shape, state.unit.name);
  if (!state.statistics || state.statistics->tokens == 0)
    throw Error(ErrorKind::usage, name_ + " needs statistics of the unit's inputs and there are none", state.unit.name,
                "", "calibrate first");
  BinaryGroups groups = format->empty(shape);
  groups.mask = stored_mask_of(state, *format, options_);
  const uint8_t* keep = groups.mask.empty() ? nullptr : groups.mask.data();
  const GramFactor factor =
      factorize_gram(state.statistics->gram, options_.damp_ratio, /*act_order=*/false, state.unit.name);

  const BinaryLayout at = format->layout(cols);
  Matrix work = state.weights, error(rows, at.block);
  for (size_t b = 0; b < at.blocks; ++b) {
    const size_t begin = b * at.block, count = std::min<size_t>(at.block, cols - begin), later = begin + count;
    std::vector<float> pivot(count);
    for (size_t k = 0; k < count; ++k) pivot[k] = factor.upper.row(begin + k)[begin + k];
    const BinaryBlock block{
        b, begin, {{work.data.data() + begin, rows, count, cols}, keep ? keep + begin : nullptr, cols}};
    divide(block, pivot, options_, *format, groups, context.pool);
    fit(block, *format, groups, context.pool);
    if (!options_.feedback || later == cols) continue;
    context.pool.parallel_for(rows, 1, [&](size_t first, size_t last, int) {
      for (size_t i = first; i < last; ++i)
        for (size_t k = 0; k < count; ++k)
          error.row(i)[k] = (work.row(i)[begin + k] - format->value(groups, at, i, begin + k)) / pivot[k];
    });
    multiply_add(-1.0f, {error.data.data(), rows, count, error.cols},
                 {factor.upper.row(begin) + later, count, cols - later, cols}, false, work.data.data() + later, cols);
    for (size_t k = 0; keep && k < work.data.size(); ++k)
      if (!keep[k]) work.data[k] = 0;
  }
  state.packed = format->pack(groups);
  StageReport report = measure_loss(state);
  if (!std::isfinite(report.loss))
    throw Error(ErrorKind::numeric, "the unit's error is not a finite number", state.unit.name);
  report.damp_ratio = factor.damp_ratio;
  return report;
}

uint64_t BinaryQuantizer::scratch_bytes(Shape shape, const Format& format) const {
  const auto* binary = dynamic_cast<const BinaryGroupsFormat*>(&format);
  const uint64_t block = binary ? binary->layout(shape.cols).block : 0;
  // The moving copy of the weights; signs, second signs, regions, mask; of a block errors, values and magnitudes; the
  // errors of 160 splits; scales and means; the factorization.
  return shape.count() * (sizeof(float) + 4) + shape.rows * (3 * block * sizeof(float) + 160 * sizeof(double)) +
         2 * format.bytes(shape) + gram_factor_bytes(shape.cols);
}

}  // namespace whit
