// The windows that a job calibrates and measures on.
#pragma once

#include "base/progress.h"
#include "calibrate/cache.h"
#include "data/text.h"
#include "model/spec/model.h"
#include "pipeline/recipe.h"

namespace whit {

struct CalibrationText {
  CalibrationWindows windows;
  CalibrationWindows probes;  // others of the same text, for sensitivities: 2048 tokens, or what a short text leaves
  bool written_now = false;   // the original wrote some of it, which takes memory
};

// "auto" is "self+novels" for a model whose metadata (as GGUF has it) holds a chat template, else "novels"
// (docs/results.md: what a file is calibrated on); any other text is itself.
std::string settled_text(const KeyValues& metadata, const std::string& data);

// `probes`: wanted. ErrorKind::usage where options.data_hash says another text, ErrorKind::input for one that is too
// short.
CalibrationText draw_calibration_text(const Model& model, const CalibrateOptions& options, bool probes,
                                      const Cache& cache, Progress& progress);
// Tokens that the original would have to write for that; 0 where all are there.
uint64_t calibration_tokens_to_write(const Model& model, const CalibrateOptions& options, const Cache& cache);

// Tokens of a window: `wanted`, or the model's whole context where `wanted` is only the `usual` number and longer than
// that, with a note. Longer than the model knows by the user's wish is ErrorKind::usage. `place`: "calibrate: context".
int window_tokens(const Model& model, int wanted, int usual, const char* place, Progress& progress);

}  // namespace whit
