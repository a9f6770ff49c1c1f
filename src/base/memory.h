// Resident memory of this process as the kernel accounts it.
#pragma once

#include <cstdint>
#include <memory>
#include <string_view>

namespace whit {

class Progress;

struct MemoryUse {
  uint64_t anonymous_and_shared = 0;  // RssAnon + RssShmem: what whit promises (file pages can be dropped)
  uint64_t resident_peak = 0;         // VmHWM: the operating system's maximum, file pages included
};

// Reads /proc/self/status. All zero where that does not exist.
MemoryUse memory_use() noexcept;

// Bytes that this process may still take before the system pages or kills: the kernel's MemAvailable, and what the control
// groups around the process (either version) leave beside what it holds. UINT64_MAX where nobody says.
uint64_t available_memory() noexcept;

// A note if that is less than `bytes`: "`what` 3.30 GB and 2.10 GB of memory are free: `so`".
void note_if_too_large(Progress& progress, std::string_view what, uint64_t bytes, std::string_view so);

// Samples anonymous_and_shared every few milliseconds on a thread of its own and keeps the maximum.
class PeakMemory {
 public:
  PeakMemory();
  ~PeakMemory();
  uint64_t peak() const noexcept;
  void reset() noexcept;

 private:
  struct State;
  std::unique_ptr<State> state_;
};

// Makes the C library give large buffers back to the system at once, so that promised memory is what is resident.
void return_freed_memory_at_once() noexcept;

// While it lives, the C library keeps what is freed for whoever asks next. Training asks for the same large buffers in every
// step, and pages that come anew from the system, zeroed, cost it a third of its time (docs/design/tune.md).
class KeepFreedMemory {
 public:
  KeepFreedMemory() noexcept;
  ~KeepFreedMemory();
  KeepFreedMemory(const KeepFreedMemory&) = delete;
  KeepFreedMemory& operator=(const KeepFreedMemory&) = delete;
};

}  // namespace whit
