// What this machine can do at most: the yardstick beside every measured speed.
#pragma once

#include <string>

#include "base/threads.h"

namespace whit {

struct MachinePeaks {
  double read_gigabytes_per_second = 0;  // all threads of the pool reading memory that no cache holds
  double gigaflops = 0;                  // 32-bit multiply-adds in registers, two operations each
  std::string isa;
};

// Takes about half a second. `isa` as in RuntimeOptions. Best of several rounds: noise only ever lowers a peak.
MachinePeaks measure_machine_peaks(ThreadPool& pool, const std::string& isa = "");

}  // namespace whit
