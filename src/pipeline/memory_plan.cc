#include "pipeline/memory_plan.h"

#include <algorithm>

#include "model/torch/executor.h"

namespace whit {

uint64_t predicted_peak(const Model& model, const Plan& plan, const CalibrateOptions& calibrate, uint64_t baseline,
                        bool measures) {
  const ModelSpec& spec = model.spec;
  uint64_t largest_unit = 0, block = 0, largest_end = 0;
  for (const UnitPlan& unit : plan.units) {
    const uint64_t bytes = unit.unit.rows * unit.unit.cols * sizeof(float);
    if (unit.unit.block < 0)
      largest_end = std::max(largest_end, bytes);
    else
      largest_unit = std::max(largest_unit, bytes);
    if (unit.unit.block == 0) block += bytes;
  }
  const uint64_t activations = static_cast<uint64_t>(calibrate.tokens) * spec.width * sizeof(float);
  const uint64_t scratch = block_scratch_bytes(spec, static_cast<uint64_t>(calibrate.context));
  const uint64_t walking = block + 3 * largest_unit + 2 * activations + scratch;
  const uint64_t end = largest_end + largest_end;
  return baseline + std::max({walking, end, measures ? walking : uint64_t{0}});
}

}  // namespace whit
