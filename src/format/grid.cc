#include "format/grid.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>

#include "format/bit_stream.h"
#include "format/formats_table.h"

namespace whit {
namespace {

int32_t sign_extend(uint32_t value, int bits) noexcept {
  const uint32_t sign = 1u << (bits - 1);
  return static_cast<int32_t>(value ^ sign) - static_cast<int32_t>(sign);
}

// A parameter of p bits under its row's super-scale: super * code / top, exact before the one rounding of the division
// (a half has 11 bits, a code 8).
float decode_parameter(float super, int32_t code, int32_t top) noexcept {
  return super * static_cast<float>(code) / static_cast<float>(top);
}
// The nearest code. The row's largest value takes +-top whatever the half's rounding did to the super-scale: it then
// decodes to the super-scale itself, which makes rounding idempotent (subnormal halves too).
int32_t encode_parameter(float value, float largest, float super, int32_t top) noexcept {
  if (super == 0.0f) return 0;
  if (std::abs(value) >= largest) return value < 0 ? -top : top;
  const double code = std::round(static_cast<double>(value) / super * top);
  return static_cast<int32_t>(std::clamp(code, static_cast<double>(-top), static_cast<double>(top)));
}

float largest_magnitude(const float* values, uint64_t count) noexcept {
  float largest = 0;
  for (uint64_t i = 0; i < count; ++i) largest = std::max(largest, std::abs(values[i]));
  return largest;
}

int32_t scale_top(int parameter_bits) noexcept { return (1 << parameter_bits) - 1; }
int32_t minimum_top(int parameter_bits) noexcept { return (1 << (parameter_bits - 1)) - 1; }

// A zero code is +0 whatever the scale's sign.
float minimum_of_zero(uint32_t zero, float scale) noexcept {
  return zero == 0 ? 0.0f : -(static_cast<float>(zero) * scale);
}
uint32_t nearest_zero(float minimum, float scale, uint32_t levels) noexcept {
  if (scale == 0.0f) return 0;
  const double zero = std::round(-static_cast<double>(minimum) / scale);
  return zero > 0 ? static_cast<uint32_t>(std::min(zero, static_cast<double>(levels - 1))) : 0;  // NaN: 0
}

[[noreturn]] void refuse_option(const std::string& where, const std::string& what, const std::string& found) {
  throw Error(ErrorKind::usage, what, where, found);
}

struct GroupParameters {
  float scale, minimum;
};

// The parameters of one stored row, group by group.
class RowReader {
 public:
  RowReader(const GridFormat& format, const GridLayout& at, std::span<const std::span<const std::byte>> parts,
            uint64_t row) noexcept
      : bits_(format.grid_options().bits),
        p_(format.grid_options().parameter_bits),
        centre_(static_cast<float>(format.centre())) {
    const auto part = [&](int index, uint64_t row_bytes) {
      return index < 0 ? nullptr : parts[static_cast<size_t>(index)].data() + row * row_bytes;
    };
    scales_ = part(at.scales, at.parameter_bytes);
    minima_ = part(at.minima, at.parameter_bytes);
    zeros_ = part(at.zeros, at.zero_bytes);
    const std::byte* supers = part(at.row_scales, 2 * static_cast<uint64_t>(at.row_scale_count));
    if (at.row_scale_count > 0) super_scale_ = half_to_float(read_half(supers, 0));
    if (at.row_scale_count > 1) super_minimum_ = half_to_float(read_half(supers, 1));
  }
  GroupParameters operator()(uint64_t g) const noexcept {
    GroupParameters out;
    out.scale = p_ == 16
                    ? half_to_float(read_half(scales_, g))
                    : decode_parameter(super_scale_, static_cast<int32_t>(read_bits(scales_, g, p_)), scale_top(p_));
    if (minima_)
      out.minimum = p_ == 16
                        ? half_to_float(read_half(minima_, g))
                        : decode_parameter(super_minimum_, sign_extend(read_bits(minima_, g, p_), p_), minimum_top(p_));
    else if (zeros_)
      out.minimum = minimum_of_zero(read_bits(zeros_, g, bits_), out.scale);
    else
      out.minimum = -centre_ * out.scale;
    return out;
  }

 private:
  int bits_, p_;
  float centre_;
  const std::byte *scales_, *minima_, *zeros_;
  float super_scale_ = 0, super_minimum_ = 0;
};

}  // namespace

GridLayout GridFormat::layout(uint64_t cols) const noexcept {
  GridLayout layout;
  layout.group = group(cols);
  layout.groups_per_row = div_up(cols, layout.group);
  layout.code_bytes = stream_bytes(cols, static_cast<unsigned>(options_.bits));
  layout.parameter_bytes = stream_bytes(layout.groups_per_row, static_cast<unsigned>(options_.parameter_bits));
  int next = 1;
  layout.scales = next++;
  if (options_.zero == "minimum") layout.minima = next++;
  if (options_.zero == "integer") {
    layout.zeros = next++;
    layout.zero_bytes = stream_bytes(layout.groups_per_row, static_cast<unsigned>(options_.bits));
  }
  if (options_.parameter_bits < 16) {
    layout.row_scales = next++;
    layout.row_scale_count = layout.minima >= 0 ? 2 : 1;
  }
  if (options_.columns) layout.columns = next++;
  return layout;
}

std::string GridFormat::label() const {
  std::string label = fmt::format("grid{}", options_.bits);
  if (options_.columns) return label + "-rc";
  label += options_.group == 0 ? "-row" : fmt::format("-g{}", options_.group);
  label += fmt::format("-s{}", options_.parameter_bits);
  if (options_.zero == "integer") label += "-int";
  if (options_.zero == "symmetric") label += "-sym";
  return label;
}

void GridFormat::check_shape(Shape shape, std::string_view tensor) const {
  if (shape.count() == 0)
    throw Error(ErrorKind::input, "an empty matrix cannot be stored", std::string(tensor),
                fmt::format("{} x {}", shape.rows, shape.cols));
}

std::vector<PartSpec> GridFormat::parts(Shape shape) const {
  const GridLayout at = layout(shape.cols);
  std::vector<PartSpec> parts;
  const auto add = [&](const char* suffix, bool halves, uint64_t row_bytes) {
    const uint64_t bytes = row_bytes * shape.rows;
    parts.push_back({suffix, halves ? GgmlType::f16 : GgmlType::i8, halves ? bytes / 2 : bytes, bytes, row_bytes});
  };
  const bool wide = options_.parameter_bits == 16;
  add("codes", false, at.code_bytes);
  add("scales", wide, at.parameter_bytes);
  if (at.minima >= 0) add("minima", wide, at.parameter_bytes);
  if (at.zeros >= 0) add("zeros", false, at.zero_bytes);
  if (at.row_scales >= 0) add("row_scales", true, 2 * static_cast<uint64_t>(at.row_scale_count));
  if (at.columns >= 0) parts.push_back({"columns", GgmlType::f16, shape.cols, 2 * shape.cols, 0});
  return parts;
}

void GridFormat::check_parts(Shape shape, std::span<const std::span<const std::byte>> parts,
                             std::string_view tensor) const {
  const GridLayout at = layout(shape.cols);
  if (at.row_scales < 0) return;
  const std::span<const std::byte> supers = parts[static_cast<size_t>(at.row_scales)];
  for (size_t i = 0; i < supers.size() / 2; ++i)
    if (const float super = half_to_float(read_half(supers.data(), i)); super < 0)
      throw Error(ErrorKind::input, "a row's largest scale or minimum is negative", std::string(tensor), fmt::format("{}", super));
}

void GridFormat::unpack(Shape shape, std::span<const std::span<const std::byte>> parts, uint64_t begin, uint64_t count,
                        float* out) const noexcept {
  const GridLayout at = layout(shape.cols);
  for (uint64_t row = begin; row < begin + count; ++row, out += shape.cols) {
    const RowReader reader(*this, at, parts, row);
    const std::byte* codes = parts[0].data() + row * at.code_bytes;
    for (uint64_t g = 0; g < at.groups_per_row; ++g) {
      const GroupParameters group = reader(g);
      const uint64_t end = std::min((g + 1) * at.group, shape.cols);
      for (uint64_t j = g * at.group; j < end; ++j)
        out[j] = group.scale * static_cast<float>(read_bits(codes, j, options_.bits)) + group.minimum;
    }
    if (at.columns >= 0) {
      const std::byte* columns = parts[static_cast<size_t>(at.columns)].data();
      for (uint64_t j = 0; j < shape.cols; ++j) out[j] *= half_to_float(read_half(columns, j));
    }
  }
}

void GridFormat::round_parameters(Shape shape, AffineParameters& parameters) const {
  const uint64_t groups = layout(shape.cols).groups_per_row;
  WHIT_CHECK(parameters.groups_per_row == groups);
  WHIT_CHECK(parameters.scale.size() == shape.rows * groups && parameters.minimum.size() == shape.rows * groups);
  WHIT_CHECK(parameters.column.size() == (options_.columns ? shape.cols : 0));
  for (float& column : parameters.column) column = round_to_half(column);
  const int p = options_.parameter_bits;
  for (uint64_t row = 0; row < shape.rows; ++row) {
    float* scale = parameters.scale.data() + row * groups;
    float* minimum = parameters.minimum.data() + row * groups;
    if (p == 16) {
      for (uint64_t g = 0; g < groups; ++g) scale[g] = round_to_half(scale[g]);
    } else {
      for (uint64_t g = 0; g < groups; ++g) scale[g] = std::clamp(scale[g], 0.0f, kLargestHalf);
      const float largest = largest_magnitude(scale, groups), super = round_to_half(largest);
      for (uint64_t g = 0; g < groups; ++g)
        scale[g] = decode_parameter(super, encode_parameter(scale[g], largest, super, scale_top(p)), scale_top(p));
    }
    if (options_.zero == "minimum" && p == 16) {
      for (uint64_t g = 0; g < groups; ++g) minimum[g] = round_to_half(minimum[g]);
    } else if (options_.zero == "minimum") {
      for (uint64_t g = 0; g < groups; ++g) minimum[g] = std::clamp(minimum[g], -kLargestHalf, kLargestHalf);
      const float largest = largest_magnitude(minimum, groups), super = round_to_half(largest);
      for (uint64_t g = 0; g < groups; ++g)
        minimum[g] =
            decode_parameter(super, encode_parameter(minimum[g], largest, super, minimum_top(p)), minimum_top(p));
    } else if (options_.zero == "integer") {
      for (uint64_t g = 0; g < groups; ++g)
        minimum[g] = minimum_of_zero(nearest_zero(minimum[g], scale[g], levels()), scale[g]);
    } else {
      for (uint64_t g = 0; g < groups; ++g) minimum[g] = -static_cast<float>(centre()) * scale[g];
    }
  }
}

Packed GridFormat::pack(const AffineCodes& codes) const {
  const Shape shape = codes.shape;
  check_shape(shape, "pack");
  const GridLayout at = layout(shape.cols);
  const uint64_t groups = at.groups_per_row;
  const AffineParameters& parameters = codes.parameters;
  WHIT_CHECK(codes.codes.size() == shape.count());
  WHIT_CHECK(parameters.scale.size() == shape.rows * groups && parameters.minimum.size() == shape.rows * groups);
  WHIT_CHECK(parameters.column.size() == (options_.columns ? shape.cols : 0));

  Packed packed{shared_from_this(), shape, {}};
  for (const PartSpec& part : parts(shape)) packed.parts.emplace_back(part.bytes);
  const auto part_row = [&](int part, uint64_t row, uint64_t row_bytes) {
    return part < 0 ? nullptr : packed.parts[static_cast<size_t>(part)].data() + row * row_bytes;
  };
  const auto views = packed.views();
  const int p = options_.parameter_bits;
  for (uint64_t row = 0; row < shape.rows; ++row) {
    std::byte* to = part_row(at.codes, row, at.code_bytes);
    for (uint64_t j = 0; j < shape.cols; ++j) {
      const uint8_t code = codes.codes[row * shape.cols + j];
      WHIT_CHECK(code < levels());
      write_bits(to, j, options_.bits, code);
    }
    const float* scale = parameters.scale.data() + row * groups;
    const float* minimum = parameters.minimum.data() + row * groups;
    const float largest_scale = largest_magnitude(scale, groups), largest_minimum = largest_magnitude(minimum, groups);
    std::byte* scales = part_row(at.scales, row, at.parameter_bytes);
    std::byte* minima = part_row(at.minima, row, at.parameter_bytes);
    std::byte* zeros = part_row(at.zeros, row, at.zero_bytes);
    std::byte* supers = part_row(at.row_scales, row, 2 * static_cast<uint64_t>(at.row_scale_count));
    if (supers) write_half(supers, 0, nearest_half(largest_scale));
    if (at.row_scale_count == 2) write_half(supers, 1, nearest_half(largest_minimum));
    const uint32_t mask = (1u << p) - 1;
    for (uint64_t g = 0; g < groups; ++g) {
      if (p == 16) {
        write_half(scales, g, nearest_half(scale[g]));
        if (minima) write_half(minima, g, nearest_half(minimum[g]));
      } else {
        const float super = round_to_half(largest_scale), super_minimum = round_to_half(largest_minimum);
        write_bits(scales, g, p,
                   static_cast<uint32_t>(encode_parameter(scale[g], largest_scale, super, scale_top(p))) & mask);
        if (minima)
          write_bits(
              minima, g, p,
              static_cast<uint32_t>(encode_parameter(minimum[g], largest_minimum, super_minimum, minimum_top(p))) &
                  mask);
      }
      if (zeros) write_bits(zeros, g, options_.bits, nearest_zero(minimum[g], scale[g], levels()));
    }
    // What was not rounded by round_parameters would be stored as something else than its maker believes.
    const RowReader reader(*this, at, views, row);
    for (uint64_t g = 0; g < groups; ++g) {
      const GroupParameters stored = reader(g);
      WHIT_CHECK(stored.scale == scale[g] && stored.minimum == minimum[g]);
    }
  }
  if (at.columns >= 0)
    for (uint64_t j = 0; j < shape.cols; ++j) {
      const uint16_t half = nearest_half(parameters.column[j]);
      WHIT_CHECK(half_to_float(half) == parameters.column[j]);
      write_half(packed.parts[static_cast<size_t>(at.columns)].data(), j, half);
    }
  return packed;
}

AffineCodes GridFormat::unpack_codes(const Packed& packed) const {
  const Shape shape = packed.shape;
  const GridLayout at = layout(shape.cols);
  const uint64_t groups = at.groups_per_row;
  const std::vector<PartSpec> specs = parts(shape);
  WHIT_CHECK(packed.parts.size() == specs.size());
  for (size_t i = 0; i < specs.size(); ++i) WHIT_CHECK(packed.parts[i].size() == specs[i].bytes);
  const auto views = packed.views();

  AffineCodes codes{shape, std::vector<uint8_t>(shape.count()), {}};
  AffineParameters& parameters = codes.parameters;
  parameters.groups_per_row = groups;
  parameters.scale.resize(shape.rows * groups);
  parameters.minimum.resize(shape.rows * groups);
  for (uint64_t row = 0; row < shape.rows; ++row) {
    for (uint64_t j = 0; j < shape.cols; ++j)
      codes.codes[row * shape.cols + j] =
          static_cast<uint8_t>(read_bits(views[0].data() + row * at.code_bytes, j, options_.bits));
    const RowReader reader(*this, at, views, row);
    for (uint64_t g = 0; g < groups; ++g) {
      const GroupParameters group = reader(g);
      parameters.scale[row * groups + g] = group.scale;
      parameters.minimum[row * groups + g] = group.minimum;
    }
  }
  if (at.columns >= 0)
    for (uint64_t j = 0; j < shape.cols; ++j)
      parameters.column.push_back(half_to_float(read_half(views[static_cast<size_t>(at.columns)].data(), j)));
  return codes;
}

void settle_group_options(GridOptions& options, const Json& said, const std::string& where) {
  if (options.group == 0) {
    if (!said.contains("parameter_bits")) options.parameter_bits = 16;
    if (options.parameter_bits != 16)
      refuse_option(where, "one group per row has parameters of 16 bits",
                    fmt::format("parameter_bits {}", options.parameter_bits));
  }
  if (options.bits == 7) refuse_option(where, "bits must be 2, 3, 4, 5, 6 or 8", "7");
  if (options.parameter_bits != 6 && options.parameter_bits != 8 && options.parameter_bits != 16)
    refuse_option(where, "parameter_bits must be 6, 8 or 16", fmt::format("{}", options.parameter_bits));
}

std::vector<OptionDescription> format_factories::grid_options() { return describe_options<GridOptions>(); }

FormatPtr format_factories::make_grid(const Json& json, const std::string& where) {
  GridOptions options;
  read_options(options, json, where);
  // Defaults that follow from other options; what was said and cannot be is an error.
  if (options.columns) {
    if (!json.contains("group")) options.group = 0;
    if (!json.contains("zero")) options.zero = "symmetric";
    if (options.group != 0)
      refuse_option(where, "row and column scales have no groups", fmt::format("group {}", options.group));
    if (options.zero != "symmetric")
      refuse_option(where, "row and column scales have symmetric levels", "zero " + options.zero);
  }
  settle_group_options(options, json, where);
  if (options.group != 0 && (options.group < 16 || options.group % 8 != 0))
    refuse_option(where, "group must be 0 or a multiple of 8 from 16 to 128", fmt::format("{}", options.group));
  return std::make_shared<GridFormat>(options);
}

}  // namespace whit
