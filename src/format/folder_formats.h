// How quantized Hugging Face folders store a matrix. These are read as they lie in the files and written nowhere
// (Format::storable() is false).
#pragma once

#include <array>

#include "format/format.h"

namespace whit {

// E4M3 (one sign, four bits of exponent with bias 7, three of mantissa; no infinities, 0x7f and 0xff are NaN), exactly.
float f8_e4m3_to_float(uint8_t code) noexcept;

// Parts: codes [rows, cols] of one byte, scales as floats [ceil(rows / rows_per_scale), ceil(cols / cols_per_scale)];
// w = f8 * scale, one rounding to float.
FormatPtr make_scaled_f8(uint64_t rows_per_scale, uint64_t cols_per_scale);

// Codes and zeros of 4 bits, eight to a 32-bit word, of a linear [out, in]; w = scale * (code - zero), exact in floats.
//   gptq: codes [in / 8, out], input i at bits 4 (i mod 8);  awq: codes [in, out / 8], outputs 8 c .. 8 c + 7 at the
//   bits 4 * {0, 4, 1, 5, 2, 6, 3, 7}. Zeros are [groups, out / 8], in the order of the outputs (gptq) or as the codes
//   (awq).
// Scales are halves [groups, out].
struct PackedInt4 {
  bool awq = false;
  bool zeros_minus_one = false;  // gptq's first version: the zero is the stored number + 1, modulo 16
  uint64_t groups = 1;
};
// Parts: codes, zeros, scales, and the group of each input, [in] i32, each from 0 to groups - 1 (checked by whoever
// made it).
FormatPtr make_packed_int4(const PackedInt4& options);

}  // namespace whit
