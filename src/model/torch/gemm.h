// Inside model/torch: the room's pool and one BLAS call on raw memory. No torch header here.
//
// All heavy work of this room is split by us: each worker of the pool calls a single-threaded BLAS on its own fixed
// range. OpenBLAS's and OpenMP's own pools would fight for the cores (each spins for milliseconds after its last job),
// and fixed ranges give the same bits on every run with the same number of threads.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <mutex>

#include "base/threads.h"

namespace whit::torch_room {

// Threads of the room's pool, as set_torch_threads() fixed them (1 before that).
int pool_threads() noexcept;

// ThreadPool::run and parallel_for over the room's pool, with single-threaded BLAS and without autograd in the workers.
// One section at a time: callers on other threads wait. Not to be called from inside a worker.
void run_parallel(const std::function<void(int worker)>& body);
void run_parallel(size_t count, size_t grain, const std::function<void(size_t begin, size_t end, int worker)>& body);
// Held by every section; to be held around a multi-threaded BLAS or LAPACK call, whose bits depend on its threads.
std::mutex& room_mutex();

// While one lives, BLAS and LAPACK calls of every thread run in the calling thread. Under room_mutex() only.
struct SerialBlas {
  SerialBlas();
  ~SerialBlas();
  SerialBlas(const SerialBlas&) = delete;
  SerialBlas& operator=(const SerialBlas&) = delete;
};

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
