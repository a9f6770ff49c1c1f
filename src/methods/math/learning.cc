#include "methods/math/learning.h"

#include <algorithm>
#include <cmath>
#include <numbers>
#include <span>

namespace whit {
namespace {

constexpr const char* kHint = "smaller rates";

double spread(const Tensor& leaf) {
  const NoGrad guard;
  const Tensor all = mean(leaf);
  return std::sqrt(std::max(0.0, mean(square(leaf - all)).item()));
}

}  // namespace

void add_leaves(const std::vector<ParameterGroup>& groups, const LearningRates& rates, double factor, double embedding,
                AdamW& optimizer) {
  for (const ParameterGroup& group : groups) {
    const double place = group.embedding ? embedding : 1.0;
    for (const Tensor& leaf : group.tensors) {
      double relative = rates.scales;
      if (group.kind == "codes" || group.kind == "weights") relative = rates.codes * place * spread(leaf);
      if (group.kind == "factors") relative = rates.factors * place;
      optimizer.add(std::span(&leaf, 1), factor * relative);
    }
  }
}

double cosine_schedule(uint64_t step, uint64_t steps, double warm_up) {
  const double done = static_cast<double>(step), all = static_cast<double>(steps);
  const double warm = std::max(1.0, warm_up * all);
  return std::min(1.0, (done + 1) / warm) * 0.5 * (1 + std::cos(std::numbers::pi * done / all));
}

double finite_loss(double value, const std::string& what, const std::string& where) {
  if (!std::isfinite(value)) throw Error(ErrorKind::numeric, what + " is not a finite number", where, "", kHint);
  return value;
}

void name_the_culprit(const std::vector<ParameterGroup>& groups, const std::string& where) {
  for (const ParameterGroup& group : groups)
    for (const Tensor& leaf : group.tensors)
      for (const Tensor& seen : {leaf, leaf.grad()})
        if (seen && !std::isfinite(sum(seen).item()))
          throw Error(ErrorKind::numeric, "training ran into a number that is not finite", group.unit, group.kind,
                      kHint);
  throw Error(ErrorKind::numeric, "the loss is not a finite number", where, "", kHint);
}

}  // namespace whit
