// The formats `nm_grid` and `nm_f16`: matrices pruned to N:M. Stored are which weights are kept (format/nm_pattern.h)
// and the kept ones alone, moved together: a row of K = NmPattern::kept(cols) values.
//
// Parts, each row of each part starting on a byte, unused bits zero:
//   mask        I8   the enumerative number of each group of m inputs, ceil(log2 C(m, n)) bits each
//   nm_grid: then the parts of a `grid` (format/grid.h) over [rows, K], whose groups have n / m of `group` values
//   nm_f16:  then `values`, F16, [rows, K]
// Stored bits per weight: ceil(log2 C(m, n)) / m for the mask (2:4 0.75, 4:8 0.875, 2:8 0.625) plus n / m times what
// the grid takes (bits + 2 parameter_bits m / (n group)), or 16 n / m.
#include <fmt/format.h>

#include <algorithm>
#include <cmath>

#include "base/half.h"
#include "format/formats_table.h"
#include "format/grid.h"

namespace whit {
namespace {

template <class V>
void visit_pattern(V& v, int& n, int& m) {
  v("n", n, "weights kept of each group of m inputs", Range{1, kEnumerativeMost});
  v("m", m, "inputs of a group of the mask", Range{1, kEnumerativeMost});
}

struct NmGridOptions {
  int n = 4, m = 8, bits = 4, group = 64, parameter_bits = 8;
  std::string zero = "minimum";
  template <class V>
  void visit(V& v) {
    visit_pattern(v, n, m);
    v("bits", bits, "bits of a kept weight's code: 2, 3, 4, 5, 6 or 8", Range{2, 8});
    v("group", group, "inputs, kept or not, that share scale and minimum: a multiple of m, 0 for a whole row",
      Range{0, 1024});
    v("parameter_bits", parameter_bits, "bits of a scale and a minimum: 6, 8 or 16 (16 where group is 0)",
      Range{6, 16});
    v("zero", zero, "how a group's minimum is stored", Choices{{"minimum", "integer", "symmetric"}});
  }
};

struct NmF16Options {
  int n = 4, m = 8;
  template <class V>
  void visit(V& v) {
    visit_pattern(v, n, m);
  }
};

NmPattern checked_pattern(int n, int m, const std::string& where) {
  if (n > m) throw Error(ErrorKind::usage, "more weights are kept than a group has", where, fmt::format("{}:{}", n, m));
  return {static_cast<unsigned>(n), static_cast<unsigned>(m)};
}

// What both formats do with the mask, which is the first part.
class NmRows {
 public:
  explicit NmRows(NmPattern pattern) : pattern_(pattern) {}
  NmPattern pattern() const noexcept { return pattern_; }
  Shape kept_shape(Shape shape) const noexcept { return {shape.rows, pattern_.kept(shape.cols)}; }

  // A pattern with only one mask (m:m) needs none; the part is then one byte of zero, because no tensor may be empty.
  PartSpec part(Shape shape) const {
    const uint64_t row_bytes = pattern_.row_bytes(shape.cols);
    if (row_bytes == 0) return {"mask", GgmlType::i8, 1, 1, 0};
    return {"mask", GgmlType::i8, row_bytes * shape.rows, row_bytes * shape.rows, row_bytes};
  }

  std::vector<std::byte> pack(Shape shape, std::span<const uint8_t> mask) const {
    WHIT_CHECK(mask.size() == shape.count());
    const uint64_t row_bytes = pattern_.row_bytes(shape.cols);
    std::vector<std::byte> bytes(part(shape).bytes);
    for (uint64_t i = 0; i < shape.rows; ++i) {
      const uint8_t* row = mask.data() + i * shape.cols;
      WHIT_CHECK(first_other_group(pattern_, row, shape.cols) == div_up(shape.cols, pattern_.m));
      write_mask_row(pattern_, row, shape.cols, bytes.data() + i * row_bytes);
    }
    return bytes;
  }

  template <class Value>
  static std::vector<Value> gather(std::span<const Value> values, std::span<const uint8_t> mask) {
    std::vector<Value> kept;
    kept.reserve(values.size());
    for (size_t k = 0; k < values.size(); ++k)
      if (mask[k]) kept.push_back(values[k]);
    return kept;
  }

  // Moves the kept values of a row, at the end of `row`, to their places, from left to right: none is overwritten
  // before it moved, because the k-th kept input is at most k places from the end of what is kept.
  void scatter(const std::byte* mask, uint64_t cols, float* row) const noexcept {
    const float* from = row + (cols - pattern_.kept(cols));
    uint64_t next = 0;
    for_each_kept(pattern_, mask, cols, [&](uint64_t j) {
      while (next < j) row[next++] = 0.0f;
      row[next++] = *from++;
    });
    while (next < cols) row[next++] = 0.0f;
  }

 private:
  NmPattern pattern_;
};

void check_not_empty(Shape shape, std::string_view tensor) {
  if (shape.count() == 0)
    throw Error(ErrorKind::input, "an empty matrix cannot be stored", std::string(tensor),
                fmt::format("{} x {}", shape.rows, shape.cols));
}

class NmGridFormat final : public AffineFormat, public std::enable_shared_from_this<NmGridFormat> {
 public:
  NmGridFormat(const NmGridOptions& options, NmPattern pattern, const GridOptions& kept)
      : options_(options), rows_(pattern), grid_(std::make_shared<const GridFormat>(kept)) {}

  std::string name() const override { return "nm_grid"; }
  std::string label() const override {
    return fmt::format(
        "nm{}:{}-{}", options_.n, options_.m,
        GridFormat({options_.bits, options_.group, options_.parameter_bits, options_.zero, false}).label());
  }
  Json options() const override { return write_options(options_); }
  bool is_ggml() const override { return false; }
  std::optional<NmPattern> pattern() const override { return rows_.pattern(); }
  void check_shape(Shape shape, std::string_view tensor) const override { check_not_empty(shape, tensor); }
  std::vector<PartSpec> parts(Shape shape) const override {
    std::vector<PartSpec> parts = grid_->parts(rows_.kept_shape(shape));
    parts.insert(parts.begin(), rows_.part(shape));
    return parts;
  }
  void check_parts(Shape shape, std::span<const std::span<const std::byte>> parts,
                   std::string_view tensor) const override {
    grid_->check_parts(rows_.kept_shape(shape), parts.subspan(1), tensor);
  }
  void unpack(Shape shape, std::span<const std::span<const std::byte>> parts, uint64_t begin, uint64_t count,
              float* out) const noexcept override {
    const Shape kept = rows_.kept_shape(shape);
    const uint64_t row_bytes = rows_.pattern().row_bytes(shape.cols);
    for (uint64_t row = begin; row < begin + count; ++row, out += shape.cols) {
      grid_->unpack(kept, parts.subspan(1), row, 1, out + (shape.cols - kept.cols));
      rows_.scatter(parts[0].data() + row * row_bytes, shape.cols, out);
    }
  }

  uint32_t levels() const override { return grid_->levels(); }
  uint64_t group(uint64_t cols) const override {
    return options_.group == 0 ? cols : static_cast<uint64_t>(options_.group);
  }
  bool symmetric() const override { return grid_->symmetric(); }
  double centre() const override { return grid_->centre(); }
  bool has_columns() const override { return false; }
  // A last group of inputs has at least one that is kept, so the groups of kept values are as many as those of inputs.
  void round_parameters(Shape shape, AffineParameters& parameters) const override {
    grid_->round_parameters(rows_.kept_shape(shape), parameters);
  }

  Packed pack(const AffineCodes& codes) const override {
    WHIT_CHECK(codes.codes.size() == codes.shape.count());
    Packed packed{shared_from_this(), codes.shape, {rows_.pack(codes.shape, codes.mask)}};
    Packed kept = grid_->pack(
        {rows_.kept_shape(codes.shape), NmRows::gather<uint8_t>(codes.codes, codes.mask), codes.parameters});
    for (auto& part : kept.parts) packed.parts.push_back(std::move(part));
    return packed;
  }
  AffineCodes unpack_codes(const Packed& packed) const override {
    AffineCodes codes{packed.shape, std::vector<uint8_t>(packed.shape.count(), 0), {}, stored_mask(packed)};
    AffineCodes kept =
        grid_->unpack_codes({grid_, rows_.kept_shape(packed.shape), {packed.parts.begin() + 1, packed.parts.end()}});
    size_t next = 0;
    for (size_t k = 0; k < codes.codes.size(); ++k)
      if (codes.mask[k]) codes.codes[k] = kept.codes[next++];
    codes.parameters = std::move(kept.parameters);
    return codes;
  }

 private:
  NmGridOptions options_;
  NmRows rows_;
  std::shared_ptr<const GridFormat> grid_;  // of the kept values
};

class NmF16Format final : public Format {
 public:
  NmF16Format(const NmF16Options& options, NmPattern pattern) : options_(options), rows_(pattern) {}
  std::string name() const override { return "nm_f16"; }
  std::string label() const override { return fmt::format("nm{}:{}-f16", options_.n, options_.m); }
  Json options() const override { return write_options(options_); }
  bool is_ggml() const override { return false; }
  std::optional<NmPattern> pattern() const override { return rows_.pattern(); }
  void check_shape(Shape shape, std::string_view tensor) const override { check_not_empty(shape, tensor); }
  std::vector<PartSpec> parts(Shape shape) const override {
    const Shape kept = rows_.kept_shape(shape);
    return {rows_.part(shape), {"values", GgmlType::f16, kept.count(), 2 * kept.count(), 2 * kept.cols}};
  }
  void unpack(Shape shape, std::span<const std::span<const std::byte>> parts, uint64_t begin, uint64_t count,
              float* out) const noexcept override {
    const uint64_t kept = rows_.pattern().kept(shape.cols), row_bytes = rows_.pattern().row_bytes(shape.cols);
    for (uint64_t row = begin; row < begin + count; ++row, out += shape.cols) {
      const std::byte* values = parts[1].data() + 2 * row * kept;
      for (uint64_t k = 0; k < kept; ++k) out[shape.cols - kept + k] = half_to_float(read_half(values, k));
      rows_.scatter(parts[0].data() + row * row_bytes, shape.cols, out);
    }
  }

  Packed pack(const FormatPtr& self, Shape shape, std::span<const float> weights, std::span<const uint8_t> mask) const {
    Packed packed{self, shape, {rows_.pack(shape, mask)}};
    const std::vector<float> kept = NmRows::gather(weights, mask);
    packed.parts.push_back(std::move(pack_dense(make_format("f16"), rows_.kept_shape(shape), kept).parts[0]));
    return packed;
  }

 private:
  NmF16Options options_;
  NmRows rows_;
};

}  // namespace

std::vector<OptionDescription> format_factories::nm_grid_options() { return describe_options<NmGridOptions>(); }

FormatPtr format_factories::make_nm_grid(const Json& json, const std::string& where) {
  NmGridOptions options;
  read_options(options, json, where);
  const NmPattern pattern = checked_pattern(options.n, options.m, where);
  if (options.group % options.m != 0)
    throw Error(ErrorKind::usage, "group must be 0 or a multiple of m", where,
                fmt::format("group {}, m {}", options.group, options.m));
  GridOptions kept{options.bits, options.group / options.m * options.n, options.parameter_bits, options.zero, false};
  settle_group_options(kept, json, where);
  options.parameter_bits = kept.parameter_bits;
  return std::make_shared<NmGridFormat>(options, pattern, kept);
}

std::vector<OptionDescription> format_factories::nm_f16_options() { return describe_options<NmF16Options>(); }

FormatPtr format_factories::make_nm_f16(const Json& json, const std::string& where) {
  NmF16Options options;
  read_options(options, json, where);
  return std::make_shared<NmF16Format>(options, checked_pattern(options.n, options.m, where));
}

Packed pack_masked(const FormatPtr& format, Shape shape, std::span<const float> weights,
                   std::span<const uint8_t> mask) {
  WHIT_CHECK(weights.size() == shape.count() && mask.size() == shape.count());
  const auto* nm = dynamic_cast<const NmF16Format*>(format.get());
  if (!nm)
    throw Error(ErrorKind::usage, "masked weights cannot be rounded one by one to this format",
                "format " + format->name(), {}, "nm_f16, or a quantizer");
  return nm->pack(format, shape, weights, mask);
}

}  // namespace whit
