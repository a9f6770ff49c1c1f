#include "format/grid.h"

#include <gtest/gtest.h>

#include <cmath>

#include "base/half.h"
#include "base/rng.h"

namespace whit {
namespace {

std::vector<Json> all_variants() {
  std::vector<Json> variants;
  for (const int bits : {2, 3, 4, 5, 6, 8}) {
    variants.push_back({{"bits", bits}, {"columns", true}});
    for (const char* zero : {"minimum", "integer", "symmetric"}) {
      variants.push_back({{"bits", bits}, {"group", 0}, {"zero", zero}});
      for (const int group : {16, 24, 32, 64, 128})
        for (const int parameter_bits : {6, 8, 16})
          variants.push_back({{"bits", bits}, {"group", group}, {"parameter_bits", parameter_bits}, {"zero", zero}});
    }
  }
  return variants;
}

AffineCodes random_codes(const AffineFormat& format, Shape shape, uint64_t seed, float magnitude = 0.1f) {
  Rng rng(seed);
  AffineCodes codes{shape, std::vector<uint8_t>(shape.count()), {}};
  const uint64_t group = format.group(shape.cols);
  codes.parameters.groups_per_row = (shape.cols + group - 1) / group;
  for (size_t i = 0; i < codes.codes.size(); ++i)  // every code, in order, then random
    codes.codes[i] = static_cast<uint8_t>(i < format.levels() ? i : rng.below(format.levels()));
  for (uint64_t i = 0; i < shape.rows * codes.parameters.groups_per_row; ++i) {
    codes.parameters.scale.push_back(magnitude * static_cast<float>(rng.uniform()));
    codes.parameters.minimum.push_back(magnitude * static_cast<float>(rng.normal()) *
                                       static_cast<float>(format.levels()) * 0.5f);
  }
  if (format.has_columns())
    for (uint64_t j = 0; j < shape.cols; ++j)
      codes.parameters.column.push_back(static_cast<float>(0.5 + rng.uniform()));
  return codes;
}

bool same(const AffineParameters& a, const AffineParameters& b) {
  return a.groups_per_row == b.groups_per_row && a.scale == b.scale && a.minimum == b.minimum && a.column == b.column;
}

// Codes and rounded parameters survive packing exactly; the decoder says scale * q + minimum, times the column's
// factor.
TEST(Grid, RoundTripsOfEveryVariant) {
  for (const Json& options : all_variants())
    for (const Shape shape : {Shape{5, 172}, Shape{3, 65}, Shape{2, 256}, Shape{1, 1}, Shape{4, 7}, Shape{1, 576}}) {
      const FormatPtr format = make_format("grid", options);
      SCOPED_TRACE(format->label() + " cols " + std::to_string(shape.cols));
      const auto affine = as_affine(format);
      AffineCodes codes = random_codes(*affine, shape, 7);
      affine->round_parameters(shape, codes.parameters);
      AffineParameters again = codes.parameters;
      affine->round_parameters(shape, again);
      ASSERT_TRUE(same(again, codes.parameters));

      const Packed packed = affine->pack(codes);
      const auto specs = format->parts(shape);
      ASSERT_EQ(packed.parts.size(), specs.size());
      for (size_t p = 0; p < specs.size(); ++p) {
        ASSERT_EQ(packed.parts[p].size(), specs[p].bytes);
        ASSERT_EQ(specs[p].bytes, specs[p].count * (specs[p].type == GgmlType::f16 ? 2 : 1));
        if (specs[p].row_bytes != 0) ASSERT_EQ(specs[p].bytes, specs[p].row_bytes * shape.rows);
      }
      const AffineCodes back = affine->unpack_codes(packed);
      ASSERT_EQ(back.codes, codes.codes);
      ASSERT_TRUE(same(back.parameters, codes.parameters));
      ASSERT_EQ(affine->pack(back).parts, packed.parts);

      const StoredTensor stored = make_stored("t", std::make_shared<Packed>(packed));
      std::vector<float> rows(shape.count());
      unpack_rows({&stored, 0, shape.rows}, 0, shape.rows, rows);
      const uint64_t group = affine->group(shape.cols);
      for (uint64_t i = 0; i < shape.rows; ++i)
        for (uint64_t j = 0; j < shape.cols; ++j) {
          const uint64_t g = i * codes.parameters.groups_per_row + j / group;
          float wanted = codes.parameters.scale[g] * static_cast<float>(codes.codes[i * shape.cols + j]) +
                         codes.parameters.minimum[g];
          if (affine->has_columns()) wanted *= codes.parameters.column[j];
          ASSERT_EQ(rows[i * shape.cols + j], wanted);
        }
      if (shape.rows > 1) {
        std::vector<float> last(shape.cols);
        unpack_rows({&stored, 1, shape.rows - 1}, shape.rows - 2, 1, last);
        ASSERT_TRUE(std::equal(last.begin(), last.end(), rows.end() - static_cast<ptrdiff_t>(shape.cols)));
        const Packed cut = copy_packed({&stored, 1, shape.rows - 1});
        const StoredTensor cut_stored = make_stored("c", std::make_shared<Packed>(cut));
        std::vector<float> cut_rows((shape.rows - 1) * shape.cols);
        unpack_rows({&cut_stored, 0, shape.rows - 1}, 0, shape.rows - 1, cut_rows);
        ASSERT_TRUE(std::equal(cut_rows.begin(), cut_rows.end(), rows.begin() + static_cast<ptrdiff_t>(shape.cols)));
      }
    }
}

// Zero rows, subnormal halves, scales beyond a half, negative wishes: rounding is idempotent and packs.
TEST(Grid, RoundingOfExtremeParameters) {
  for (const Json& options : all_variants()) {
    const auto format = as_affine(make_format("grid", options));
    SCOPED_TRACE(format->label());
    for (const float magnitude : {0.0f, 1e-9f, 3e-8f, 8.9e-8f, 1e-6f, 1e5f, 3e38f, -1.0f}) {
      const Shape shape{3, 172};
      AffineCodes codes = random_codes(*format, shape, 11, magnitude);
      format->round_parameters(shape, codes.parameters);
      AffineParameters again = codes.parameters;
      format->round_parameters(shape, again);
      ASSERT_TRUE(same(again, codes.parameters)) << magnitude;
      const AffineCodes back = format->unpack_codes(format->pack(codes));
      ASSERT_TRUE(same(back.parameters, codes.parameters)) << magnitude;
    }
  }
}

// Parameters of p bits are within half a step of the row's largest, plus the half's own rounding of the super-scale.
TEST(Grid, RoundingErrorOfParameters) {
  for (const int parameter_bits : {6, 8}) {
    const auto format =
        as_affine(make_format("grid", {{"bits", 4}, {"group", 16}, {"parameter_bits", parameter_bits}}));
    const Shape shape{20, 512};
    const AffineCodes wish = random_codes(*format, shape, 3);
    AffineParameters rounded = wish.parameters;
    format->round_parameters(shape, rounded);
    for (uint64_t row = 0; row < shape.rows; ++row) {
      float largest = 0, largest_minimum = 0;
      for (uint64_t g = 0; g < 32; ++g) {
        largest = std::max(largest, wish.parameters.scale[row * 32 + g]);
        largest_minimum = std::max(largest_minimum, std::abs(wish.parameters.minimum[row * 32 + g]));
      }
      const double step = 0.5 / ((1 << parameter_bits) - 1) + 0x1p-11,
                   minimum_step = 0.5 / ((1 << (parameter_bits - 1)) - 1) + 0x1p-11;
      for (uint64_t g = row * 32; g < row * 32 + 32; ++g) {
        EXPECT_LE(std::abs(rounded.scale[g] - wish.parameters.scale[g]), largest * step);
        EXPECT_LE(std::abs(rounded.minimum[g] - wish.parameters.minimum[g]), largest_minimum * minimum_step);
      }
    }
  }
}

std::vector<int> bytes_of(const std::vector<std::byte>& bytes) {
  std::vector<int> values;
  for (const std::byte b : bytes) values.push_back(std::to_integer<int>(b));
  return values;
}

// The layout of format/grid.h by hand: what is written once must be readable for ever.
TEST(Grid, ExactBytes) {
  {
    const auto format = as_affine(make_format("grid", {{"bits", 3}, {"group", 16}, {"parameter_bits", 6}}));
    AffineCodes codes{{1, 20}, {}, {2, {1.0f, 0.5f}, {-2.0f, 1.0f}, {}}};
    for (int j = 0; j < 20; ++j) codes.codes.push_back(static_cast<uint8_t>(j % 8));
    format->round_parameters(codes.shape, codes.parameters);
    const Packed packed = format->pack(codes);
    // 0..7 in 3 bits little-endian: 0xfac688; then 0, 1, 2, 3 after two full runs.
    EXPECT_EQ(bytes_of(packed.parts[0]), (std::vector<int>{0x88, 0xc6, 0xfa, 0x88, 0xc6, 0xfa, 0x88, 0x06}));
    // u = 63, round(31.5) = 32: 63 | 32 << 6 = 0x83f
    EXPECT_EQ(bytes_of(packed.parts[1]), (std::vector<int>{0x3f, 0x08}));
    // v = -31 (six bits: 33), round(15.5) = 16: 33 | 16 << 6 = 0x421
    EXPECT_EQ(bytes_of(packed.parts[2]), (std::vector<int>{0x21, 0x04}));
    EXPECT_EQ(bytes_of(packed.parts[3]), (std::vector<int>{0x00, 0x3c, 0x00, 0x40}));  // S = 1, M = 2
    EXPECT_EQ(codes.parameters.scale[1], 32.0f / 63.0f);
    EXPECT_EQ(codes.parameters.minimum[1], 2.0f * 16.0f / 31.0f);
  }
  {
    const auto format =
        as_affine(make_format("grid", {{"bits", 2}, {"group", 16}, {"parameter_bits", 16}, {"zero", "integer"}}));
    AffineCodes codes{{2, 16}, std::vector<uint8_t>(32, 2), {1, {0.25f, -1.0f}, {-0.5f, 9.0f}, {}}};
    format->round_parameters(codes.shape, codes.parameters);
    const Packed packed = format->pack(codes);
    EXPECT_EQ(bytes_of(packed.parts[0]), std::vector<int>(8, 0xaa));
    EXPECT_EQ(bytes_of(packed.parts[1]), (std::vector<int>{0x00, 0x34, 0x00, 0xbc}));
    EXPECT_EQ(bytes_of(packed.parts[2]), (std::vector<int>{2, 3}));  // z = 2; z = 9 is beyond the last code
  }
  {
    const auto format = as_affine(make_format("grid", {{"bits", 4}, {"columns", true}}));
    AffineCodes codes{{1, 3}, {0, 15, 8}, {1, {2.0f}, {0.0f}, {1.0f, 0.5f, -1.0f}}};
    format->round_parameters(codes.shape, codes.parameters);
    const Packed packed = format->pack(codes);
    EXPECT_EQ(bytes_of(packed.parts[0]), (std::vector<int>{0xf0, 0x08}));
    EXPECT_EQ(bytes_of(packed.parts[1]), (std::vector<int>{0x00, 0x40}));
    EXPECT_EQ(bytes_of(packed.parts[2]), (std::vector<int>{0x00, 0x3c, 0x00, 0x38, 0x00, 0xbc}));
    const StoredTensor stored = make_stored("t", std::make_shared<Packed>(packed));
    std::vector<float> row(3);
    unpack_rows({&stored, 0, 1}, 0, 1, row);
    EXPECT_EQ(row, (std::vector<float>{-15.0f, 7.5f, -1.0f}));
  }
}

TEST(Grid, StoredBitsPerWeight) {
  const auto bits = [](const Json& options, Shape shape) {
    return make_format("grid", options)->bits_per_weight(shape);
  };
  const Shape shape{1536, 576};
  EXPECT_DOUBLE_EQ(bits({{"bits", 3}, {"group", 32}}, shape), 3 + 16.0 / 32 + 32.0 / 576);
  EXPECT_DOUBLE_EQ(bits({{"bits", 3}, {"group", 64}, {"parameter_bits", 16}}, shape), 3.5);
  EXPECT_DOUBLE_EQ(bits({{"bits", 2}, {"group", 64}, {"zero", "symmetric"}}, shape), 2 + 9 * 8.0 / 576 + 16.0 / 576);
  EXPECT_DOUBLE_EQ(bits({{"bits", 4}, {"group", 32}, {"zero", "integer"}}, shape), 4 + 12.0 / 32 + 16.0 / 576);
  EXPECT_DOUBLE_EQ(bits({{"bits", 4}, {"columns", true}}, shape), 4 + 16.0 / 576 + 16.0 / 1536);
}

TEST(Grid, OptionsThatCannotBe) {
  const auto kind = [](const Json& options) {
    try {
      make_format("grid", options);
    } catch (const Error& error) {
      return error.kind();
    }
    return ErrorKind::internal;
  };
  for (const Json& options :
       {Json{{"bits", 7}}, Json{{"bits", 1}}, Json{{"bits", 9}}, Json{{"group", 8}}, Json{{"group", 36}},
        Json{{"group", 136}}, Json{{"parameter_bits", 7}}, Json{{"group", 0}, {"parameter_bits", 8}},
        Json{{"zero", "none"}}, Json{{"columns", 1}}, Json{{"columns", true}, {"group", 32}},
        Json{{"columns", true}, {"zero", "integer"}}, Json{{"bit", 3}}, Json{{"bits", "3"}}})
    EXPECT_EQ(kind(options), ErrorKind::usage) << options.dump();
}

}  // namespace
}  // namespace whit
