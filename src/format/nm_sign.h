// The format `nm_sign`: w_ij = row_i column_j s_ij with s of +-1 for n of every m consecutive inputs and 0 elsewhere.
//
// Parts, each row of each part starting on a byte, unused bits zero:
//   mask     I8   the enumerative number of each group (format/nm_pattern.h); one byte of zero where n = m
//   signs    I8   one bit per kept weight in order, set: +1
//   scales   F16  row_i
//   columns  F16  columns: column_j
// Stored bits per weight: (ceil(log2 C(m, n)) + n) / m + 16 / cols, and 16 / rows with columns. 2:8 0.875, 3:16 0.8125,
// 2:16 0.5625, 1:8 0.5, 4:8 1.375, and the scales.
#pragma once

#include <vector>

#include "format/format.h"

namespace whit {

struct NmSignOptions {
  int n = 2, m = 8;
  bool columns = false;
  template <class V>
  void visit(V& v) {
    v("n", n, "weights kept of each group of m inputs", Range{1, kEnumerativeMost});
    v("m", m, "inputs of a group", Range{1, kEnumerativeMost});
    v("columns", columns, "a scale per column too");
  }
};

struct NmSigns {
  Shape shape;
  std::vector<int8_t> signs;   // [rows, cols], +-1 where kept, else 0
  std::vector<float> scales;   // [rows]
  std::vector<float> columns;  // [cols], or empty: 1
};

class NmSignFormat final : public Format, public std::enable_shared_from_this<NmSignFormat> {
 public:
  explicit NmSignFormat(const NmSignOptions& options);
  // Not Format::pattern(): the quantizer chooses what is kept, nothing has to be pruned before.
  NmPattern kept_pattern() const noexcept {
    return {static_cast<unsigned>(options_.n), static_cast<unsigned>(options_.m)};
  }
  // The masks of a full group by number, as many as its bits can say (a damaged file's too); empty where those are
  // many.
  const std::vector<uint32_t>& masks() const noexcept { return masks_; }
  // The same as the places of the kept inputs, ascending, a byte each from the lowest on; empty for more than four.
  const std::vector<uint32_t>& places() const noexcept { return places_; }
  bool has_columns() const noexcept { return options_.columns; }
  uint64_t sign_bytes(uint64_t cols) const noexcept { return stream_bytes(kept_pattern().kept(cols), 1); }  // of a row

  std::string name() const override { return "nm_sign"; }
  std::string label() const override;
  Json options() const override { return write_options(options_); }
  bool is_ggml() const override { return false; }
  void check_shape(Shape shape, std::string_view tensor) const override;
  std::vector<PartSpec> parts(Shape shape) const override;
  void unpack(Shape shape, std::span<const std::span<const std::byte>> parts, uint64_t begin, uint64_t count,
              float* out) const noexcept override;

  // Scales are rounded to halves (saturating); they must be finite. The signs must have the pattern.
  Packed pack(const NmSigns& signs) const;
  // The inverse of pack().
  NmSigns unpack_signs(const Packed& packed) const;

 private:
  NmSignOptions options_;
  std::vector<uint32_t> masks_, places_;
};

// Null when the format is another one.
std::shared_ptr<const NmSignFormat> as_nm_sign(const FormatPtr& format);

}  // namespace whit
