// KL(teacher || student) and its gradient in two sweeps over the logits: 2 x 4 bytes read, twice, and 2 bytes written a
// position and token; LibTorch's own operations would read and write some 50. One block of threads a row. The first sweep
// keeps running maxima and sums (online softmax, 1805.02867), so that nothing overflows.
#include "model/torch/cuda/kl.h"

#include <cuda_bf16.h>

namespace whit::torch_room {
namespace {

constexpr int kThreads = 512;

// max and sum exp(x - max) of both, and sum exp(t - max t) (t - s).
struct Sums {
  float student_max, student_sum, teacher_max, teacher_sum, weighted;
};

__device__ Sums merged(const Sums& a, const Sums& b) {
  Sums out;
  out.student_max = fmaxf(a.student_max, b.student_max);
  out.student_sum = a.student_sum * __expf(a.student_max - out.student_max) +
                    b.student_sum * __expf(b.student_max - out.student_max);
  out.teacher_max = fmaxf(a.teacher_max, b.teacher_max);
  const float left = __expf(a.teacher_max - out.teacher_max), right = __expf(b.teacher_max - out.teacher_max);
  out.teacher_sum = a.teacher_sum * left + b.teacher_sum * right;
  out.weighted = a.weighted * left + b.weighted * right;
  return out;
}

__global__ void kl_rows(const float* student, const float* teacher, float scale, __nv_bfloat16* gradient, float* kl,
                        int64_t vocabulary) {
  const int64_t row = blockIdx.x;
  student += row * vocabulary;
  teacher += row * vocabulary;
  gradient += row * vocabulary;
  Sums mine{-1e30f, 0.f, -1e30f, 0.f, 0.f};
  for (int64_t i = threadIdx.x; i < vocabulary; i += kThreads) {
    const float s = student[i], t = teacher[i];
    mine = merged(mine, Sums{s, 1.f, t, 1.f, t - s});
  }
  __shared__ Sums shared[kThreads];
  shared[threadIdx.x] = mine;
  __syncthreads();
  for (int step = kThreads / 2; step > 0; step /= 2) {
    if (threadIdx.x < step) shared[threadIdx.x] = merged(shared[threadIdx.x], shared[threadIdx.x + step]);
    __syncthreads();
  }
  const Sums all = shared[0];
  if (threadIdx.x == 0)
    kl[row] = all.weighted / all.teacher_sum - all.teacher_max - logf(all.teacher_sum) + all.student_max +
              logf(all.student_sum);
  const float student_factor = scale / all.student_sum, teacher_factor = scale / all.teacher_sum;
  for (int64_t i = threadIdx.x; i < vocabulary; i += kThreads)
    gradient[i] = __float2bfloat16(__expf(student[i] - all.student_max) * student_factor -
                                   __expf(teacher[i] - all.teacher_max) * teacher_factor);
}

}  // namespace

int launch_kl(const float* student, const float* teacher, float scale, void* gradient, float* kl, int64_t rows,
              int64_t vocabulary, void* stream) {
  kl_rows<<<static_cast<unsigned>(rows), kThreads, 0, static_cast<cudaStream_t>(stream)>>>(
      student, teacher, scale, static_cast<__nv_bfloat16*>(gradient), kl, vocabulary);
  return static_cast<int>(cudaGetLastError());
}

}  // namespace whit::torch_room
