// The promise of peak memory (anonymous and shared resident bytes), made before the work starts. Not in it: pages of
// mapped files and what a card's libraries load while they work.
#pragma once

#include "pipeline/plan.h"

namespace whit {

constexpr uint64_t kProbeTokens = 2048;  // on which sensitivities and real KL are measured
constexpr uint64_t probe_tokens(uint64_t context) { return context > kProbeTokens ? context : kProbeTokens; }

// `baseline`: what the process holds before the job. `measures`: the job measures sensitivities (an allocate step).
uint64_t predicted_peak(const Model& model, const Plan& plan, const CalibrateOptions& calibrate, uint64_t baseline,
                        bool measures);

// Says so if less memory is free than the job was promised to take.
void note_promise(Progress& progress, uint64_t promised);

}  // namespace whit
