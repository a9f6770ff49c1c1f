// A block's element-wise work in one sweep each. As single operations of LibTorch the same work moved two to ten times the
// bytes: silu and product 250 instead of 150 MB a block and 16384 tokens, the rotary embedding some 250 instead of 60 (it
// went over float and complex numbers), the comparison of hidden states 550 instead of 57.
#include "model/torch/cuda/elementwise.h"

#include <cuda_bf16.h>

namespace whit::torch_room {
namespace {

constexpr int kThreads = 256;

unsigned blocks_for(int64_t count) { return static_cast<unsigned>((count + kThreads - 1) / kThreads); }
__device__ int64_t here() { return static_cast<int64_t>(blockIdx.x) * kThreads + threadIdx.x; }
__device__ float sigmoid(float x) { return 1.f / (1.f + __expf(-x)); }

// A thread an element; `width` elements a row.
__global__ void silu_multiply(const __nv_bfloat16* both, __nv_bfloat16* out, int64_t count, int64_t width) {
  const int64_t i = here();
  if (i >= count) return;
  const int64_t at = i / width * 2 * width + i % width;
  const float gate = __bfloat162float(both[at]);
  out[i] = __float2bfloat16(gate * sigmoid(gate) * __bfloat162float(both[at + width]));
}

__global__ void silu_multiply_backward(const __nv_bfloat16* both, const __nv_bfloat16* out_gradient,
                                       __nv_bfloat16* both_gradient, int64_t count, int64_t width) {
  const int64_t i = here();
  if (i >= count) return;
  const int64_t at = i / width * 2 * width + i % width;
  const float gate = __bfloat162float(both[at]), up = __bfloat162float(both[at + width]);
  const float given = __bfloat162float(out_gradient[i]), s = sigmoid(gate);
  both_gradient[at] = __float2bfloat16(given * up * s * (1.f + gate * (1.f - s)));
  both_gradient[at + width] = __float2bfloat16(given * gate * s);
}

// A thread two elements of a head: a rotated pair, or two neighbours of the rest.
__global__ void rotary(const __nv_bfloat16* q, int64_t q_stride, const __nv_bfloat16* k, int64_t k_stride,
                       const __nv_bfloat16* v, int64_t v_stride, const float* table, float direction,
                       __nv_bfloat16* out, RotaryShape shape, int64_t pairs, int64_t count) {
  const int64_t i = here();
  if (i >= count) return;
  const int64_t row = i / pairs, pair = i % pairs;
  const int64_t head = pair * 2 / shape.size, in_head = pair * 2 % shape.size;
  const __nv_bfloat16* from = head < shape.heads ? q + row * q_stride + head * shape.size
                              : head < shape.heads + shape.kv_heads
                                  ? k + row * k_stride + (head - shape.heads) * shape.size
                                  : v + row * v_stride + (head - shape.heads - shape.kv_heads) * shape.size;
  const bool turns = head < shape.heads + shape.kv_heads && in_head / 2 < shape.half;
  const int64_t first = turns && shape.halves ? in_head / 2 : in_head,
                second = turns && shape.halves ? first + shape.half : in_head + 1;
  float x = __bfloat162float(from[first]), y = __bfloat162float(from[second]);
  if (turns) {
    const float* turn = table + 2 * (row % shape.length * shape.half + in_head / 2);
    const float c = turn[0], s = turn[1] * direction, turned = x * c - y * s;
    y = x * s + y * c;
    x = turned;
  }
  __nv_bfloat16* to = out + row * pairs * 2 + head * shape.size;
  to[first] = __float2bfloat16(x);
  to[second] = __float2bfloat16(y);
}

// A block of threads a row.
__global__ void relative_error(const __nv_bfloat16* x, const __nv_bfloat16* t, float scale, __nv_bfloat16* pull,
                               float* ratio, int64_t width) {
  const int64_t row = blockIdx.x;
  x += row * width;
  t += row * width;
  float2 mine = {0.f, 0.f};  // of the difference, of t
  for (int64_t i = threadIdx.x; i < width; i += kThreads) {
    const float wanted = __bfloat162float(t[i]), d = __bfloat162float(x[i]) - wanted;
    mine.x += d * d;
    mine.y += wanted * wanted;
  }
  __shared__ float2 shared[kThreads];
  shared[threadIdx.x] = mine;
  __syncthreads();
  for (int step = kThreads / 2; step > 0; step /= 2) {
    if (threadIdx.x < step) {
      shared[threadIdx.x].x += shared[threadIdx.x + step].x;
      shared[threadIdx.x].y += shared[threadIdx.x + step].y;
    }
    __syncthreads();
  }
  const float size = fmaxf(shared[0].y, 1e-12f);
  if (threadIdx.x == 0) ratio[row] = shared[0].x / size;
  if (!pull) return;
  const float factor = scale / size;
  for (int64_t i = threadIdx.x; i < width; i += kThreads)
    pull[row * width + i] = __float2bfloat16((__bfloat162float(x[i]) - __bfloat162float(t[i])) * factor);
}

const __nv_bfloat16* in(const void* p) { return static_cast<const __nv_bfloat16*>(p); }
__nv_bfloat16* out_of(void* p) { return static_cast<__nv_bfloat16*>(p); }
cudaStream_t on(void* stream) { return static_cast<cudaStream_t>(stream); }

}  // namespace

int launch_silu_multiply(const void* both, void* out, int64_t rows, int64_t width, void* stream) {
  const int64_t count = rows * width;
  silu_multiply<<<blocks_for(count), kThreads, 0, on(stream)>>>(in(both), out_of(out), count, width);
  return static_cast<int>(cudaGetLastError());
}

int launch_silu_multiply_backward(const void* both, const void* out_gradient, void* both_gradient, int64_t rows,
                                  int64_t width, void* stream) {
  const int64_t count = rows * width;
  silu_multiply_backward<<<blocks_for(count), kThreads, 0, on(stream)>>>(in(both), in(out_gradient),
                                                                         out_of(both_gradient), count, width);
  return static_cast<int>(cudaGetLastError());
}

int launch_rotary(const void* q, int64_t q_stride, const void* k, int64_t k_stride, const void* v, int64_t v_stride,
                  const float* table, bool back, void* out, const RotaryShape& shape, void* stream) {
  const int64_t pairs = (shape.heads + 2 * shape.kv_heads) * shape.size / 2, count = shape.rows * pairs;
  rotary<<<blocks_for(count), kThreads, 0, on(stream)>>>(in(q), q_stride, in(k), k_stride, in(v), v_stride, table,
                                                         back ? -1.f : 1.f, out_of(out), shape, pairs, count);
  return static_cast<int>(cudaGetLastError());
}

int launch_relative_error(const void* x, const void* t, float scale, void* pull, float* ratio, int64_t rows,
                          int64_t width, void* stream) {
  relative_error<<<static_cast<unsigned>(rows), kThreads, 0, on(stream)>>>(in(x), in(t), scale, out_of(pull), ratio,
                                                                           width);
  return static_cast<int>(cudaGetLastError());
}

}  // namespace whit::torch_room
