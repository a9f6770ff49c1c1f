// What methods that train leaves share: learning rates by kind of leaf (ParameterGroup), and who is to blame when
// numbers explode. Rates are relative to what they move: a code's or a weight's to the standard deviation of its tensor
// (in steps, or as it is), a factor's to the mean magnitude of the latents, a scale's to itself (scales are learned as
// exponents).
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "base/options.h"
#include "model/torch/adamw.h"
#include "model/torch/parametrization.h"

namespace whit {

struct LearningRates {
  double codes = 0.005, factors = 0.03, scales = 0.002;
  template <class V>
  void visit(V& v) {
    v("codes", codes, "learning rate of codes and of weights, relative to the spread of their tensor", Range{0, 1});
    v("factors", factors, "learning rate of sign factors, relative to their mean magnitude", Range{0, 10});
    v("scales", scales, "learning rate of scales and norms, relative", Range{0, 1});
  }
};

// All leaves, every rate times `factor`, those of the embedding's codes and factors also times `embedding`.
void add_leaves(const std::vector<ParameterGroup>& groups, const LearningRates& rates, double factor, double embedding,
                AdamW& optimizer);

// The factor on the rates at `step` of `steps`: a linear rise over the first `warm_up` of them, a cosine down to 0.
double cosine_schedule(uint64_t step, uint64_t steps, double warm_up);

// The value, or ErrorKind::numeric: "`what` is not a finite number" at `where`.
double finite_loss(double value, const std::string& what, const std::string& where);
// After a step whose loss or gradient was not finite: the error names the unit of the leaf that shows it, or `where`.
[[noreturn]] void name_the_culprit(const std::vector<ParameterGroup>& groups, const std::string& where);

}  // namespace whit
