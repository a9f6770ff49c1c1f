// Fits scale and minimum of the groups of an affine format to a matrix, under weights of importance per input, and
// rounds the matrix to the levels. Shared by every rounding method.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "base/options.h"
#include "base/threads.h"
#include "format/format.h"

namespace whit {

struct AffineFitOptions {
  std::string range = "least_squares";
  int64_t candidates = 16;
  int64_t rounds = 4;
  bool source_grid = true;
  template <class V>
  void visit(V& v) {
    v("range", range,
      "how scale and minimum of a group are found: its extremes, the best of several shrunken ranges, or alternating "
      "rounding and weighted least squares from each of these",
      Choices{{"minmax", "search", "least_squares"}});
    v("candidates", candidates, "shrunken ranges that search and least_squares try", Range{1, 64});
    v("rounds", rounds, "rounds of least_squares before, and of re-fitting after the parameters are rounded",
      Range{0, 32});
    v("source_grid", source_grid, "start also from the levels that the source file was stored with");
  }
};

struct AffineFitInput {
  const AffineFormat& format;
  Shape shape;
  const float* weights;               // [rows, cols], finite
  std::span<const float> importance;  // [cols], >= 0; empty: all the same
  const uint8_t* mask = nullptr;      // [rows, cols], 0 = not counted; null: all count
  const AffineParameters* source = nullptr;
  uint64_t source_group = 0;  // a multiple of the format's group, or source is ignored
};

// Storable parameters (round_parameters leaves them as they are). The result does not depend on the number of threads.
AffineParameters fit_affine(const AffineFitInput& input, const AffineFitOptions& options, ThreadPool& pool);

// Nearest codes under given parameters; masked weights get the code of exact zero.
std::vector<uint8_t> nearest_codes(const AffineFitInput& input, const AffineParameters& parameters, ThreadPool& pool);

// Code of exact zero under (scale, minimum), or -1 where the levels do not contain it.
int zero_code(float scale, float minimum, uint32_t levels) noexcept;

}  // namespace whit
