// Rotations where weights are learned: a stored matrix L W R^T back to W = L^T (L W R^T) R, differentiably.
#pragma once

#include "format/rotation.h"
#include "model/torch/tensor.h"

namespace whit {

// R as a dense matrix [n, n], so that matmul(rotation_matrix(R), x) is R x. On the CPU, without history.
Tensor rotation_matrix(const Rotation& rotation);

// Keeps the dense matrices of the rotations that it has met, on the devices and in the precision of the weights that it
// was given, n^2 numbers a rotation; made for a training loop, where every unit asks at every step. One thread at a
// time.
class Unrotator {
 public:
  // stored [rows, cols] -> the model's own weights, on the same device.
  Tensor operator()(const Tensor& stored, const UnitRotation& rotation);

 private:
  struct Known {
    RotationPtr rotation;
    Tensor matrix;
  };
  const Tensor& matrix(const RotationPtr& rotation, const Tensor& like);
  std::vector<Known> known_;
};

// The same once.
Tensor unrotate(const Tensor& stored, const UnitRotation& rotation);

}  // namespace whit
