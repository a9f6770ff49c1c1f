#include "format/lowrank_sign.h"

#include <fmt/format.h>

#include <array>
#include <cmath>

#include "format/bit_stream.h"
#include "format/formats_table.h"

namespace whit {
namespace {

constexpr size_t kU = 0, kV = 1, kH = 2, kL = 3, kG = 4;

// Columns of V^T that are decoded together: with four of its rows at a time, the 16 sums that four signs can select
// stay in the first-level cache.
constexpr uint64_t kTile = 64;
using Lanes = std::array<float, kTile>;

float sign_of(uint64_t bits, uint64_t index) noexcept { return (bits >> index & 1) != 0 ? 1.0f : -1.0f; }

// ((+-a + +-b) + +-c) + +-d, column by column.
Lanes signed_sum(uint64_t signs, const std::array<Lanes, 4>& terms, uint64_t width) noexcept {
  const float a = sign_of(signs, 0), b = sign_of(signs, 1), c = sign_of(signs, 2), d = sign_of(signs, 3);
  Lanes sum;
  for (uint64_t j = 0; j < width; ++j) sum[j] = a * terms[0][j] + b * terms[1][j] + c * terms[2][j] + d * terms[3][j];
  return sum;
}

}  // namespace

uint64_t LowrankSignFormat::rank(Shape shape) const noexcept {
  if (options_.rank != 0) return static_cast<uint64_t>(options_.rank);
  const double rows = static_cast<double>(shape.rows), cols = static_cast<double>(shape.cols);
  const double most = (options_.bits * rows * cols - 16 * (rows + cols)) / (rows + cols + 16);
  return most < 8 ? 8 : static_cast<uint64_t>(most) / 8 * 8;
}

std::string LowrankSignFormat::label() const {
  return options_.rank != 0 ? fmt::format("lowrank-r{}", options_.rank) : fmt::format("lowrank-{}", options_.bits);
}

void LowrankSignFormat::check_shape(Shape shape, std::string_view tensor) const {
  if (shape.count() == 0)
    throw Error(ErrorKind::input, "an empty matrix cannot be stored", std::string(tensor),
                fmt::format("{} x {}", shape.rows, shape.cols));
}

std::vector<PartSpec> LowrankSignFormat::parts(Shape shape) const {
  const uint64_t r = rank(shape), u = r / 8, v = r * stream_bytes(shape.cols, 1);
  return {{"u", GgmlType::i8, shape.rows * u, shape.rows * u, u},
          {"v", GgmlType::i8, v, v, 0},
          {"h", GgmlType::f16, shape.rows, 2 * shape.rows, 2},
          {"l", GgmlType::f16, r, 2 * r, 0},
          {"g", GgmlType::f16, shape.cols, 2 * shape.cols, 0}};
}

void LowrankSignFormat::unpack(Shape shape, std::span<const std::span<const std::byte>> parts, uint64_t begin,
                               uint64_t count, float* out) const noexcept {
  const uint64_t r = rank(shape), u_bytes = r / 8, v_bytes = stream_bytes(shape.cols, 1);
  for (uint64_t left = 0; left < shape.cols; left += kTile) {
    const uint64_t width = std::min(kTile, shape.cols - left);
    for (uint64_t i = 0; i < count; ++i) std::fill_n(out + i * shape.cols + left, width, 0.0f);
    for (uint64_t k = 0; k < r; k += 4) {
      std::array<Lanes, 4> terms;  // rows k .. k + 3 of diag(l) V^T
      for (uint64_t t = 0; t < 4; ++t) {
        const float l = half_to_float(read_half(parts[kL].data(), k + t));
        const std::byte* signs = parts[kV].data() + (k + t) * v_bytes + left / 8;
        for (uint64_t j = 0; j < width; ++j) terms[t][j] = l * sign_of(std::to_integer<uint64_t>(signs[j / 8]), j % 8);
      }
      // All 16 sums pay when more rows than that choose among them.
      const bool table = count > 16;
      std::array<Lanes, 16> sums;
      for (uint64_t s = 0; table && s < 16; ++s) sums[s] = signed_sum(s, terms, width);
      for (uint64_t i = 0; i < count; ++i) {
        const uint64_t signs = read_bits_at(parts[kU].data() + (begin + i) * u_bytes, k, 4);
        if (!table) sums[signs] = signed_sum(signs, terms, width);
        float* row = out + i * shape.cols + left;
        for (uint64_t j = 0; j < width; ++j) row[j] += sums[signs][j];
      }
    }
    for (uint64_t i = 0; i < count; ++i) {
      const float h = half_to_float(read_half(parts[kH].data(), begin + i));
      float* row = out + i * shape.cols + left;
      for (uint64_t j = 0; j < width; ++j) row[j] *= h * half_to_float(read_half(parts[kG].data(), left + j));
    }
  }
}

Packed LowrankSignFormat::pack(const LowrankSignFactors& factors) const {
  const Shape shape = factors.shape;
  check_shape(shape, "pack");
  const uint64_t r = rank(shape), u_bytes = r / 8, v_bytes = stream_bytes(shape.cols, 1);
  WHIT_CHECK(factors.u.size() == shape.rows * r && factors.v.size() == r * shape.cols);
  WHIT_CHECK(factors.h.size() == shape.rows && factors.l.size() == r && factors.g.size() == shape.cols);
  Packed packed{shared_from_this(), shape, {}};
  for (const PartSpec& part : parts(shape)) packed.parts.emplace_back(part.bytes);
  const auto signs = [&](size_t part, const std::vector<float>& values, uint64_t count, uint64_t width,
                         uint64_t row_bytes) {
    for (uint64_t i = 0; i < count; ++i)
      for (uint64_t j = 0; j < width; ++j)
        write_bits(packed.parts[part].data() + i * row_bytes, j, 1, std::signbit(values[i * width + j]) ? 0 : 1);
  };
  const auto halves = [&](size_t part, const std::vector<float>& values) {
    for (uint64_t i = 0; i < values.size(); ++i) {
      WHIT_CHECK(std::isfinite(values[i]));
      write_half(packed.parts[part].data(), i, nearest_half(values[i]));
    }
  };
  signs(kU, factors.u, shape.rows, r, u_bytes);
  signs(kV, factors.v, r, shape.cols, v_bytes);
  halves(kH, factors.h);
  halves(kL, factors.l);
  halves(kG, factors.g);
  return packed;
}

LowrankSignFactors LowrankSignFormat::unpack_factors(const Packed& packed) const {
  const Shape shape = packed.shape;
  const std::vector<PartSpec> specs = parts(shape);
  WHIT_CHECK(packed.parts.size() == specs.size());
  for (size_t i = 0; i < specs.size(); ++i) WHIT_CHECK(packed.parts[i].size() == specs[i].bytes);
  const uint64_t r = rank(shape);
  LowrankSignFactors factors{shape, {}, {}, {}, {}, {}};
  const auto signs = [&](size_t part, uint64_t count, uint64_t width, uint64_t row_bytes, std::vector<float>& values) {
    values.resize(count * width);
    for (uint64_t i = 0; i < count; ++i)
      for (uint64_t j = 0; j < width; ++j)
        values[i * width + j] = sign_of(read_bits(packed.parts[part].data() + i * row_bytes, j, 1), 0);
  };
  const auto halves = [&](size_t part, uint64_t count, std::vector<float>& values) {
    for (uint64_t i = 0; i < count; ++i) values.push_back(half_to_float(read_half(packed.parts[part].data(), i)));
  };
  signs(kU, shape.rows, r, r / 8, factors.u);
  signs(kV, r, shape.cols, stream_bytes(shape.cols, 1), factors.v);
  halves(kH, shape.rows, factors.h);
  halves(kL, r, factors.l);
  halves(kG, shape.cols, factors.g);
  return factors;
}

std::shared_ptr<const LowrankSignFormat> as_lowrank_sign(const FormatPtr& format) {
  return std::dynamic_pointer_cast<const LowrankSignFormat>(format);
}

std::vector<OptionDescription> format_factories::lowrank_sign_options() { return describe_options<LowrankSignOptions>(); }

FormatPtr format_factories::make_lowrank_sign(const Json& json, const std::string& where) {
  LowrankSignOptions options;
  if (json.is_object() && json.contains("rank") && !json.contains("bits")) options.bits = 0;
  read_options(options, json, where);
  if ((options.bits != 0) == (options.rank != 0))
    throw Error(ErrorKind::usage, "either bits or a rank chooses the size", where,
                fmt::format("bits {}, rank {}", options.bits, options.rank), "bits = 1.0, or rank = 336");
  if (options.rank % 8 != 0)
    throw Error(ErrorKind::usage, "the rank must be a multiple of 8", where, fmt::format("{}", options.rank));
  return std::make_shared<LowrankSignFormat>(options);
}

}  // namespace whit
