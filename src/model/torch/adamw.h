// AdamW (1412.6980, 1711.05101) without weight decay, over groups of leaves with a learning rate of their own. No torch
// header here.
#pragma once

#include <cstdint>
#include <functional>
#include <span>
#include <vector>

#include "model/torch/tensor.h"

namespace whit {

struct AdamWOptions {
  double beta1 = 0.9, beta2 = 0.95, epsilon = 1e-8;
  double clip = 1.0;  // the norm over all gradients that they are scaled down to
};

class AdamW {
 public:
  explicit AdamW(const AdamWOptions& options) : options_(options) {}

  // Leaves that need gradients. `rate` is multiplied by step()'s factor.
  void add(std::span<const Tensor> leaves, double rate);

  // One step with every group's rate times `factor`, then gradients are cleared. Leaves without a gradient stay. Returns
  // the norm of the gradients before they were clipped; when it is not finite nothing is changed.
  double step(double factor);
  void scale_rates(double by);  // all that were added
  uint64_t steps() const noexcept { return steps_; }

  // Everything that the next step depends on, leaves included, in a fixed order: for checkpoints. One array at a time: they
  // are three times what is learned.
  void visit_state(const std::function<void(std::span<const float>)>& visit) const;
  std::vector<uint64_t> state_counts() const;  // numbers of each array
  void restore(std::span<const std::span<const float>> state, uint64_t steps);
  size_t state_size() const noexcept { return 3 * leaves_.size(); }

 private:
  struct Leaf {
    Tensor value, mean, square;
    double rate;
  };
  AdamWOptions options_;
  std::vector<Leaf> leaves_;
  uint64_t steps_ = 0;
};

}  // namespace whit
