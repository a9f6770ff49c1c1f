// Inside model/torch: what a Tensor holds. This header includes LibTorch: only .cc files of this room may include it.
#pragma once

#include <ATen/core/Tensor.h>

#include "model/torch/tensor.h"

namespace whit {

struct Tensor::Impl {
  at::Tensor value;
};

namespace torch_room {

inline const at::Tensor& unwrap(const Tensor& t) { return t.impl().value; }
inline Tensor wrap(at::Tensor value) { return Tensor(std::make_shared<Tensor::Impl>(Tensor::Impl{std::move(value)})); }
// matmul() of tensor.h: matrices on the CPU go over the room's pool.
inline at::Tensor multiplied(const at::Tensor& a, const at::Tensor& b) { return unwrap(matmul(wrap(a), wrap(b))); }

}  // namespace torch_room
}  // namespace whit
