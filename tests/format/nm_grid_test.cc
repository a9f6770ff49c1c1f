// nm_grid and nm_f16: kept weights and mask survive packing, the file has exactly the bytes it should, damage stays
// inside.
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>

#include "base/half.h"
#include "base/rng.h"
#include "format/format.h"

namespace whit {
namespace {

// A mask with the pattern, drawn group by group.
std::vector<uint8_t> random_mask(NmPattern pattern, Shape shape, uint64_t seed) {
  Rng rng(seed);
  std::vector<uint8_t> mask(shape.count(), 0);
  for (uint64_t i = 0; i < shape.rows; ++i)
    for (uint64_t begin = 0; begin < shape.cols; begin += pattern.m) {
      const uint64_t size = std::min<uint64_t>(pattern.m, shape.cols - begin);
      for (unsigned left = pattern.kept_of(size); left > 0;) {
        uint8_t& one = mask[i * shape.cols + begin + rng.below(size)];
        left -= one == 0;
        one = 1;
      }
    }
  return mask;
}

std::vector<float> unpacked(const Packed& packed) {
  std::vector<float> out(packed.shape.count());
  packed.format->unpack(packed.shape, packed.views(), 0, packed.shape.rows, out.data());
  return out;
}

const std::vector<std::pair<int, int>> kPatterns = {{2, 4},  {4, 8},  {5, 8}, {6, 8}, {2, 8},
                                                    {3, 16}, {2, 16}, {1, 8}, {8, 8}, {16, 32}};
const std::vector<Shape> kShapes = {{5, 172}, {3, 65}, {2, 256}, {1, 1}, {4, 7}, {2, 576}};

// 2:4, one group, inputs 0 and 3 kept: mask 1001 is number 3 of 6 (enumerative_test.cc); 1.0 and -2.0 as halves.
TEST(NmF16, ByHand) {
  const FormatPtr format = make_format("nm_f16", {{"n", 2}, {"m", 4}});
  const std::vector<float> weights = {1.0f, 0.0f, 0.0f, -2.0f};
  const Packed packed = pack_masked(format, {1, 4}, weights, std::vector<uint8_t>{1, 0, 0, 1});
  ASSERT_EQ(packed.parts.size(), 2u);
  EXPECT_EQ(packed.parts[0], std::vector<std::byte>{std::byte{3}});
  EXPECT_EQ(packed.parts[1], (std::vector<std::byte>{std::byte{0}, std::byte{0x3c}, std::byte{0}, std::byte{0xc0}}));
  EXPECT_EQ(unpacked(packed), weights);
  EXPECT_EQ(format->label(), "nm2:4-f16");
}

TEST(NmF16, RoundTripsAndExactBytes) {
  for (const auto& [n, m] : kPatterns)
    for (const Shape shape : kShapes) {
      const FormatPtr format = make_format("nm_f16", {{"n", n}, {"m", m}});
      const NmPattern pattern = *format->pattern();
      const std::vector<uint8_t> mask = random_mask(pattern, shape, 3);
      Rng rng(4);
      std::vector<float> weights(shape.count());
      for (size_t k = 0; k < weights.size(); ++k)
        weights[k] = mask[k] ? half_to_float(float_to_half(static_cast<float>(rng.normal()))) : 0.0f;
      const Packed packed = pack_masked(format, shape, weights, mask);
      ASSERT_EQ(unpacked(packed), weights) << format->label();
      ASSERT_EQ(stored_mask(packed), mask) << format->label();
      // Independently: ceil(log2 of the number of masks) per group, the rest of a row likewise.
      uint64_t bits = 0, kept = 0;
      for (uint64_t begin = 0; begin < shape.cols; begin += static_cast<uint64_t>(m)) {
        const double size = static_cast<double>(std::min<uint64_t>(static_cast<uint64_t>(m), shape.cols - begin));
        const double of = std::ceil(n * size / m);
        const double masks = std::tgamma(size + 1) / std::tgamma(of + 1) / std::tgamma(size - of + 1);
        bits += static_cast<uint64_t>(std::ceil(std::log2(std::round(masks))));
        kept += static_cast<uint64_t>(of);
      }
      ASSERT_EQ(format->bytes(shape), std::max<uint64_t>(shape.rows * ((bits + 7) / 8), 1) + 2 * shape.rows * kept) << format->label();
      ASSERT_EQ(packed.bytes(), format->bytes(shape));
    }
  EXPECT_NEAR(make_format("nm_f16", {{"n", 4}, {"m", 8}})->bits_per_weight({576, 576}), 8 + 7.0 / 8, 1e-9);
}

TEST(NmGrid, RoundTripsOfEveryVariant) {
  for (const auto& [n, m] : kPatterns)
    for (const int bits : {2, 3, 4, 8})
      for (const int parameter_bits : {6, 16})
        for (const char* zero : {"minimum", "integer", "symmetric"})
          for (const int groups : {0, 2}) {
            if (groups == 0 && parameter_bits != 16) continue;
            const FormatPtr format = make_format("nm_grid", {{"n", n},
                                                             {"m", m},
                                                             {"bits", bits},
                                                             {"group", groups * m},
                                                             {"parameter_bits", parameter_bits},
                                                             {"zero", zero}});
            const auto affine = as_affine(format);
            SCOPED_TRACE(format->label());
            ASSERT_EQ(make_format_from(format_to_json(*format), "test")->label(), format->label());
            for (const Shape shape : kShapes) {
              const uint64_t group = affine->group(shape.cols), per_row = (shape.cols + group - 1) / group;
              AffineCodes codes{
                  shape, std::vector<uint8_t>(shape.count(), 0), {}, random_mask(*format->pattern(), shape, 5)};
              Rng rng(6);
              for (size_t k = 0; k < codes.codes.size(); ++k)
                if (codes.mask[k]) codes.codes[k] = static_cast<uint8_t>(rng.below(affine->levels()));
              codes.parameters.groups_per_row = per_row;
              for (uint64_t g = 0; g < shape.rows * per_row; ++g) {
                codes.parameters.scale.push_back(static_cast<float>(rng.uniform()));
                codes.parameters.minimum.push_back(static_cast<float>(rng.normal()));
              }
              affine->round_parameters(shape, codes.parameters);
              const Packed packed = affine->pack(codes);
              ASSERT_EQ(packed.bytes(), format->bytes(shape));
              const auto specs = format->parts(shape);
              ASSERT_EQ(specs.size(), packed.parts.size());
              for (size_t p = 0; p < specs.size(); ++p) ASSERT_EQ(packed.parts[p].size(), specs[p].bytes);
              const AffineCodes back = affine->unpack_codes(packed);
              ASSERT_EQ(back.codes, codes.codes);
              ASSERT_EQ(back.mask, codes.mask);
              ASSERT_EQ(back.parameters.scale, codes.parameters.scale);
              ASSERT_EQ(back.parameters.minimum, codes.parameters.minimum);
              const std::vector<float> dense = unpacked(packed);
              for (size_t k = 0; k < dense.size(); ++k) {
                const uint64_t g = k / shape.cols * per_row + k % shape.cols / group;
                const float level =
                    codes.parameters.scale[g] * static_cast<float>(codes.codes[k]) + codes.parameters.minimum[g];
                ASSERT_EQ(dense[k], codes.mask[k] ? level : 0.0f) << k;
              }
            }
          }
}

// 4:8 at 4 bits in groups of 64 inputs: 7/8 of mask, half of 4 bits, two parameters of 8 bits per 64 inputs, the row's
// two halves.
TEST(NmGrid, BitsOfTheDefault) {
  const FormatPtr format = make_format("nm_grid");
  EXPECT_NEAR(format->bits_per_weight({576, 576}), 7.0 / 8 + 2 + 16.0 / 64 + 32.0 / 576, 1e-9);
  EXPECT_EQ(format->label(), "nm4:8-grid4-g64-s8");
}

// A damaged file: mask numbers that no mask has. The decoder stays inside and keeps as many weights as ever.
TEST(NmGrid, AnyBytesOfTheMaskDecode) {
  Rng rng(8);
  for (const auto& [n, m] : kPatterns) {
    const FormatPtr format = make_format("nm_f16", {{"n", n}, {"m", m}});
    const Shape shape{3, 65};
    Packed packed{format, shape, {}};
    for (const PartSpec& part : format->parts(shape)) packed.parts.emplace_back(part.bytes, std::byte{0x3c});
    for (const bool ones : {true, false}) {
      for (std::byte& byte : packed.parts[0]) byte = ones ? std::byte{0xff} : static_cast<std::byte>(rng.below(256));
      const std::vector<float> dense = unpacked(packed);
      const auto kept = std::count_if(dense.begin(), dense.end(), [](float w) { return w != 0; });
      EXPECT_EQ(static_cast<uint64_t>(kept), shape.rows * format->pattern()->kept(shape.cols));
    }
  }
}

TEST(NmGrid, RefusesWhatCannotBe) {
  const auto refused = [](const char* name, const Json& options) {
    try {
      make_format(name, options);
    } catch (const Error& error) {
      return error.kind() == ErrorKind::usage && std::string(error.what()).find(name) != std::string::npos;
    }
    return false;
  };
  EXPECT_TRUE(refused("nm_f16", {{"n", 5}, {"m", 4}}));
  EXPECT_TRUE(refused("nm_f16", {{"n", 0}}));
  EXPECT_TRUE(refused("nm_f16", {{"m", 33}}));
  EXPECT_TRUE(refused("nm_f16", {{"bits", 4}}));
  EXPECT_TRUE(refused("nm_grid", {{"n", 5}, {"m", 4}}));
  EXPECT_TRUE(refused("nm_grid", {{"group", 36}}));
  EXPECT_TRUE(refused("nm_grid", {{"bits", 7}}));
  EXPECT_TRUE(refused("nm_grid", {{"bits", 16}}));
  EXPECT_TRUE(refused("nm_grid", {{"group", 0}, {"parameter_bits", 8}}));
  EXPECT_TRUE(refused("nm_grid", {{"parameter_bits", 7}}));
  EXPECT_THROW(make_format("nm_f16")->check_shape({0, 8}, "t"), Error);
  EXPECT_THROW(pack_masked(make_format("f16"), {1, 8}, std::vector<float>(8), std::vector<uint8_t>(8, 1)), Error);
}

}  // namespace
}  // namespace whit
