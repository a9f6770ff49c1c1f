#include "model/torch/gemm.h"

#include <ATen/Parallel.h>
#include <ATen/core/Tensor.h>
#include <ATen/ops/addmm.h>
#include <ATen/ops/from_blob.h>
#include <c10/core/InferenceMode.h>
#include <dlfcn.h>

#include <memory>
#include <mutex>

#include "base/error.h"
#include "model/torch/matrix.h"

namespace whit {
namespace torch_room {
namespace {

// Looked up at run time, so that a LibTorch over another BLAS (MKL inside the official builds) links and works too.
using Setter = void (*)(int);
Setter openblas_setter() noexcept {
  static const Setter setter = reinterpret_cast<Setter>(::dlsym(RTLD_DEFAULT, "openblas_set_num_threads"));
  return setter;
}

void set_blas_threads(int threads) noexcept {
  if (const Setter setter = openblas_setter())
    setter(threads);
  else
    at::set_num_threads(threads);  // MKL follows it
}

// MKL's, oneDNN's and OpenMP's numbers are those of the calling thread: without this every worker of the pool would
// start as many threads of its own as the machine has cores, and they would wait for each other by spinning.
void serial_worker() noexcept {
  thread_local bool done = false;
  if (done) return;
  at::set_num_threads(1);
  done = true;
}

struct PoolState {
  int threads = 1;
  std::unique_ptr<ThreadPool> pool = std::make_unique<ThreadPool>(1);
};

PoolState& state() {
  static PoolState s;
  return s;
}

// Products below this many multiplications take less time than to wake the pool.
constexpr int64_t kSmall = 1 << 17;

}  // namespace

SerialBlas::SerialBlas() { set_blas_threads(1); }
SerialBlas::~SerialBlas() { set_blas_threads(state().threads); }

int pool_threads() noexcept { return state().threads; }

std::mutex& room_mutex() {
  static std::mutex mutex;
  return mutex;
}

void run_parallel(const std::function<void(int)>& body) {
  const std::lock_guard lock(room_mutex());
  const SerialBlas serial;
  state().pool->run([&](int worker) {
    const c10::InferenceMode no_autograd;
    if (worker != 0) serial_worker();
    body(worker);
  });
}

void run_parallel(size_t count, size_t grain, const std::function<void(size_t, size_t, int)>& body) {
  if (count == 0) return;
  const std::lock_guard lock(room_mutex());
  const SerialBlas serial;
  state().pool->parallel_for(count, grain, [&](size_t begin, size_t end, int worker) {
    const c10::InferenceMode no_autograd;
    if (worker != 0) serial_worker();
    body(begin, end, worker);
  });
}

void gemm(int64_t m, int64_t n, int64_t k, float alpha, Operand a, Operand b, float beta, float* c, int64_t c_stride) {
  if (m == 0 || n == 0) return;
  const auto view = [](const float* data, int64_t rows, int64_t cols, int64_t row, int64_t col) {
    return at::from_blob(const_cast<float*>(data), {rows, cols}, {row, col});
  };
  at::Tensor out = view(c, m, n, c_stride, 1);
  at::addmm_out(out, out, view(a.data, m, k, a.row, a.col), view(b.data, k, n, b.row, b.col), beta, alpha);
}

void parallel_gemm(int64_t m, int64_t n, int64_t k, float alpha, Operand a, Operand b, float beta, float* c,
                   int64_t c_stride) {
  if (m * n * k < kSmall)
    return run_parallel(1, 1, [&](size_t, size_t, int) { gemm(m, n, k, alpha, a, b, beta, c, c_stride); });
  if (m >= n || m >= 64 * pool_threads()) {
    run_parallel(static_cast<size_t>(m), 16, [&](size_t begin, size_t end, int) {
      const int64_t first = static_cast<int64_t>(begin);
      gemm(static_cast<int64_t>(end) - first, n, k, alpha, {a.data + first * a.row, a.row, a.col}, b, beta,
           c + first * c_stride, c_stride);
    });
  } else {
    run_parallel(static_cast<size_t>(n), 16, [&](size_t begin, size_t end, int) {
      const int64_t first = static_cast<int64_t>(begin);
      gemm(m, static_cast<int64_t>(end) - first, k, alpha, a, {b.data + first * b.col, b.row, b.col}, beta, c + first,
           c_stride);
    });
  }
}

}  // namespace torch_room

void set_torch_threads(int threads) {
  if (threads < 0 || threads > 1024)
    throw Error(ErrorKind::usage, "the number of threads must be between 0 (all cores) and 1024", "--threads",
                std::to_string(threads));
  const std::lock_guard lock(torch_room::room_mutex());
  auto& s = torch_room::state();
  const int wanted = threads == 0 ? available_cores() : threads;
  if (wanted != s.threads) s.pool = std::make_unique<ThreadPool>(wanted);
  s.threads = wanted;
  at::set_num_threads(wanted);
  torch_room::set_blas_threads(wanted);
}

}  // namespace whit
