// What the units of a block see, summed while the calibration windows run through it.
#pragma once

#include <map>
#include <string>

#include "methods/stages.h"
#include "model/torch/executor.h"

namespace whit {

// Sums of x x^T of every unit's inputs, by kind; mean() divides by the tokens. Holds one [cols, cols] matrix a kind.
class Grams {
 public:
  InputHook hook();  // for run_block; valid while this lives
  void add(const std::string& kind, MatrixView rows);
  UnitStatistics mean(const std::string& kind);  // takes the statistics of one kind out

 private:
  std::map<std::string, UnitStatistics> units_;
};

}  // namespace whit
