#include "runtime/peaks.h"

#include <algorithm>
#include <chrono>

#include "runtime/buffer.h"
#include "runtime/cpu/dispatch.h"

namespace whit {

MachinePeaks measure_machine_peaks(ThreadPool& pool, const std::string& isa) {
  using Clock = std::chrono::steady_clock;
  const auto seconds = [](Clock::time_point begin) {
    return std::chrono::duration<double>(Clock::now() - begin).count();
  };
  MachinePeaks peaks;
  peaks.isa = cpu::choose_level(isa);
  const cpu::Kernels kernels = cpu::kernels_of(peaks.isa);

  // 256 MiB is beyond any last-level cache that a core of a common machine can fill.
  constexpr size_t kFloats = size_t{64} << 20;
  Buffer<float> memory(kFloats);
  std::fill_n(memory.data(), kFloats, 1.0f);  // untouched pages would all be the one zero page
  float sink = 0;
  for (int round = 0; round < 6; ++round) {
    const auto begin = Clock::now();
    pool.parallel_for(kFloats, 1024, [&](size_t first, size_t last, int worker) {
      const float sum = kernels.read_memory(memory.data() + first, last - first);
      if (worker == 0) sink += sum;
    });
    peaks.read_gigabytes_per_second = std::max(peaks.read_gigabytes_per_second, kFloats * 4.0 / seconds(begin) * 1e-9);
  }
  constexpr size_t kRounds = 20000;
  for (int round = 0; round < 6; ++round) {
    const auto begin = Clock::now();
    pool.run([&](int worker) {
      const float sum = kernels.fma_burst(kRounds);
      if (worker == 0) sink += sum;
    });
    const double flops = static_cast<double>(kRounds) * cpu::kFmaFlops * pool.threads();
    peaks.gigaflops = std::max(peaks.gigaflops, flops / seconds(begin) * 1e-9);
  }
  if (sink == 0.125f) peaks.isa += " ";  // keeps the sums alive
  return peaks;
}

}  // namespace whit
