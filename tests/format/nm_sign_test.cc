#include "format/nm_sign.h"

#include <gtest/gtest.h>

#include <cmath>

#include "base/rng.h"

namespace whit {
namespace {

NmSigns random_signs(NmPattern pattern, Shape shape, bool columns, uint64_t seed) {
  Rng rng(seed);
  NmSigns s{shape, std::vector<int8_t>(shape.count(), 0), {}, {}};
  for (uint64_t i = 0; i < shape.rows; ++i) {
    s.scales.push_back(static_cast<float>(rng.normal()));
    for (uint64_t begin = 0; begin < shape.cols; begin += pattern.m) {
      const uint64_t size = std::min<uint64_t>(pattern.m, shape.cols - begin);
      for (unsigned left = pattern.kept_of(size); left > 0;) {
        int8_t& sign = s.signs[i * shape.cols + begin + rng.below(size)];
        if (sign != 0) continue;
        sign = rng.below(2) ? 1 : -1;
        --left;
      }
    }
  }
  for (uint64_t j = 0; columns && j < shape.cols; ++j) s.columns.push_back(static_cast<float>(0.5 + rng.uniform()));
  return s;
}

std::shared_ptr<const NmSignFormat> nm_sign(int n, int m, bool columns) {
  return as_nm_sign(make_format("nm_sign", {{"n", n}, {"m", m}, {"columns", columns}}));
}

std::vector<float> unpacked(const Packed& packed) {
  std::vector<float> out(packed.shape.count(), 7.0f);
  packed.format->unpack(packed.shape, packed.views(), 0, packed.shape.rows, out.data());
  return out;
}

// 2:4 over 6 inputs: a full group and a rest of two that keeps one.
TEST(NmSign, ByHand) {
  const auto format = nm_sign(2, 4, true);
  const NmSigns s{{1, 6}, {0, -1, 0, 1, -1, 0}, {0.5f}, {1, 2, 4, 8, 16, 32}};
  const Packed packed = format->pack(s);
  // Masks of two bits in order of their values: 0011 0101 0110 1001 1010 1100; {1, 3} is 1010, number 4 in 3 bits. Of
  // one of two: {0} is number 0 in 1 bit. Signs - + -: 0b010.
  EXPECT_EQ(std::to_integer<int>(packed.parts[0][0]), 4);
  EXPECT_EQ(std::to_integer<int>(packed.parts[1][0]), 2);
  EXPECT_EQ(unpacked(packed), (std::vector<float>{0, -1, 0, 4, -8, 0}));
  EXPECT_EQ(packed.bytes(), 1u + 1 + 2 + 12);
}

TEST(NmSign, RoundTripsOfEveryPattern) {
  for (const auto& [n, m] : std::vector<std::pair<int, int>>{
           {2, 8}, {3, 16}, {2, 16}, {1, 8}, {1, 4}, {4, 8}, {8, 8}, {16, 32}, {1, 1}, {5, 7}, {1, 32}})
    for (const bool columns : {false, true})
      for (const Shape shape : {Shape{5, 172}, Shape{3, 65}, Shape{2, 576}, Shape{1, 1}, Shape{4, 7}}) {
        const auto format = nm_sign(n, m, columns);
        SCOPED_TRACE(format->label() + " cols " + std::to_string(shape.cols));
        const NmPattern pattern = format->kept_pattern();
        const Packed packed = format->pack(random_signs(pattern, shape, columns, 5));
        const NmSigns back = format->unpack_signs(packed);
        EXPECT_EQ(format->pack(back).parts, packed.parts);
        EXPECT_EQ(packed.bytes(), format->bytes(shape));
        const std::vector<float> w = unpacked(packed);
        for (size_t k = 0; k < w.size(); ++k)
          ASSERT_EQ(w[k], static_cast<float>(back.signs[k]) * back.scales[k / shape.cols] *
                              (columns ? back.columns[k % shape.cols] : 1.0f));
      }
}

TEST(NmSign, ExactBytes) {
  const auto bits = [](int n, int m) { return nm_sign(n, m, false)->bits_per_weight({4096, 4096}) - 16.0 / 4096; };
  EXPECT_DOUBLE_EQ(bits(2, 8), 0.875);
  EXPECT_DOUBLE_EQ(bits(3, 16), 0.8125);
  EXPECT_DOUBLE_EQ(bits(2, 16), 0.5625);
  EXPECT_DOUBLE_EQ(bits(1, 8), 0.5);
  EXPECT_DOUBLE_EQ(bits(4, 8), 1.375);
  EXPECT_DOUBLE_EQ(bits(1, 4), 0.75);
  // 172 = 21 x 8 + 4: 21 masks of 5 bits, one of one of four in 2 bits: 107 bits; 43 signs; a half.
  EXPECT_EQ(nm_sign(2, 8, false)->bytes({3, 172}), 3u * (14 + 6 + 2));
  EXPECT_EQ(nm_sign(2, 8, true)->bytes({3, 172}), 3u * (14 + 6 + 2) + 344);
}

// Whatever the bytes are, a row has its count of signs.
TEST(NmSign, AnyBytesDecode) {
  for (const auto& [n, m] : std::vector<std::pair<int, int>>{{2, 8}, {3, 16}, {16, 32}}) {
    const auto format = nm_sign(n, m, true);
    Packed packed{format, {3, 172}, {}};
    for (const PartSpec& part : format->parts(packed.shape)) packed.parts.emplace_back(part.bytes, std::byte{0xff});
    const NmSigns signs = format->unpack_signs(packed);
    for (size_t i = 0; i < 3; ++i) {
      uint64_t kept = 0;
      for (size_t j = 0; j < 172; ++j) kept += signs.signs[i * 172 + j] != 0;
      EXPECT_EQ(kept, format->kept_pattern().kept(172));
    }
  }
}

TEST(NmSign, MistakesAreRefused) {
  EXPECT_THROW(make_format("nm_sign", {{"n", 9}, {"m", 8}}), Error);
  EXPECT_THROW(make_format("nm_sign", {{"m", 33}}), Error);
  const auto format = nm_sign(2, 8, false);
  NmSigns signs = random_signs(format->kept_pattern(), {2, 16}, false, 6);
  signs.signs[0] = static_cast<int8_t>(signs.signs[0] == 0 ? 1 : 0);  // three or one of eight
  EXPECT_THROW(format->pack(signs), Error);
  signs = random_signs(format->kept_pattern(), {2, 16}, false, 6);
  signs.scales[1] = std::nanf("");
  EXPECT_THROW(format->pack(signs), Error);
}

}  // namespace
}  // namespace whit
