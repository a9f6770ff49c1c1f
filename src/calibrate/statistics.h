// What the units of a block see, summed while the calibration windows run through it.
#pragma once

#include <cstdint>
#include <map>
#include <string>

#include "model/torch/executor.h"
#include "model/torch/matrix.h"

namespace whit {

// What was seen of a unit's inputs.
struct UnitStatistics {
  Matrix gram;          // [cols, cols], mean over tokens of x x^T
  uint64_t tokens = 0;  // 0: no statistics, gram is empty
};

// Sums of x x^T of every unit's inputs, by kind; mean() divides by the tokens. Holds one [cols, cols] matrix a kind.
class Grams {
 public:
  InputHook hook();  // for run_block; valid while this lives
  void add(const std::string& kind, MatrixView rows);
  void add(const std::string& kind, const Tensor& rows);  // [tokens, cols]; the sum stays where they are
  UnitStatistics mean(const std::string& kind);  // takes the statistics of one kind out

 private:
  std::map<std::string, UnitStatistics> units_;
  std::map<std::string, Tensor> on_device_;
};

}  // namespace whit
