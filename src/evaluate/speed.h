// How fast a model reads a prompt and writes an answer.
#pragma once

#include <cstdint>

#include "base/progress.h"
#include "model/spec/scorer.h"

namespace whit {

struct SpeedOptions {
  uint64_t prompt = 512;  // tokens read at once into an empty session
  uint64_t decode = 128;  // tokens written one by one into an empty session
  int repeats = 3;        // the median is reported
};

struct Speed {
  double prompt_tokens_per_second = 0, decode_tokens_per_second = 0;  // medians; NaN where 0 tokens were asked for
  double prompt_least = 0, prompt_most = 0, decode_least = 0, decode_most = 0;
};

// Ids are pseudo-random from a fixed seed. One short warm-up is not timed.
Speed measure_speed(const Scorer& scorer, const SpeedOptions& options, Progress& progress);

}  // namespace whit
