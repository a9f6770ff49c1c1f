#include "base/memory.h"

#include <malloc.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <condition_variable>
#include <cstdio>
#include <mutex>
#include <thread>

namespace whit {

MemoryUse memory_use() noexcept {
  MemoryUse use;
  std::FILE* file = std::fopen("/proc/self/status", "r");
  if (!file) return use;
  char line[256];
  unsigned long long kilobytes;
  while (std::fgets(line, sizeof(line), file)) {
    if (std::sscanf(line, "RssAnon: %llu", &kilobytes) == 1 || std::sscanf(line, "RssShmem: %llu", &kilobytes) == 1)
      use.anonymous_and_shared += kilobytes * 1024;
    if (std::sscanf(line, "VmHWM: %llu", &kilobytes) == 1) use.resident_peak = kilobytes * 1024;
  }
  std::fclose(file);
  return use;
}

struct PeakMemory::State {
  std::atomic<uint64_t> peak{0};
  std::mutex mutex;
  std::condition_variable wake;
  bool stop = false;
  std::thread thread;

  void sample() noexcept {
    const uint64_t now = memory_use().anonymous_and_shared;
    uint64_t seen = peak.load(std::memory_order_relaxed);
    while (now > seen && !peak.compare_exchange_weak(seen, now)) {
    }
  }
};

PeakMemory::PeakMemory() : state_(std::make_unique<State>()) {
  state_->sample();
  state_->thread = std::thread([s = state_.get()] {
    std::unique_lock lock(s->mutex);
    while (!s->wake.wait_for(lock, std::chrono::milliseconds(5), [&] { return s->stop; })) s->sample();
  });
}

PeakMemory::~PeakMemory() {
  {
    std::lock_guard lock(state_->mutex);
    state_->stop = true;
  }
  state_->wake.notify_all();
  state_->thread.join();
}

uint64_t PeakMemory::peak() const noexcept {
  state_->sample();
  return state_->peak;
}

void PeakMemory::reset() noexcept {
  state_->peak = 0;
  state_->sample();
}

void return_freed_memory_at_once() noexcept {
  mallopt(M_MMAP_THRESHOLD, 256 * 1024);
  mallopt(M_TRIM_THRESHOLD, 256 * 1024);
}

KeepFreedMemory::KeepFreedMemory() noexcept {
  mallopt(M_MMAP_MAX, 0);
  mallopt(M_TRIM_THRESHOLD, -1);
}
KeepFreedMemory::~KeepFreedMemory() {
  mallopt(M_MMAP_MAX, 65536);  // glibc's own default
  return_freed_memory_at_once();
  malloc_trim(0);
}

}  // namespace whit
