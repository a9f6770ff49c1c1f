// Rounding of one group of weights by itself, to the least squared error that a plain search finds, large weights
// counted somewhat more: how `convert` writes ggml types. Used by the formats of ggml only.
#pragma once

#include <cstddef>
#include <cstdint>

namespace whit::block_fit {

// w = scale * (code - centre); the scale may be negative, so that the longer side of the codes serves the larger
// weights.
struct Symmetric {
  float scale = 0;
  double error = 0;  // weighted sum of squares
};
// Codes 0 .. levels - 1 of x[0 .. n), n <= 256, and the scale, as rounded to a half where `half`.
Symmetric fit_symmetric(const float* x, size_t n, int levels, int centre, bool half, uint8_t* codes);

// w = scale * code + minimum, scale >= 0.
struct Ranged {
  float scale = 0, minimum = 0;
  double error = 0;
};
// The same.
Ranged fit_ranged(const float* x, size_t n, int levels, bool half, uint8_t* codes);

// A block of 256 weights of a K type: every sub-block of `sub` weights has an integer scale (and minimum), the block
// one or two half floats.
struct SuperShape {
  int sub = 16;                       // weights of a sub-block: 16 or 32
  int levels = 16, centre = 0;        // codes are 0 .. levels - 1
  int scale_low = 0, scale_high = 0;  // integer scales that can be stored
  bool minima = false;                // w = d scale code - dmin minimum, both integers 0 .. scale_high
};
struct SuperBlock {
  float d = 0, dmin = 0;  // halves
  int scales[16] = {}, minima[16] = {};
  uint8_t codes[256] = {};
  double error = 0;
};
SuperBlock fit_super(const float* x, const SuperShape& shape);

}  // namespace whit::block_fit
