// Inside model/torch: the plain loops of a block on rows of floats, in the calling thread. No torch header here.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

#include "model/spec/spec.h"

namespace whit::torch_room {

// out = x / sqrt(mean(x^2) + epsilon) * gain
void rms_norm(const float* x, const float* gain, size_t n, double epsilon, float* out) noexcept;

// gate = silu(gate) * up, element by element; up == nullptr: silu(gate) alone
void silu_multiply(float* gate, const float* up, size_t n) noexcept;

// In place: x[j] = exp(scale * x[j] - max) / sum over j in [begin, end); 0 for the rest of [0, n).
void masked_softmax(float* x, size_t n, size_t begin, size_t end, float scale) noexcept;

// sum x[i] * y[i]
float dot(const float* x, const float* y, size_t n) noexcept;

// The angles of the rotary positions: cos and sin [positions, dimensions / 2].
struct RotaryTable {
  size_t half = 0, positions = 0;
  std::vector<float> cosine, sine;
  std::vector<double> frequencies;
  double factor = 1.0;

  explicit RotaryTable(const ModelSpec& spec);
  void extend(size_t count);  // so that positions >= count
  // Rotates the first 2 * half elements of each head of a row, pairs (2i, 2i + 1).
  void rotate(float* row, size_t heads, size_t head_size, size_t position) const noexcept;
  // The transposed map, for gradients (the inverse where factor is 1).
  void rotate_back(float* row, size_t heads, size_t head_size, size_t position) const noexcept;
};

}  // namespace whit::torch_room
