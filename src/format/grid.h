// The format `grid`: w = column[j] * (scale * q + minimum), q an unsigned code of 2 to 8 bits, scale and minimum per
// group of inputs of a row. Kernels read the layout from here; everybody else uses AffineFormat.
//
// Parts, each row of each part starting on a byte, unused bits zero. A bit stream is little-endian: item i of b bits
// takes the bits [i b, (i + 1) b) of the row, bit k being bit k % 8 of byte k / 8.
//   codes       I8   bit stream of `cols` codes of `bits` bits
//   scales      I8   parameter_bits 6 or 8: bit stream of u, one a group, unsigned; scale = S u / (2^p - 1)
//               F16  parameter_bits 16: the scale itself
//   minima      I8   zero "minimum", parameter_bits 6 or 8: bit stream of v, two's complement; minimum = M v / (2^(p-1)
//   - 1)
//               F16  zero "minimum", parameter_bits 16: the minimum itself
//   zeros       I8   zero "integer": bit stream of z of `bits` bits; minimum = -z scale
//   row_scales  F16  parameter_bits 6 or 8: S of each row, or the pair S, M with zero "minimum"
//   columns     F16  columns: a factor for each input
// zero "symmetric" stores neither minima nor zeros: minimum = -scale (2^bits - 1) / 2.
// Stored bits per weight: bits + (p + p) / group + 32 / cols with minima, bits + (p + bits) / group + 16 / cols with
// integer zeros, bits + p / group + 16 / cols symmetric; row parameters of 16 bits instead of the last term where p
// = 16.
#pragma once

#include "format/format.h"

namespace whit {

struct GridOptions {
  int bits = 4;
  int group = 32;
  int parameter_bits = 8;
  std::string zero = "minimum";
  bool columns = false;
  template <class V>
  void visit(V& v) {
    v("bits", bits, "bits of a code: 2, 3, 4, 5, 6 or 8", Range{2, 8});
    v("group", group, "inputs that share scale and minimum: 16 to 128 by 8, 0 for a whole row (default 0 with columns)",
      Range{0, 128});
    v("parameter_bits", parameter_bits, "bits of a scale and a minimum: 6, 8 or 16 (16 where group is 0)",
      Range{6, 16});
    v("zero", zero, "how a group's minimum is stored (symmetric with columns)",
      Choices{{"minimum", "integer", "symmetric"}});
    v("columns", columns, "one scale per row and one per column instead of groups");
  }
};

// Defaults that follow from other options of groups, and what must not be: ErrorKind::usage. `said`: what was asked
// for.
void settle_group_options(GridOptions& options, const Json& said, const std::string& where);

// Where things are in parts(); -1 for a part that these options do not have.
struct GridLayout {
  uint64_t group = 0, groups_per_row = 0;
  int codes = 0, scales = -1, minima = -1, zeros = -1, row_scales = -1, columns = -1;
  uint64_t code_bytes = 0;       // a row of codes
  uint64_t parameter_bytes = 0;  // a row of scales, and a row of minima
  uint64_t zero_bytes = 0;       // a row of zeros
  int row_scale_count = 0;       // halves per row in row_scales: 0, 1 (S) or 2 (S, M)
};

class GridFormat final : public AffineFormat, public std::enable_shared_from_this<GridFormat> {
 public:
  explicit GridFormat(const GridOptions& options) : options_(options) {}
  const GridOptions& grid_options() const noexcept { return options_; }
  GridLayout layout(uint64_t cols) const noexcept;

  std::string name() const override { return "grid"; }
  std::string label() const override;
  Json options() const override { return write_options(options_); }
  bool is_ggml() const override { return false; }
  void check_shape(Shape shape, std::string_view tensor) const override;
  std::vector<PartSpec> parts(Shape shape) const override;
  void check_parts(Shape shape, std::span<const std::span<const std::byte>> parts,
                   std::string_view tensor) const override;
  void unpack(Shape shape, std::span<const std::span<const std::byte>> parts, uint64_t begin, uint64_t count,
              float* out) const noexcept override;

  uint32_t levels() const override { return 1u << options_.bits; }
  uint64_t group(uint64_t cols) const override {
    return options_.group == 0 ? cols : static_cast<uint64_t>(options_.group);
  }
  bool symmetric() const override { return options_.zero == "symmetric"; }
  double centre() const override { return symmetric() ? (levels() - 1) / 2.0 : 0.0; }
  bool has_columns() const override { return options_.columns; }
  void round_parameters(Shape shape, AffineParameters& parameters) const override;
  Packed pack(const AffineCodes& codes) const override;
  AffineCodes unpack_codes(const Packed& packed) const override;

 private:
  GridOptions options_;
};

}  // namespace whit
