// Judging models on a text: perplexity by two protocols, and the divergence from a base model. Works over any Scorer.
//
// Base and models go through the text side by side, a few positions at a time, so that only so many logit rows are ever
// held: piece_rows of the base and as many of one model. The base is computed once for all models.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "base/progress.h"
#include "base/threads.h"
#include "evaluate/windows.h"
#include "model/spec/scorer.h"

namespace whit {

struct Candidate {
  std::string name;  // for messages
  std::shared_ptr<const Scorer> scorer;
  const TokenWindows* windows = nullptr;
};

// Numbers are NaN where nothing was measured.
struct Judgement {
  uint64_t context = 0, windows = 0;
  // Half: positions context / 2 to context - 2 of each window predict their next token (llama.cpp's protocol).
  double perplexity_half = 0, perplexity_half_error = 0;
  // All: every position but the last does (the papers' protocol).
  double perplexity_all = 0;
  double tokens_per_second = 0;  // of the model alone; the sums over its rows are not counted
  // Against the base, over the half positions.
  double kl_mean = 0, kl_mean_error = 0, kl_median = 0, kl_p99 = 0, same_top = 0;

  std::vector<double> loss_half;   // -ln p of the token, per half position
  std::vector<double> divergence;  // KL in nats per half position; empty without a base
};

struct Judgements {
  std::vector<Judgement> models;
  std::optional<Judgement> base;  // its kl is 0 by definition
};

// The difference of two models on the same positions: paired, so the spread of the text cancels.
struct Paired {
  double log_perplexity = 0, log_perplexity_error = 0;  // ln(perplexity a / perplexity b)
  double kl = 0, kl_error = 0;                          // kl_mean a - kl_mean b
};
// Requires the same number of positions.
Paired compare(const Judgement& a, const Judgement& b);

// A model whose scorer is the base's own is not computed again. Throws ErrorKind::input when a model and the base see
// other ids or have another vocabulary, ErrorKind::interrupted between pieces.
Judgements evaluate(std::span<const Candidate> models, const Candidate* base, ThreadPool& pool, Progress& progress);

constexpr size_t piece_rows = 128;  // positions fed at a time

}  // namespace whit
