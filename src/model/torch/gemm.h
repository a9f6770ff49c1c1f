// Inside model/torch: the room's pool and one BLAS call on raw memory. No torch header here.
//
// All heavy work of this room is split by us: each worker of pool() calls a single-threaded BLAS on its own fixed
// range. OpenBLAS's and OpenMP's own pools would fight for the cores (each spins for milliseconds after its last job),
// and fixed ranges give the same bits on every run with the same number of threads.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>

#include "base/threads.h"

namespace whit::torch_room {

// The room's pool, of the size that set_torch_threads() gave (1 before that). Not for use from inside a worker.
ThreadPool& pool();
int pool_threads() noexcept;

// While one of these lives, BLAS calls of every thread run in the calling thread. Nestable; used by the room's one
// caller.
class SerialBlas {
 public:
  SerialBlas();
  ~SerialBlas();
  SerialBlas(const SerialBlas&) = delete;
  SerialBlas& operator=(const SerialBlas&) = delete;
};

// pool().run / parallel_for under SerialBlas, without autograd in the workers.
void run_parallel(const std::function<void(int worker)>& body);
void run_parallel(size_t count, size_t grain, const std::function<void(size_t begin, size_t end, int worker)>& body);

// A strided operand: element (i, j) stands at data[i * row + j * col]; one of the strides is 1.
struct Operand {
  const float* data;
  int64_t row, col;
};
// c[m, n] (rows c_stride apart) = beta * c + alpha * a[m, k] * b[k, n], in the calling thread. beta 0 ignores what c
// holds.
void gemm(int64_t m, int64_t n, int64_t k, float alpha, Operand a, Operand b, float beta, float* c, int64_t c_stride);

// The same over the pool, split over rows (or columns where there are few rows).
void parallel_gemm(int64_t m, int64_t n, int64_t k, float alpha, Operand a, Operand b, float beta, float* c,
                   int64_t c_stride);

}  // namespace whit::torch_room
