#include "base/threads.h"

#include <sched.h>

#include <algorithm>
#include <atomic>
#include <condition_variable>
#include <exception>
#include <mutex>
#include <system_error>
#include <thread>
#include <vector>

#include "base/error.h"

namespace whit {
namespace {

void cpu_relax() noexcept {
#if defined(__x86_64__)
  __builtin_ia32_pause();
#elif defined(__aarch64__)
  asm volatile("yield");
#endif
}

}  // namespace

int available_cores() noexcept {
  cpu_set_t set;
  CPU_ZERO(&set);
  if (sched_getaffinity(0, sizeof(set), &set) == 0) return std::max(1, CPU_COUNT(&set));
  return std::max(1u, std::thread::hardware_concurrency());
}

// A job is announced by raising `generation`; workers spin briefly on it before they sleep, because a decode step
// hands out some 200 jobs of a few microseconds each and a futex round trip would cost as much as the job.
struct ThreadPool::State {
  int threads = 1;
  std::vector<std::thread> workers;
  std::mutex caller;  // one job at a time, whoever hands it out
  std::mutex mutex;
  std::condition_variable wake;
  std::atomic<uint64_t> generation{0};
  std::atomic<int> pending{0};
  std::atomic<bool> stop{false};
  const std::function<void(int)>* body = nullptr;
  std::exception_ptr error;

  void call(int worker) noexcept {
    try {
      (*body)(worker);
    } catch (...) {
      std::lock_guard lock(mutex);
      if (!error) error = std::current_exception();
    }
  }

  void loop(int worker) {
    uint64_t seen = 0;
    for (;;) {
      for (int spin = 0; spin < 4000 && generation.load(std::memory_order_acquire) == seen; ++spin)
        cpu_relax();
      if (generation.load(std::memory_order_acquire) == seen) {
        std::unique_lock lock(mutex);
        wake.wait(lock, [&] { return generation.load(std::memory_order_acquire) != seen || stop; });
      }
      if (stop) return;
      seen = generation.load(std::memory_order_acquire);
      call(worker);
      pending.fetch_sub(1, std::memory_order_release);
    }
  }

  void end() noexcept {
    {
      std::lock_guard lock(mutex);
      stop = true;
      generation.fetch_add(1, std::memory_order_release);
    }
    wake.notify_all();
    for (auto& worker : workers) worker.join();
  }
};

ThreadPool::ThreadPool(int threads) : state_(std::make_unique<State>()) {
  if (threads < 0 || threads > 1024)
    throw Error(ErrorKind::usage, "the number of threads must be between 0 (all cores) and 1024", "--threads",
                std::to_string(threads));
  state_->threads = threads == 0 ? available_cores() : threads;
  try {
    for (int worker = 1; worker < state_->threads; ++worker)
      state_->workers.emplace_back([this, worker] { state_->loop(worker); });
  } catch (const std::system_error& error) {
    const size_t started = state_->workers.size() + 1;
    state_->end();
    throw Error(ErrorKind::budget, "the system gives no more threads", "--threads",
                std::to_string(started) + " of " + std::to_string(state_->threads) + ": " + error.what(),
                "fewer --threads, or a higher limit (`ulimit -u`, `ulimit -v`)");
  }
}

ThreadPool::~ThreadPool() { state_->end(); }

int ThreadPool::threads() const noexcept { return state_->threads; }

void ThreadPool::run(const std::function<void(int)>& body) {
  State& s = *state_;
  std::lock_guard one_job(s.caller);
  s.body = &body;
  s.error = nullptr;
  if (s.threads > 1) {
    s.pending.store(s.threads - 1, std::memory_order_relaxed);
    {
      std::lock_guard lock(s.mutex);
      s.generation.fetch_add(1, std::memory_order_release);
    }
    s.wake.notify_all();
  }
  s.call(0);
  for (int spin = 0; s.pending.load(std::memory_order_acquire) != 0; ++spin) {
    if (spin < 20000)
      cpu_relax();
    else
      std::this_thread::yield();
  }
  if (s.error) std::rethrow_exception(s.error);
}

void ThreadPool::parallel_for(size_t count, size_t grain,
                              const std::function<void(size_t, size_t, int)>& body) {
  if (count == 0) return;
  grain = std::max<size_t>(grain, 1);
  const size_t units = (count + grain - 1) / grain;
  const size_t parts = static_cast<size_t>(state_->threads);
  if (parts == 1 || units == 1) return body(0, count, 0);
  run([&](int worker) {
    const size_t w = static_cast<size_t>(worker);
    const size_t begin = units * w / parts * grain;
    const size_t end = std::min(units * (w + 1) / parts * grain, count);
    if (begin < end) body(begin, end, worker);
  });
}

}  // namespace whit
