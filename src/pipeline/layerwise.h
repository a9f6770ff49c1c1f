// Layer-wise N:M: steps that ask for another n in every block (layerwise = "owl", ...) get it, decided from the
// original model before the walk. Afterwards plan, formats and manifest hold plain numbers, so the recipe in a file
// repeats it.
#pragma once

#include "base/progress.h"
#include "base/threads.h"
#include "calibrate/cache.h"
#include "data/text.h"
#include "pipeline/plan.h"

namespace whit {

struct LayerwiseContext {
  const Model& model;
  const CalibrationWindows& windows;
  const Cache& cache;
  ThreadPool& pool;
  Progress& progress;
};

bool needs_layerwise(const Plan& plan);
// layerwise = "exact" weighs errors by the Fisher information of the outputs: a backward pass over the original.
bool needs_fisher(const Plan& plan);

// One pass over the original's blocks: scores by the unit's own importance step (Wanda's where it has none). Sets n and
// layerwise = "uniform" of every such step, and n of the unit's format where that stores a mask. What was measured is
// kept in the cache, so that a run which goes on decides the same without measuring again.
void resolve_layerwise(const LayerwiseContext& context, Plan& plan);
// It stands in the cache.
bool layerwise_is_known(const LayerwiseContext& context, const Plan& plan);

}  // namespace whit
