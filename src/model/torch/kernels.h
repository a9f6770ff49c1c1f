// Inside model/torch: the plain loops of a block on rows of floats, in the calling thread. No torch header here.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

#include "model/spec/spec.h"

namespace whit::torch_room {

// out = x / sqrt(mean(x^2) + epsilon) * gain
void rms_norm(const float* x, const float* gain, size_t n, double epsilon, float* out) noexcept;

// out = (x - mean(x)) / sqrt(variance(x) + epsilon) * gain + bias
void layer_norm(const float* x, const float* gain, const float* bias, size_t n, double epsilon, float* out) noexcept;
// One of the two; bias is read by layer norms only.
void norm(NormKind kind, const float* x, const float* gain, const float* bias, size_t n, double epsilon,
          float* out) noexcept;

// gate = f(gate) * up, element by element; up == nullptr: f(gate) alone
void activate(Activation f, float* gate, const float* up, size_t n) noexcept;

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

  RotaryPairs pairs = RotaryPairs::neighbours;

  RotaryTable() = default;  // rotates nothing
  // For sessions of `context` positions (longrope depends on it).
  RotaryTable(const RotarySpec& rotary, RotaryPairs pairs, size_t context);
  void extend(size_t count);  // so that positions >= count
  // Rotates the first 2 * half elements of each head of a row.
  void rotate(float* row, size_t heads, size_t head_size, size_t position) const noexcept;
  // The transposed map, for gradients (the inverse where factor is 1).
  void rotate_back(float* row, size_t heads, size_t head_size, size_t position) const noexcept;
};

}  // namespace whit::torch_room
