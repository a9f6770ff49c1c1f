// Inside model/torch, preset cuda: what a block does element by element, fused (elementwise.cu). Device pointers to
// bfloat16 unless a type is named, rows one after the other; `stream` is a cudaStream_t. All return a cudaError_t.
#pragma once

#include <cstdint>

namespace whit::torch_room {

// both [rows, 2 * width], gate before up: out [rows, width] = silu(gate) * up.
int launch_silu_multiply(const void* both, void* out, int64_t rows, int64_t width, void* stream);
// The gradient of both from that of out.
int launch_silu_multiply_backward(const void* both, const void* out_gradient, void* both_gradient, int64_t rows,
                                  int64_t width, void* stream);

struct RotaryShape {
  int64_t rows, length;     // row r stands at position r % length
  int64_t heads, kv_heads;  // a row: heads of q, then of k (both rotated), then of v
  int64_t size, half;       // of a head; i < half pairs are rotated, the rest stays
  bool halves;              // pairs (i, i + half) instead of (2i, 2i + 1)
};
// table [length, half] of float pairs (cos, sin). Reads q, k and v at strides of a row (in elements); writes whole rows.
// `back` turns the other way.
int launch_rotary(const void* q, int64_t q_stride, const void* k, int64_t k_stride, const void* v, int64_t v_stride,
                  const float* table, bool back, void* out, const RotaryShape& shape, void* stream);

// Of rows x and t: ratio [rows] in float = |x - t|^2 / |t|^2; where pull is not null, pull [rows, width] = scale (x - t) / |t|^2.
int launch_relative_error(const void* x, const void* t, float scale, void* pull, float* ratio, int64_t rows,
                          int64_t width, void* stream);

}  // namespace whit::torch_room
