// From measured sensitivities and a number of bytes to a plan.
#pragma once

#include <functional>
#include <span>
#include <vector>

#include "pipeline/plan.h"
#include "pipeline/sensitivity.h"

namespace whit {

struct FitResult {
  Plan plan;
  double predicted_loss = 0;  // nats
  bool lossless = false;      // every unit is copied: more bytes would not help
};

// One choice per unit, of least loss by the allocate step's method, so that the whole file has at most `budget` bytes;
// empty when even the smallest choices exceed it. What the file holds besides the units (metadata, tokenizer, norms,
// manifest) depends a little on the picks, so what is left for units is found by iteration over `file_bytes`.
std::vector<size_t> pick_within(const Step& allocate, std::span<const std::vector<Choice>> choices, uint64_t budget,
                                const std::function<uint64_t(const std::vector<size_t>& picks)>& file_bytes);

// The plan of least predicted loss whose whole file is at most `budget` bytes. A budget below the smallest possible
// file is ErrorKind::budget that says what the least is.
FitResult fit_plan(const OutputFrame& frame, const Step& allocate, const Recipe& recipe,
                   const Sensitivity& sensitivity, uint64_t budget, int threads);

// The manifest of a plan: resolved recipe and the hashes of what went in; no paths, times or names.
std::string make_manifest(const Model& model, const Plan& plan, const Recipe& recipe, int threads);

// The file's exact bytes for a plan, manifest included.
uint64_t plan_file_bytes(const OutputFrame& frame, const Plan& plan, const std::string& manifest);

}  // namespace whit
