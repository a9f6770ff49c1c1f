// Training a compressed model as a whole: what `whit tune` does, and a tune step of a recipe.
#pragma once

#include <filesystem>
#include <optional>
#include <string>

#include "base/progress.h"
#include "calibrate/cache.h"
#include "pipeline/phases.h"
#include "pipeline/plan.h"
#include "pipeline/student.h"
#include "pipeline/training_text.h"

namespace whit {

// What training takes, measured in seconds on a few steps.
struct TrainingPace {
  double step = 0;  // seconds of a step of options.batch tokens
  double look = 0;  // of a look at the held-out text
};

// What a tune step needs; references must outlive tune_model().
struct TuneJob {
  const Model& model;     // the spec and everything that is no unit
  const Plan& plan;       // the units and their formats
  UnitStarter start;      // their bytes
  Vectors vectors;        // norms that are no longer the model's
  const Model* original;  // whose predictions are learned; null: the text itself
  std::string method;     // a row of stage tune, with its options
  Json method_options;
  TuneOptions options;               // tokens > 0, or minutes
  double minutes = 0;                // of training alone; turned into tokens by a speed probe once
  bool allow_short = false;          // also where they are too few for the method's schedule
  std::filesystem::path checkpoint;  // a file, written every few minutes
  Json key;                          // what decides the result: a checkpoint of another key is refused
  const Cache& cache;
  Progress& progress;
  std::optional<TrainingPace> pace = {};  // measured before
};

struct Tuned {
  Encoded encoded;
  TuneOptions options;  // resolved: tokens, batch, data_hash
  Json report;          // {tokens, steps, held_out_start, held_out, restarts, seconds, tokens_per_second}
};

// ErrorKind::numeric names the unit where numbers exploded. A run that was stopped goes on from its checkpoint.
Tuned tune_model(const TuneJob& job);

// The options as a manifest may have to hold them, at their longest: what is open until training begins is not known before.
TuneOptions longest(TuneOptions options);

// `rough`: on the CPU by a smaller step, in a third of the time.
TrainingPace training_pace(const TuneJob& job, bool rough);
// TuneJob::start before anything is made: a step takes as long on units of zero bits.
UnitStarter unmade_units();
// What tune_model() will do and its seconds: text to be written, training. ErrorKind::budget where job.minutes are too
// short.
std::vector<Phase> training_phases(const TuneJob& job, const TrainingPace& pace);

// Bytes that it holds at most besides the process's start: parameters, optimizer, activations, the original.
uint64_t tune_bytes(const Model& model, const Plan& plan, bool original, const TuneOptions& options);

struct TuneRequest {
  std::filesystem::path model, against, output;
  TuneOptions options;
  std::string method = "distill";
  Json method_options = Json::object();
  double minutes = 0;
  std::filesystem::path cache;
  int threads = 0;
  bool context_given = false;  // a window that the models do not have is refused, not clipped
  bool force = false, dry_run = false, verify = true, allow_short = false;
};

// {output, file_bytes, predicted_peak_bytes, peak_bytes, device_peak_bytes, device, seconds, tune: {...}}
Json tune(const TuneRequest& request, Progress& progress);

}  // namespace whit
