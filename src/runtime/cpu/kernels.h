// What the kernels of one instruction-set level are called with. Plain pointers: callers check, kernels trust.
#pragma once

#include <cstddef>
#include <cstdint>

namespace whit::cpu {

// Rows of a weight panel, keys of a panel of the key cache. 32 floats are two registers of AVX-512, the narrowest width
// at which one load of weights serves enough multiplications; narrower levels walk it in pieces of two registers.
inline constexpr size_t kPanel = 32;
// Rows of codes and activations are padded to this many elements.
inline constexpr size_t kPad = 32;
inline constexpr size_t padded(size_t n) { return (n + kPad - 1) / kPad * kPad; }
// Floating-point operations of one round of fma_burst.
inline constexpr size_t kFmaFlops = 12 * 16 * 2 * 64;

// How the grid stores a group's minimum.
enum class Zero : uint8_t { minimum, integer, symmetric };

// What a network's hidden layer applies to each number; gelu in its exact form or as tanh (1606.08415).
enum class Curve : uint8_t { silu, relu, gelu, gelu_tanh };

// `decoded`: by the format's own decoder, a row at a time; for formats without kernels.
enum class Storage : uint8_t {
  f32,
  f16,
  bf16,
  decoded,
  q8_0,
  q4_0,
  q4_1,
  q5_0,
  q5_1,
  q2_k,
  q3_k,
  q4_k,
  q5_k,
  q6_k,
  iq4_nl,
  iq4_xs,
  mxfp4,
  tq2_0,  // blocks of ggml
  grid,
  nm_sign
};

// A matrix as it is stored. Affine storages: w = column[j] * (scale * (q - offset) + minimum), q a code 0..2^bits - 1,
// scale and minimum per `group` weights of a row.
struct StoredMatrix {
  Storage storage = Storage::f32;
  size_t rows = 0, cols = 0;
  size_t first_row = 0;        // of the view, inside the stored tensor
  size_t half_split_head = 0;  // see StoredTensor
  const uint8_t* codes = nullptr;
  const uint8_t* codes_end = nullptr;  // of the whole part: nothing is read at or past it
  size_t row_bytes = 0;
  size_t group = 0;    // a multiple of 8; padded(cols) when a row is one group
  size_t groups = 0;   // per row
  int32_t offset = 0;  // of codes: 8 (q4_0), 128 (q8_0), 1 (nm_sign), ...
  bool has_minimum = false;
  uint32_t bits = 0;                          // of codes; 0: no affine storage
  size_t block_weights = 0, block_bytes = 0;  // ggml only
  // grid only, parts as format/grid.h lays them out. bits 1 (a factor of lowrank_sign): symmetric, one group a row,
  // scales of 16 bits.
  uint32_t parameter_bits = 0;
  Zero zero = Zero::minimum;
  const uint8_t *scales = nullptr, *scales_end = nullptr, *minima = nullptr, *minima_end = nullptr;
  size_t parameter_row_bytes = 0;  // of scales and of minima
  const uint8_t *zeros = nullptr, *zeros_end = nullptr;
  size_t zeros_row_bytes = 0;
  const uint8_t* row_scales = nullptr;
  size_t row_scales_bytes = 0;
  // decoded only: decode(tensor, stored row, out[cols])
  const void* tensor = nullptr;
  void (*decode)(const void* tensor, size_t stored, float* out) noexcept = nullptr;

  // nm_sign only (format/nm_sign.h): codes are the masks' numbers, scales the rows' halves; q is 0, 1 (not kept) or 2
  uint32_t kept = 0, of = 0;  // n, m
  // By number; null: unranked one by one. Places of the bits, a byte each; null: more than four.
  const uint32_t *masks = nullptr, *places = nullptr;
  const uint8_t *signs = nullptr, *signs_end = nullptr;
  size_t signs_row_bytes = 0;

  bool affine() const noexcept { return storage >= Storage::q8_0; }
  size_t stored_row(size_t row) const noexcept {
    row += first_row;
    if (half_split_head == 0) return row;
    const size_t inside = row % half_split_head;
    return row - inside + (inside % 2) * (half_split_head / 2) + inside / 2;
  }
  // Activations are quantized in blocks that lie inside one weight group.
  size_t activation_block() const noexcept { return group % 32 == 0 ? 32 : group % 16 == 0 ? 16 : 8; }
};

// Scratch of one worker for matrices of up to `cols` columns.
struct RowScratch {
  uint8_t* codes = nullptr;     // kPanel x (padded(cols) + 64)
  float* parameters = nullptr;  // 4 x padded(cols) / 8 + 64
  float* floats = nullptr;      // kPanel x (padded(cols) + 16) + 16
};

struct CodePanel {
  uint8_t* codes = nullptr;
  float* scales = nullptr;
  float* minima = nullptr;  // used when the matrix has_minimum
};

// Activations as 8-bit codes: x[t][j] = scale[t][j / block] * codes[t][j].
struct QuantizedRows {
  size_t cols = 0, block = 32;
  int32_t offset = 0;              // that of the weights they will meet
  int8_t* codes = nullptr;         // [rows][padded(cols)]
  float* scales = nullptr;         // [rows][blocks()]
  float* sums = nullptr;           // [rows][blocks()]: scale * sum of codes
  int32_t* starts = nullptr;       // [rows][blocks()]: -offset * sum of codes, where integer sums of a block begin
  int32_t* lane_starts = nullptr;  // [rows][padded(cols) / 4]: the same for each 4 codes
  size_t blocks() const noexcept { return padded(cols) / block; }
};

struct Kernels {
#define KERNEL(name, result, parameters) result(*name) parameters noexcept = nullptr;
#include "runtime/cpu/kernels.def"
#undef KERNEL
};

}  // namespace whit::cpu
