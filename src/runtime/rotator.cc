#include "runtime/rotator.h"

#include <algorithm>
#include <cstring>

namespace whit {

Rotator::Rotator(RotationPtr rotation) : rotation_(std::move(rotation)), transposed_(rotation_->factor().size()) {
  const uint64_t m = rotation_->runs();
  for (uint64_t i = 0; i < m * m && m > 1; ++i) transposed_[i % m * m + i / m] = rotation_->factor()[i];
}

bool Rotator::operator==(const Rotator& other) const noexcept {
  if (!rotation_ || !other.rotation_) return !rotation_ && !other.rotation_;
  return rotation_ == other.rotation_ || *rotation_ == *other.rotation_;
}

// out [m, run] = factor [m, m] * x [m, run], some columns at a time; past its last run x is readable for a panel.
void Rotator::mix(const cpu::Kernels& kernels, const std::vector<float>& factor, const float* x,
                  float* out) const noexcept {
  const size_t m = rotation_->runs(), run = rotation_->run();
  for (size_t column = 0; column < run; column += cpu::kPanel)
    kernels.gemm_f32(factor.data(), m, m, x + column, run, m, out + column, run, std::min(cpu::kPanel, run - column));
}

void Rotator::apply(const cpu::Kernels& kernels, const float* x, float* scratch, float* out) const noexcept {
  const size_t n = size(), run = rotation_->run();
  float* turned = rotation_->runs() == 1 ? out : scratch;
  kernels.multiply(x, rotation_->signs().data(), n, turned);
  for (size_t begin = 0; begin < n; begin += run) kernels.hadamard(turned + begin, run);
  if (rotation_->runs() > 1) mix(kernels, rotation_->factor(), scratch, out);
}

void Rotator::invert(const cpu::Kernels& kernels, const float* x, float* scratch, float* out) const noexcept {
  const size_t n = size(), run = rotation_->run();
  float* turned = scratch;
  std::memcpy(scratch, x, n * sizeof(float));
  if (rotation_->runs() > 1) {
    turned = scratch + scratch_size(n) / 2;
    mix(kernels, transposed_, scratch, turned);
  }
  for (size_t begin = 0; begin < n; begin += run) kernels.hadamard(turned + begin, run);
  kernels.multiply(turned, rotation_->signs().data(), n, out);
}

}  // namespace whit
