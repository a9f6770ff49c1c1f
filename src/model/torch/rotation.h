// Rotations where weights are learned: a stored matrix L W R^T back to W = L^T (L W R^T) R, differentiably.
#pragma once

#include <memory>
#include <vector>

#include "format/rotation.h"
#include "model/torch/tensor.h"

namespace whit {

// R as a dense matrix [n, n], so that matmul(rotation_matrix(R), x) is R x. Without history.
Tensor rotation_matrix(const Rotation& rotation);

// Keeps the factors of the rotations that it has met where learning happens; made for a training loop, where every unit
// asks at every step. One thread at a time.
class Unrotator {
 public:
  Unrotator();
  ~Unrotator();
  // stored [rows, cols], on the learning device -> the model's own weights, [rows, cols].
  Tensor operator()(const Tensor& stored, const UnitRotation& rotation);

 private:
  struct Known;
  const Known& known(const RotationPtr& rotation);
  std::vector<std::unique_ptr<const Known>> known_;
};

// The same once.
Tensor unrotate(const Tensor& stored, const UnitRotation& rotation);

}  // namespace whit
