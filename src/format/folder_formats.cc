#include "format/folder_formats.h"

#include <fmt/format.h>

#include <cmath>
#include <cstring>
#include <limits>

#include "base/checked.h"
#include "format/bit_stream.h"

namespace whit {
namespace {

// What both have in common: no row in formats.def, and nothing that could be chosen in a recipe.
class FolderFormat : public Format {
 public:
  std::string label() const override { return name(); }
  Json options() const override { return Json::object(); }
  bool is_ggml() const override { return false; }
  bool storable() const override { return false; }
};

uint32_t word_at(std::span<const std::byte> part, uint64_t index) noexcept {
  uint32_t word;
  std::memcpy(&word, part.data() + index * sizeof(word), sizeof(word));
  return word;
}

// All 256, since ldexp() for every weight takes longer than reading it.
const std::array<float, 256>& f8_table() noexcept {
  static const std::array<float, 256> table = [] {
    std::array<float, 256> values{};
    for (size_t code = 0; code < values.size(); ++code) values[code] = f8_e4m3_to_float(static_cast<uint8_t>(code));
    return values;
  }();
  return table;
}

class ScaledF8 final : public FolderFormat {
 public:
  ScaledF8(uint64_t rows, uint64_t cols) : rows_(rows), cols_(cols) {}
  std::string name() const override { return "f8_e4m3"; }
  void check_shape(Shape, std::string_view) const override {}
  std::vector<PartSpec> parts(Shape shape) const override {
    const uint64_t scales = div_up(shape.rows, rows_) * div_up(shape.cols, cols_);
    return {{"codes", GgmlType::i8, shape.count(), shape.count(), shape.cols},
            {"scales", GgmlType::f32, scales, scales * sizeof(float), 0}};
  }
  void unpack(Shape shape, std::span<const std::span<const std::byte>> parts, uint64_t begin, uint64_t count,
              float* out) const noexcept override {
    const uint64_t across = div_up(shape.cols, cols_);
    const std::array<float, 256>& table = f8_table();
    for (uint64_t row = begin; row < begin + count; ++row, out += shape.cols)
      for (uint64_t j = 0; j < shape.cols; ++j) {
        float scale;
        std::memcpy(&scale, parts[1].data() + (row / rows_ * across + j / cols_) * sizeof(float), sizeof(float));
        out[j] = table[std::to_integer<size_t>(parts[0][row * shape.cols + j])] * scale;
      }
  }

 private:
  uint64_t rows_, cols_;
};

class Int4 final : public FolderFormat {
 public:
  explicit Int4(const PackedInt4& options) : options_(options) {}
  std::string name() const override { return options_.awq ? "awq_int4" : "gptq_int4"; }
  void check_shape(Shape shape, std::string_view tensor) const override {
    if (shape.rows % 8 != 0 || (!options_.awq && shape.cols % 8 != 0))
      throw Error(ErrorKind::input, "a matrix packed by eights has sides that are no multiples of 8",
                  std::string(tensor), fmt::format("{} x {}", shape.rows, shape.cols));
  }
  std::vector<PartSpec> parts(Shape shape) const override {
    const auto part = [](const char* name, GgmlType type, uint64_t count, uint64_t size) {
      return PartSpec{name, type, count, count * size, 0};
    };
    return {part("codes", GgmlType::i8, shape.count() / 2, 1),
            part("zeros", GgmlType::i8, options_.groups * shape.rows / 2, 1),
            part("scales", GgmlType::f16, options_.groups * shape.rows, 2),
            part("groups", GgmlType::i8, shape.cols * sizeof(int32_t), 1)};
  }
  void unpack(Shape shape, std::span<const std::span<const std::byte>> parts, uint64_t begin, uint64_t count,
              float* out) const noexcept override {
    // Inputs outside, outputs inside: what lies side by side in the file is read side by side.
    for (uint64_t i = 0; i < shape.cols; ++i) {
      const uint64_t group = word_at(parts[3], i);
      for (uint64_t r = 0; r < count; ++r) {
        const uint64_t row = begin + r;
        const int code = options_.awq
                             ? output_nibble(parts[0], i, row, shape.rows)
                             : static_cast<int>(word_at(parts[0], i / 8 * shape.rows + row) >> (4 * (i % 8)) & 15);
        int zero = output_nibble(parts[1], group, row, shape.rows);
        if (options_.zeros_minus_one) zero = (zero + 1) & 15;
        const float scale = half_to_float(read_half(parts[2].data(), group * shape.rows + row));
        out[r * shape.cols + i] = scale * static_cast<float>(code - zero);
      }
    }
  }

 private:
  // Of output `row` in line `line` of words that hold eight outputs each.
  int output_nibble(std::span<const std::byte> part, uint64_t line, uint64_t row, uint64_t rows) const noexcept {
    const uint64_t inside = row % 8, place = options_.awq ? inside / 2 + inside % 2 * 4 : inside;
    return static_cast<int>(word_at(part, line * (rows / 8) + row / 8) >> (4 * place) & 15);
  }

  PackedInt4 options_;
};

}  // namespace

float f8_e4m3_to_float(uint8_t code) noexcept {
  const int exponent = code >> 3 & 15, mantissa = code & 7;
  float value = exponent == 0 ? std::ldexp(static_cast<float>(mantissa), -9)
                              : std::ldexp(static_cast<float>(8 + mantissa), exponent - 10);
  if ((code & 0x7f) == 0x7f) value = std::numeric_limits<float>::quiet_NaN();
  return code & 0x80 ? -value : value;
}

FormatPtr make_scaled_f8(uint64_t rows_per_scale, uint64_t cols_per_scale) {
  WHIT_CHECK(rows_per_scale > 0 && cols_per_scale > 0);
  return std::make_shared<ScaledF8>(rows_per_scale, cols_per_scale);
}

FormatPtr make_packed_int4(const PackedInt4& options) { return std::make_shared<Int4>(options); }

}  // namespace whit
