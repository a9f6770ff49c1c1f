#include "base/memory.h"

#include <fmt/format.h>
#include <malloc.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <condition_variable>
#include <cstdio>
#include <fstream>
#include <mutex>
#include <string>
#include <system_error>
#include <thread>

#include "base/error.h"
#include "base/progress.h"

namespace whit {
namespace {

// The limit of a control group; UINT64_MAX where there is none ("max", or a number that no machine has).
uint64_t group_limit(const std::string& file) {
  std::ifstream stream(file);
  uint64_t limit = 0;
  return stream >> limit ? limit : UINT64_MAX;
}

// The least limit of the memory groups that /proc/self/cgroup names ("7:memory:/a/b", "0::/a/b") and of their parents. In a
// container the path may be the host's, and the mount begins at the group itself: its top is looked at in any case.
uint64_t least_group_limit() {
  uint64_t least = UINT64_MAX;
  std::ifstream groups("/proc/self/cgroup");
  for (std::string line; std::getline(groups, line);) {
    const size_t first = line.find(':'), second = line.find(':', first + 1);
    if (second == std::string::npos) continue;
    const std::string controllers = line.substr(first + 1, second - first - 1);
    const bool unified = controllers.empty();
    if (!unified && controllers != "memory") continue;
    for (std::string path = line.substr(second + 1);; path.resize(path.find_last_of('/'))) {
      while (path.ends_with('/')) path.pop_back();
      least = std::min(least, unified ? group_limit("/sys/fs/cgroup" + path + "/memory.max")
                                      : group_limit("/sys/fs/cgroup/memory" + path + "/memory.limit_in_bytes"));
      if (path.find('/') == std::string::npos) break;
    }
  }
  return least;
}

}  // namespace

uint64_t available_memory() noexcept {
  try {
    uint64_t available = UINT64_MAX;
    std::ifstream file("/proc/meminfo");
    for (std::string line; std::getline(file, line);)
      if (unsigned long long kilobytes; std::sscanf(line.c_str(), "MemAvailable: %llu", &kilobytes) == 1)
        available = kilobytes * 1024;
    const uint64_t limit = least_group_limit(), held = memory_use().anonymous_and_shared;
    return limit == UINT64_MAX ? available : std::min(available, limit > held ? limit - held : 0);
  } catch (const std::exception&) {  // no memory to ask with
    return 0;
  }
}

void note_if_too_large(Progress& progress, std::string_view what, uint64_t bytes, std::string_view so) {
  if (const uint64_t available = available_memory(); bytes > available)
    progress.note(fmt::format("{} {:.2f} GB and {:.2f} GB of memory are free: {}", what, static_cast<double>(bytes) / 1e9,
                              static_cast<double>(available) / 1e9, so));
}

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
  try {
    state_->thread = std::thread([s = state_.get()] {
      std::unique_lock lock(s->mutex);
      while (!s->wake.wait_for(lock, std::chrono::milliseconds(5), [&] { return s->stop; })) s->sample();
    });
  } catch (const std::system_error& error) {
    throw Error(ErrorKind::budget, "a thread cannot be started", {}, error.code().message(), "a larger limit on processes or memory");
  }
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
