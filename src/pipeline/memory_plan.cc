#include "pipeline/memory_plan.h"

#include <algorithm>
#include <numeric>
#include <vector>

#include "base/memory.h"
#include "model/torch/device.h"
#include "model/torch/executor.h"
#include "pipeline/walker.h"

namespace whit {
namespace {

// Drawing windows: the default text of 4 MB, its token ids, the tokenizer; measured on a model too small to matter
// otherwise.
constexpr uint64_t kTextBytes = uint64_t{30} << 20;

uint64_t dense_bytes(const UnitPlan& unit) { return unit.unit.rows * unit.unit.cols * sizeof(float); }

// Rounding one unit: its weights, the source's bytes while they are read, what the method holds, the result twice
// (packed, and as the journal's entry).
uint64_t rounding_bytes(const UnitPlan& unit) {
  const Shape shape{unit.unit.rows, unit.unit.cols};
  if (unit.copied) return 2 * unit.bytes;
  uint64_t scratch = make_quantizer(unit.method, unit.options)->scratch_bytes(shape, *unit.format);
  for (const UnitStep& step : unit.before)
    if (step.stage == Stage::prune)
      scratch = std::max(scratch, make_pruner(step.method, step.options)->scratch_bytes(shape));
    else if (step.stage == Stage::importance)
      scratch = std::max(scratch, make_importance(step.method, step.options)->scratch_bytes(shape));
    else if (step.stage == Stage::transform)
      scratch = std::max(scratch, make_transform(step.method, step.options)->scratch_bytes(shape));
  // Scores and mask are held until the unit is packed.
  return dense_bytes(unit) + scratch + 2 * unit.bytes + (unit.before.empty() ? 0 : 5 * shape.count());
}

}  // namespace

uint64_t predicted_peak(const Model& model, const Plan& plan, const CalibrateOptions& calibrate, uint64_t baseline,
                        bool measures) {
  const ModelSpec& spec = model.spec;
  const auto tokens = static_cast<uint64_t>(calibrate.tokens), context = static_cast<uint64_t>(calibrate.context);
  const uint64_t row = spec.width * sizeof(float);
  // On a card units are rounded side by side, and are held together here before and after.
  const bool side_by_side = learning_device() != "cpu";
  std::vector<uint64_t> held;
  uint64_t block_unit = 0, block = 0, block_grams = 0, ends = 0, largest_end = 0;
  for (const UnitPlan& unit : plan.units) {
    if (unit.unit.block < 0) {
      ends = std::max(ends, rounding_bytes(unit));
      largest_end = std::max(largest_end, dense_bytes(unit));
    } else {
      block_unit = std::max(block_unit, rounding_bytes(unit));
      if (side_by_side && !unit.copied) held.push_back(dense_bytes(unit) + 2 * unit.bytes);
    }
    if (unit.unit.block == 0) {
      block += dense_bytes(unit);
      block_grams += unit.unit.cols * unit.unit.cols * sizeof(float);
    }
  }
  if (held.size() > 1) {
    std::sort(held.rbegin(), held.rend());
    block_unit += std::accumulate(
        held.begin() + 1, held.begin() + static_cast<ptrdiff_t>(std::min(held.size(), kSideBySide)), uint64_t{0});
  }
  uint64_t peak = std::max(ends, block_unit);
  if (plan.needs_statistics()) {
    peak = std::max(peak, kTextBytes);
    peak = std::max(peak,
                    block + block_grams + 2 * tokens * row + std::max(block_unit, block_scratch_bytes(spec, context)));
  }
  if (measures) {
    const uint64_t probe = probe_tokens(context);
    // Forward and backward: the inputs of all blocks. Then per block: calibration, held-out and one stream per kind.
    peak = std::max(peak, (spec.layers + 3) * probe * row + 3 * block + 4 * block_scratch_bytes(spec, context));
    peak = std::max(peak, 2 * block + 2 * block_grams + (tokens + 6 * probe) * row + block_unit);
    peak = std::max(peak, 2 * largest_end + largest_end / 2 + (tokens + 6 * probe) * row);
  }
  return baseline + peak;
}

void note_promise(Progress& progress, uint64_t promised) {
  note_if_too_large(progress, "this takes up to", promised,
                    "the system may end it; what is done by then is kept, and the same command goes on");
}

}  // namespace whit
