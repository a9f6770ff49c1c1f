// A look at what was made: ten windows of a text that nothing was calibrated on, by the original and by the file.
#pragma once

#include <filesystem>

#include "base/options.h"
#include "base/progress.h"
#include "base/threads.h"
#include "evaluate/windows.h"
#include "model/spec/model.h"

namespace whit {

constexpr uint64_t kCheckWindows = 10, kCheckContext = 512;
// Above this a file does not speak: between what answered and what did not (docs/design/compress.md).
constexpr double kSilentKl = 2;

// The first windows of the default judging text, as `whit eval --chunks 10` cuts them; none, and a note, where there is
// nothing to judge on: a file is made all the same.
TokenWindows check_windows(const Model& original, Progress& progress);

// Says so where the file will not speak. Returns {windows, context, kl_mean, kl_mean_error, perplexity_half,
// base_perplexity_half, speaks, seconds}, KL(original || file) and perplexity over the second halves.
// Block by block, one of the two models after the other: check_bytes() at most. Where a file was `trained` on a card,
// which held both models and more, they are judged there. ErrorKind::interrupted leaves the file.
Json check_output(const Model& original, const std::filesystem::path& output, const TokenWindows& windows, bool trained,
                  ThreadPool& pool, Progress& progress);
uint64_t check_bytes(const ModelSpec& spec);

}  // namespace whit
