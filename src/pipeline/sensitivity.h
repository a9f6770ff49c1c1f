// What depends on the original alone: how much each possible format of each unit would cost, in nats of KL. Measured
// once, kept in the cache under a hash of everything that decides it, reused for every size of the same model.
//
// The prediction for unit u in format c is   a_kind(u) * S(u, c),
//   S(u, c) = 1/2 sum_r F_r (d_r G d_r^T),   d = unpacked - original,
// G = mean x x^T of the unit's inputs, F_r = mean square of d(log-likelihood of a label drawn from the model)/d(output
// r): the second-order expansion of the KL with a Kronecker-factored Fisher matrix (K-FAC, 1503.05671) whose output
// factor is taken diagonal. a_kind corrects its scale: for each kind of unit one real KL is measured with all units of
// that kind rounded.
#pragma once

#include <map>
#include <string>
#include <vector>

#include "base/progress.h"
#include "base/threads.h"
#include "calibrate/cache.h"
#include "data/text.h"
#include "model/spec/model.h"
#include "pipeline/recipe.h"

namespace whit {

// The formats of an allocate step that a unit may take.
const std::vector<FormatPtr>& formats_of(const Step& allocate, const UnitSpec& unit);

struct UnitSensitivity {
  std::vector<double> loss;  // per format of the allocate step, nats; the source's own format costs 0
};

struct Sensitivity {
  std::map<std::string, UnitSensitivity> units;  // by unit name
  Json probes;                                   // kind -> {format, kl, predicted, scale}, for the log and --explain
};

struct SensitivityContext {
  const Model& model;
  const CalibrationWindows& windows;        // for gram and distortion
  const CalibrationWindows& probe_windows;  // other windows of the same text, for Fisher and KL
  const Step& allocate;                     // formats, embedding formats, quantizer
  const Cache& cache;
  ThreadPool& pool;
  Progress& progress;
};

// Interrupted or killed at any block it goes on from the cache.
Sensitivity measure_sensitivity(const SensitivityContext& context);
// It stands in the cache.
bool sensitivity_is_known(const SensitivityContext& context);
// In place of a measurement, for a plan whose bytes, memory and time are about those of the true one: each weight costs
// what a grid of so many bits does to it.
Sensitivity guessed_sensitivity(const Model& model, const Step& allocate);

// Mean x x^T of what the output layer sees (after the final norm) over the calibration windows, from the original
// model.
Matrix output_gram(const Model& model, const CalibrationWindows& windows, const Cache& cache, int threads,
                   Progress& progress);

// Part of every cache key and of the journal's: results are the same bits only on the same instruction set and threads.
std::string machine_key(int threads);

}  // namespace whit
