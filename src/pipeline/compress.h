// The main job: a model in, a file of a given size out. Also `calibrate` alone.
#pragma once

#include <filesystem>
#include <optional>
#include <string>

#include "base/progress.h"
#include "pipeline/plan.h"

namespace whit {

struct CompressRequest {
  std::filesystem::path model, output;
  Recipe recipe;                // an allocate step makes the plan from measured sensitivities
  std::string budget;           // "60MiB" ... for the allocate step; "" where there is none
  std::filesystem::path cache;  // "" : the default folder
  double minutes = 0;           // of training, for a tune step whose tokens are not given
  bool allow_short = false;     // also where these are fewer than its schedule needs
  bool context_given = false;   // the window was asked for: one that the model does not have is refused, not clipped
  int threads = 0;
  bool force = false;    // overwrite the output
  bool dry_run = false;  // memory, time and, where nothing must be measured for it, plan and bytes only
  bool check = false;    // ten windows of another text, after the file was written
  bool verify = true;    // checksums of the source
};

// The record of the contract in docs/cli.md: {output, file_bytes, predicted_bytes, predicted_peak_bytes, peak_bytes,
// predicted_seconds, seconds, plan: [{tensor, format, bytes, predicted_loss}], check, ...}.
Json compress(const CompressRequest& request, Progress& progress);

// Measures what depends on the original alone and leaves it in the cache. Returns {cache, seconds, probes}.
Json calibrate(const CompressRequest& request, Progress& progress);

}  // namespace whit
