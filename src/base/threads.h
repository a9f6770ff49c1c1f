// One pool of threads, passed in by the caller. Work is split into fixed ranges, so results do not depend on timing.
#pragma once

#include <cstddef>
#include <functional>
#include <memory>

namespace whit {

class ThreadPool {
 public:
  // `threads` counts the calling thread too; 0 means all cores. Throws ErrorKind::usage when it is above 1024.
  explicit ThreadPool(int threads);
  ~ThreadPool();
  ThreadPool(const ThreadPool&) = delete;
  ThreadPool& operator=(const ThreadPool&) = delete;

  int threads() const noexcept;

  // Calls body(worker) once for each worker 0..threads()-1 and waits for all. The first exception is rethrown. Threads
  // that share a pool take turns; a body must not call its own pool.
  void run(const std::function<void(int worker)>& body);

  // Splits [0, count) into threads() contiguous ranges whose bounds are multiples of `grain` and calls
  // body(begin, end, worker) for each non-empty one. The split depends on count, grain and threads() alone.
  void parallel_for(size_t count, size_t grain, const std::function<void(size_t begin, size_t end, int worker)>& body);

 private:
  struct State;
  std::unique_ptr<State> state_;
};

// Number of cores that this process may use.
int available_cores() noexcept;

}  // namespace whit
