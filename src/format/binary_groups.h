// The format `binary_groups`: signs with scales and means per group of weights; what BiLLM (2402.04291), STBLLM
// (2408.01803) and ARB-LLM (2410.03129) need to be decoded, all of it, and nothing twice.
//
// Columns go in blocks of `block`, the last may be short. Whole columns are salient or not. A weight that is not
// salient lies in one of `regions` regions of its row and block and decodes to mean[region] + scale[region] sign; a
// salient one has two signs, mean + scale' sign' + scale'' sign''. With N:M only the kept weights have signs and marks,
// the others are 0. A sign bit is 1 for +.
//
// A region mark means nothing in a salient column, so the second sign stands in its place: the salient planes cost no
// bits of their own, and there may be as many salient columns as the search wants at the same size. `residual` > 0 is
// for those that need both (the column-group bitmap of ARB-LLM): up to `residual` salient columns per block, regions in
// them too, scales and means by region, and second signs in a plane of their own.
//
// Parts, each row of each part starting on a byte, unused bits zero; "kept" is the number of kept weights of a row:
//   mask           I8   n < m: which weights are kept (nm_pattern.h)
//   signs          I8   one bit a kept weight
//   marks          I8   regions 2: one bit a kept weight; regions 3: base 3, five marks a byte (1.6 bits; log2 3
//   = 1.585,
//                       the entropy of STBLLM's marks is about 1.44), the first mark the lowest digit
//   residual       I8   residual: one bit for each salient column of the row, pruned or not
//   columns        I8   one bit a column, 1 = salient; once for all rows
//   scales         F16  [rows, blocks, slots]: the regions, then the two of salient weights (residual: two per region)
//   means          F16  means: [rows, blocks, slots]: the regions, then the one of salient weights (residual: per
//   region) column_scales  F16  columns: [cols, slots] factors of the scales: by region, in a salient column by sign
//   (residual:
//                       first signs, by region); once for all rows
//   residual_scales F16 columns and residual: [salient columns, regions], the factors of second signs
// Stored bits per weight, n of m kept, rows R, means in brackets: log2 C(m, n) / m rounded up, n / m (1 + 1 | 1.6), 1 /
// R, 16 (4 [+ 3]) / block for 2 regions, 16 (5 [+ 4]) / block for 3, 32 / R with columns.
#pragma once

#include <memory>
#include <vector>

#include "format/format.h"

namespace whit {

struct BinaryGroupsOptions {
  int regions = 2;
  int block = 128;
  int residual = 0;
  int n = 0, m = 0;
  bool means = true;
  bool columns = false;
  template <class V>
  void visit(V& v) {
    v("regions", regions, "magnitude regions with a scale each", Range{1, 3});
    v("block", block, "inputs that share scales: a multiple of 8, 0 for a whole row", Range{0, 4096});
    v("residual", residual,
      "salient columns per block whose second signs have a plane beside the region marks; 0: any number of salient "
      "columns, second signs in place of marks",
      Range{0, 4096});
    v("n", n, "weights kept of each m inputs; 0: all", Range{0, 32});
    v("m", m, "inputs of a group of the mask; 0: no mask", Range{0, 32});
    v("means", means, "a mean beside each scale (not with columns)");
    v("columns", columns, "scales are a factor per row and block times a factor per column");
  }
};

// Where things are in parts(); -1 for a part that these options do not have.
struct BinaryLayout {
  uint64_t block = 0, blocks = 0;  // inputs of a block; blocks of a row
  uint64_t kept = 0;               // weights of a row that are stored
  uint64_t residual_columns = 0;   // bits of a row of `residual`
  bool salient = false;            // may columns be salient
  uint64_t scale_slots = 0;        // per row and block
  uint64_t mean_slots = 0;         // the same
  uint64_t column_slots = 0;       // stored per column
  int mask = -1, signs = -1, marks = -1, residual = -1, columns = -1, scales = -1, means = -1, column_scales = -1,
      residual_scales = -1;
  uint64_t mask_bytes = 0, sign_bytes = 0, mark_bytes = 0, residual_bytes = 0;  // of a row
};

// What is stored, one entry a weight, before packing.
struct BinaryGroups {
  Shape shape;
  std::vector<uint8_t> mask;      // [rows, cols], 1 = kept; empty: all
  std::vector<uint8_t> salient;   // [cols]
  std::vector<uint8_t> sign;      // [rows, cols], 1 = +
  std::vector<uint8_t> second;    // [rows, cols], the second sign of salient weights
  std::vector<uint8_t> region;    // [rows, cols]; without `residual` only weights that are not salient have one
  std::vector<float> scale;       // [rows, blocks, scale_slots]
  std::vector<float> mean;        // [rows, blocks, mean_slots]
  std::vector<float> column;      // [cols, regions or 2, the more], first signs; empty without columns
  std::vector<float> column_two;  // [cols, regions], second signs with `residual`
};

// Which scales, mean and column factors a weight takes; second < 0: it has one sign.
struct BinarySlots {
  int first, second, mean;          // within the row's block
  int column_first, column_second;  // within the column; column_second counts in column_two with `residual`
};

class BinaryGroupsFormat final : public Format, public std::enable_shared_from_this<BinaryGroupsFormat> {
 public:
  explicit BinaryGroupsFormat(const BinaryGroupsOptions& options) : options_(options) {}
  const BinaryGroupsOptions& binary_options() const noexcept { return options_; }
  BinaryLayout layout(uint64_t cols) const noexcept;
  BinarySlots slots(bool salient, int region) const noexcept;
  // As scales and means are stored.
  static float rounded(float value) noexcept;
  // All sizes set, everything zero, no column salient.
  BinaryGroups empty(Shape shape) const;
  // The weight that is decoded from entries whose scales and means are halves already.
  float value(const BinaryGroups& groups, const BinaryLayout& at, uint64_t row, uint64_t col) const noexcept;

  std::string name() const override { return "binary_groups"; }
  std::string label() const override;
  Json options() const override { return write_options(options_); }
  bool is_ggml() const override { return false; }
  std::optional<NmPattern> pattern() const override;
  void check_shape(Shape shape, std::string_view tensor) const override;
  std::vector<PartSpec> parts(Shape shape) const override;
  void check_parts(Shape shape, std::span<const std::span<const std::byte>> parts,
                   std::string_view tensor) const override;
  void unpack(Shape shape, std::span<const std::span<const std::byte>> parts, uint64_t begin, uint64_t count,
              float* out) const noexcept override;
  // n / m (1 + share of salient columns).
  double paper_bits(Shape shape, std::span<const std::span<const std::byte>> parts) const noexcept override;

  // Scales and means are rounded to halves. A mask that does not keep n of each m, or more salient columns than there
  // is room for, is ErrorKind::internal.
  Packed pack(const BinaryGroups& groups) const;
  // The inverse of pack(): what is not stored is 0.
  BinaryGroups unpack_groups(const Packed& packed) const;

 private:
  struct RowReader;
  BinaryGroupsOptions options_;
};

// Null when it is another format.
std::shared_ptr<const BinaryGroupsFormat> as_binary_groups(const FormatPtr& format);

}  // namespace whit
