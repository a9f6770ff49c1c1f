#include "pipeline/calibration_text.h"

#include <fmt/format.h>

#include <algorithm>
#include <set>

#include "base/error.h"
#include "data/tokenizer.h"
#include "pipeline/memory_plan.h"
#include "pipeline/training_text.h"

namespace whit {
namespace {

// The writer's own windows have beginnings of their own, and there are always some for probes: a recipe out of a --fit
// file draws from the same ones.
TuneOptions as_training_text(const CalibrateOptions& options) {
  TuneOptions text;
  text.data = options.data;
  text.context = options.context;
  text.seed = options.seed;
  return text;
}

uint64_t own_tokens(const CalibrateOptions& options) {
  return static_cast<uint64_t>(options.tokens) + probe_tokens(static_cast<uint64_t>(options.context));
}

// Windows of the same text that calibration does not see.
CalibrationWindows draw_probes(std::span<const int32_t> ids, int32_t bos, const CalibrateOptions& options,
                               const CalibrationWindows& calibrated) {
  const auto tokens = static_cast<uint64_t>(options.tokens), context = static_cast<uint64_t>(options.context);
  const uint64_t all = ids.size() / context, taken = calibrated.windows.size();
  CalibrationWindows result;
  result.context = context;
  if (all > taken) {
    const uint64_t probes = std::min(all - taken, probe_tokens(context) / context);
    const std::set<std::vector<int32_t>> used(calibrated.windows.begin(), calibrated.windows.end());
    CalibrationWindows drawn =
        calibration_windows(ids, bos, tokens + probes * context, context, static_cast<uint64_t>(options.seed) + 1);
    for (auto& window : drawn.windows)
      if (!used.count(window) && result.windows.size() < probes) result.windows.push_back(std::move(window));
    result.hash = drawn.hash;
  }
  if (result.windows.empty())
    throw Error(ErrorKind::input, "the calibration text leaves nothing to measure sensitivities on", options.data,
                fmt::format("{} windows of {} tokens, all calibrated on or like those", all, context),
                "a longer text, or fewer --calibration-tokens");
  return result;
}

}  // namespace

std::string settled_text(const KeyValues& metadata, const std::string& data) {
  if (data != "auto") return data;
  return metadata.has("tokenizer.chat_template") ? "self+novels" : "novels";
}

CalibrationText draw_calibration_text(const Model& model, const CalibrateOptions& options, bool probes,
                                      const Cache& cache, Progress& progress) {
  CalibrationText result;
  std::vector<int32_t> ids;
  int32_t bos = -1;
  if (self_written(options.data)) {
    const TrainingText own = training_text(model, as_training_text(options), own_tokens(options), 0, cache, progress);
    result.written_now = own.written_now;
    for (const auto& window : own.train) ids.insert(ids.end(), window.begin(), window.end());
  } else {
    const std::string text = named_text(options.data, "calibrate: data");
    const auto tokenizer = tokenizer_of(model);
    ids = tokenizer->encode(text, false, false);
    bos = tokenizer->bos();
  }
  result.windows = calibration_windows(ids, bos, static_cast<uint64_t>(options.tokens),
                                       static_cast<uint64_t>(options.context), static_cast<uint64_t>(options.seed));
  if (!options.data_hash.empty() && options.data_hash != result.windows.hash)
    throw Error(ErrorKind::usage, "the calibration text is not the one that the recipe was made with", options.data,
                result.windows.hash, "wanted " + options.data_hash);
  if (probes) result.probes = draw_probes(ids, bos, options, result.windows);
  return result;
}

uint64_t calibration_tokens_to_write(const Model& model, const CalibrateOptions& options, const Cache& cache) {
  return tokens_to_write(model, as_training_text(options), own_tokens(options), 0, cache);
}

int window_tokens(const Model& model, int wanted, int usual, const char* place, Progress& progress) {
  const uint64_t trained = model.spec.context, longest = model.spec.longest_context();
  if (trained == 0 || static_cast<uint64_t>(wanted) <= (wanted == usual ? trained : longest)) return wanted;
  if (wanted != usual)
    throw Error(ErrorKind::usage, "the context is longer than the model was trained for",
                model.path.string() + ": " + place, std::to_string(wanted), fmt::format("--context {}", longest));
  progress.note(fmt::format("windows of {} tokens: the model knows no longer context", trained));
  return static_cast<int>(trained);
}

}  // namespace whit
