// The format `lowrank_sign`: W = diag(h) U diag(l) V^T diag(g) with U [rows, rank] and V^T [rank, cols] of +-1, one bit
// each (set: +1), and halves h [rows], l [rank], g [cols]. (DBF 2505.11076, LittleBit 2506.13771, one path.)
//
// Parts:
//   u  I8   [rows] times rank bits          v  I8   [rank] times cols bits, each of the rank's rows on a byte
//   h  F16  [rows]                          l  F16  [rank]                        g  F16  [cols]
// V^T, l and g belong to all rows together: a stack of tensors shares them. Unused bits are zero.
// Stored bits: rank (rows + cols) + 16 (rows + rank + cols), more only where cols is no multiple of 8.
#pragma once

#include <vector>

#include "format/format.h"

namespace whit {

struct LowrankSignOptions {
  double bits = 1;
  int rank = 0;
  template <class V>
  void visit(V& v) {
    v("bits", bits, "stored bits per weight that the rank is chosen for, scales included (0 where rank is given)",
      Range{0, 32});
    v("rank", rank, "columns of U and of V, a multiple of 8; 0: as many as bits allow", Range{0, 65536});
  }
};

// Factors as numbers; only the sign bits of u and v count: +0 is +1.
struct LowrankSignFactors {
  Shape shape;
  std::vector<float> u, v;     // [rows, rank], [rank, cols]
  std::vector<float> h, l, g;  // [rows], [rank], [cols]
};

class LowrankSignFormat final : public Format, public std::enable_shared_from_this<LowrankSignFormat> {
 public:
  explicit LowrankSignFormat(const LowrankSignOptions& options) : options_(options) {}
  // At least 8, whatever the bits.
  uint64_t rank(Shape shape) const noexcept;

  std::string name() const override { return "lowrank_sign"; }
  std::string label() const override;
  Json options() const override { return write_options(options_); }
  bool is_ggml() const override { return false; }
  void check_shape(Shape shape, std::string_view tensor) const override;
  std::vector<PartSpec> parts(Shape shape) const override;
  // Row by row the same bits however many rows are asked for: the rank is summed four at a time, from the first.
  void unpack(Shape shape, std::span<const std::span<const std::byte>> parts, uint64_t begin, uint64_t count,
              float* out) const noexcept override;

  // Scales are rounded to halves (saturating); they must be finite.
  Packed pack(const LowrankSignFactors& factors) const;
  // The inverse of pack(): u and v are +-1.
  LowrankSignFactors unpack_factors(const Packed& packed) const;

 private:
  LowrankSignOptions options_;
};

// Null when the format is another one.
std::shared_ptr<const LowrankSignFormat> as_lowrank_sign(const FormatPtr& format);

}  // namespace whit
