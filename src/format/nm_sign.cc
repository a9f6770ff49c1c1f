#include "format/nm_sign.h"

#include <fmt/format.h>

#include <bit>
#include <cmath>

#include "format/bit_stream.h"
#include "format/formats_table.h"

namespace whit {
namespace {

constexpr size_t kMask = 0, kSigns = 1, kScales = 2, kColumns = 3;

// visit(j, sign) for every kept input of a stored row, ascending.
template <class Visit>
void for_each_sign(const NmSignFormat& format, std::span<const std::span<const std::byte>> parts, uint64_t cols,
                   uint64_t row, const Visit& visit) noexcept {
  const NmPattern pattern = format.kept_pattern();
  const std::byte* signs = parts[kSigns].data() + row * format.sign_bytes(cols);
  uint64_t index = 0;
  for_each_kept(pattern, parts[kMask].data() + row * pattern.row_bytes(cols), cols,
                [&](uint64_t j) { visit(j, read_bits(signs, index++, 1) != 0 ? 1 : -1); });
}

}  // namespace

NmSignFormat::NmSignFormat(const NmSignOptions& options) : options_(options) {
  const NmPattern pattern = kept_pattern();
  const unsigned bits = enumerative_bits(pattern.n, pattern.m);
  if (bits > 12) return;  // 16 KB: a table that leaves room in the cache
  for (uint64_t i = 0; i < uint64_t{1} << bits; ++i) masks_.push_back(enumerative_unrank(i, pattern.n, pattern.m));
  for (uint32_t mask : pattern.n <= 4 ? masks_ : std::vector<uint32_t>()) {
    uint32_t places = 0;
    for (unsigned k = 0; mask != 0; ++k, mask &= mask - 1)
      places |= static_cast<uint32_t>(std::countr_zero(mask)) << (8 * k);
    places_.push_back(places);
  }
}

std::string NmSignFormat::label() const {
  return fmt::format("nmsign{}:{}{}", options_.n, options_.m, options_.columns ? "-rc" : "");
}

void NmSignFormat::check_shape(Shape shape, std::string_view tensor) const {
  if (shape.count() == 0)
    throw Error(ErrorKind::input, "an empty matrix cannot be stored", std::string(tensor),
                fmt::format("{} x {}", shape.rows, shape.cols));
}

std::vector<PartSpec> NmSignFormat::parts(Shape shape) const {
  const uint64_t mask = kept_pattern().row_bytes(shape.cols), signs = sign_bytes(shape.cols);
  std::vector<PartSpec> parts;
  if (mask == 0)
    parts.push_back({"mask", GgmlType::i8, 1, 1, 0});  // no tensor of a file may be empty
  else
    parts.push_back({"mask", GgmlType::i8, shape.rows * mask, shape.rows * mask, mask});
  parts.push_back({"signs", GgmlType::i8, shape.rows * signs, shape.rows * signs, signs});
  parts.push_back({"scales", GgmlType::f16, shape.rows, 2 * shape.rows, 2});
  if (options_.columns) parts.push_back({"columns", GgmlType::f16, shape.cols, 2 * shape.cols, 0});
  return parts;
}

void NmSignFormat::unpack(Shape shape, std::span<const std::span<const std::byte>> parts, uint64_t begin,
                          uint64_t count, float* out) const noexcept {
  for (uint64_t row = begin; row < begin + count; ++row, out += shape.cols) {
    const float scale = half_to_float(read_half(parts[kScales].data(), row));
    std::fill_n(out, shape.cols, 0.0f);
    for_each_sign(*this, parts, shape.cols, row, [&](uint64_t j, int sign) {
      const float column = options_.columns ? half_to_float(read_half(parts[kColumns].data(), j)) : 1.0f;
      out[j] = static_cast<float>(sign) * scale * column;
    });
  }
}

Packed NmSignFormat::pack(const NmSigns& from) const {
  const Shape shape = from.shape;
  check_shape(shape, "pack");
  WHIT_CHECK(from.signs.size() == shape.count() && from.scales.size() == shape.rows);
  WHIT_CHECK(from.columns.size() == (options_.columns ? shape.cols : 0));
  const NmPattern pattern = kept_pattern();
  Packed packed{shared_from_this(), shape, {}};
  for (const PartSpec& part : parts(shape)) packed.parts.emplace_back(part.bytes);
  std::vector<uint8_t> mask(shape.cols);
  for (uint64_t i = 0; i < shape.rows; ++i) {
    const int8_t* row = from.signs.data() + i * shape.cols;
    std::byte* signs = packed.parts[kSigns].data() + i * sign_bytes(shape.cols);
    uint64_t index = 0;
    for (uint64_t j = 0; j < shape.cols; ++j) {
      mask[j] = row[j] != 0;
      if (mask[j]) write_bits(signs, index++, 1, row[j] > 0 ? 1 : 0);
    }
    WHIT_CHECK(first_other_group(pattern, mask.data(), shape.cols) == div_up(shape.cols, pattern.m));
    write_mask_row(pattern, mask.data(), shape.cols, packed.parts[kMask].data() + i * pattern.row_bytes(shape.cols));
  }
  const auto halves = [&](size_t part, const std::vector<float>& values) {
    for (uint64_t i = 0; i < values.size(); ++i) {
      WHIT_CHECK(std::isfinite(values[i]));
      write_half(packed.parts[part].data(), i, nearest_half(values[i]));
    }
  };
  halves(kScales, from.scales);
  if (options_.columns) halves(kColumns, from.columns);
  return packed;
}

NmSigns NmSignFormat::unpack_signs(const Packed& packed) const {
  const Shape shape = packed.shape;
  const std::vector<PartSpec> specs = parts(shape);
  WHIT_CHECK(packed.parts.size() == specs.size());
  for (size_t i = 0; i < specs.size(); ++i) WHIT_CHECK(packed.parts[i].size() == specs[i].bytes);
  NmSigns to{shape, std::vector<int8_t>(shape.count(), 0), {}, {}};
  const auto views = packed.views();
  for (uint64_t i = 0; i < shape.rows; ++i)
    for_each_sign(*this, views, shape.cols, i,
                  [&](uint64_t j, int sign) { to.signs[i * shape.cols + j] = static_cast<int8_t>(sign); });
  for (uint64_t i = 0; i < shape.rows; ++i) to.scales.push_back(half_to_float(read_half(views[kScales].data(), i)));
  for (uint64_t j = 0; options_.columns && j < shape.cols; ++j)
    to.columns.push_back(half_to_float(read_half(views[kColumns].data(), j)));
  return to;
}

std::shared_ptr<const NmSignFormat> as_nm_sign(const FormatPtr& format) {
  return std::dynamic_pointer_cast<const NmSignFormat>(format);
}

std::vector<OptionDescription> format_factories::nm_sign_options() { return describe_options<NmSignOptions>(); }

FormatPtr format_factories::make_nm_sign(const Json& json, const std::string& where) {
  NmSignOptions options;
  read_options(options, json, where);
  if (options.n > options.m)
    throw Error(ErrorKind::usage, "more weights are kept than a group has", where,
                fmt::format("{}:{}", options.n, options.m));
  return std::make_shared<NmSignFormat>(options);
}

}  // namespace whit
