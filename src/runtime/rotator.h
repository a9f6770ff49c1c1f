// A rotation as the executor applies it to activations: the vectorized transform of format/rotation.h.
#pragma once

#include <vector>

#include "format/rotation.h"
#include "runtime/cpu/kernels.h"

namespace whit {

class Rotator {
 public:
  Rotator() = default;  // none
  explicit Rotator(RotationPtr rotation);
  explicit operator bool() const noexcept { return rotation_ != nullptr; }
  bool operator==(const Rotator& other) const noexcept;

  size_t size() const noexcept { return rotation_->size(); }
  // Floats of scratch that a call needs for a rotation of `size` elements.
  static constexpr size_t scratch_size(size_t size) { return 2 * cpu::padded(size + cpu::kPanel); }
  // out = R x; out may be x
  void apply(const cpu::Kernels& kernels, const float* x, float* scratch, float* out) const noexcept;
  // out = R^T x; out may be x
  void invert(const cpu::Kernels& kernels, const float* x, float* scratch, float* out) const noexcept;

 private:
  void mix(const cpu::Kernels& kernels, const std::vector<float>& factor, const float* x, float* out) const noexcept;

  RotationPtr rotation_;
  std::vector<float> transposed_;  // Q^T
};

}  // namespace whit
