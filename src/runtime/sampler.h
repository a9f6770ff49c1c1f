// From a logit row to the next token.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "base/options.h"
#include "base/rng.h"

namespace whit {

struct SamplerOptions {
  double temperature = 0.7;  // 0: greedy, everything below is ignored
  int top_k = 40;            // 0: off
  double top_p = 0.95;       // 1: off
  double min_p = 0.05;       // 0: off
  double repeat_penalty = 1.0;
  int repeat_last = 64;  // tokens looked back at by the penalty
  uint64_t seed = 0;
  template <class V>
  void visit(V& v) {
    v("temperature", temperature, "0 is greedy", Range{0, 100});
    v("top_k", top_k, "keep the k likeliest tokens, 0 is off", Range{0, 1e9});
    v("top_p", top_p, "keep the likeliest tokens of this total probability", Range{0, 1});
    v("min_p", min_p, "drop tokens below this share of the likeliest", Range{0, 1});
    v("repeat_penalty", repeat_penalty, "divides the logits of recent tokens, 1 is off", Range{0.1, 10});
    v("repeat_last", repeat_last, "how many tokens count as recent", Range{0, 1e6});
  }
};

class Sampler {
 public:
  explicit Sampler(const SamplerOptions& options);
  // Ties go to the lower id. `recent`: all ids so far.
  int32_t next(std::span<const float> logits, std::span<const int32_t> recent);

 private:
  SamplerOptions options_;
  Rng rng_;
  std::vector<std::pair<float, int32_t>> candidates_;
};

}  // namespace whit
