// What the parts of a job will take, by a few seconds' look at the model's first block. Told before the work starts;
// a rough guess: on a busy machine it was up to three times too long.
#pragma once

#include <map>
#include <memory>
#include <string>

#include "base/threads.h"
#include "methods/stages.h"
#include "pipeline/plan.h"
#include "pipeline/recipe.h"

namespace whit {

class Estimate {
 public:
  Estimate(const Model& model, const CalibrateOptions& calibrate, ThreadPool& pool);

  // All in seconds.
  double sensitivities(const Step& allocate) const;
  double layerwise(bool fisher) const;
  double output_gram() const;
  // `streams`: activations go through the blocks.
  double walk(const Plan& plan, bool streams) const;
  double check(uint64_t tokens) const;

 private:
  // Of one unit: what its inputs cost once, and its rows.
  struct Rounding {
    double factoring = 0, rows = 0;
  };
  Rounding rounding(const UnitPlan& unit) const;
  double all_blocks(double tokens, double seconds_per_token) const;
  double fisher() const;
  std::shared_ptr<const UnitStatistics> statistics_of(const UnitSpec& unit) const;

  const Model& model_;
  const CalibrateOptions& calibrate_;
  ThreadPool& pool_;
  double load_ = 0;                    // to unpack a block
  double forward_ = 0, observed_ = 0;  // of a token in a block: alone, and with its inputs gathered
  double pair_ = 0;                    // of a token's logits by two models, compared
  std::map<std::string, std::shared_ptr<const UnitStatistics>> statistics_;  // kind -> of the first block's units
};

}  // namespace whit
