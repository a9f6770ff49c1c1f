// What is seen of a unit's inputs while the calibration text runs through its block.
#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <vector>

#include "calibrate/cache.h"
#include "model/torch/executor.h"
#include "model/torch/matrix.h"

namespace whit {

struct InputStatistics {
  Matrix gram;          // [cols, cols], mean over tokens of x x^T
  uint64_t tokens = 0;  // 0: nothing seen, gram is empty
};

// Sums x x^T: in float inside a chunk of a few thousand tokens, in double over chunks, so that the error does not grow
// with the length of the text. Holds 12 bytes per element. The same calls with the same threads give the same bits.
class GramAccumulator {
 public:
  void add(MatrixView rows);  // [tokens, cols]; cols is that of the first call
  uint64_t tokens() const noexcept { return tokens_; }
  InputStatistics mean() const;
  static uint64_t bytes(uint64_t cols) noexcept { return 12 * cols * cols; }

 private:
  void flush();
  Matrix chunk_;  // not yet in sum_
  uint64_t chunk_tokens_ = 0, tokens_ = 0;
  std::vector<double> sum_;
};

// The statistics of all units of one block, by unit kind: pass hook() to run_block.
class BlockStatistics {
 public:
  InputHook hook();  // valid while this lives
  // Of the kinds that were seen; what is summed is released.
  std::map<std::string, InputStatistics> finish();

 private:
  std::map<std::string, GramAccumulator> units_;
};

// In the cache under `key` (Hasher::hex() of all that the statistics depend on: model, text, threads, what ran before).
void save_statistics(const Cache& cache, const std::string& key, const std::map<std::string, InputStatistics>& units);
// False when there is no entry. A damaged one is ErrorKind::integrity.
bool load_statistics(const Cache& cache, const std::string& key, std::map<std::string, InputStatistics>& units);

}  // namespace whit
