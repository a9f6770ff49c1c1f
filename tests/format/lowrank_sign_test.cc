#include "format/lowrank_sign.h"

#include <gtest/gtest.h>

#include <cmath>

#include "base/half.h"
#include "base/rng.h"

namespace whit {
namespace {

std::shared_ptr<const LowrankSignFormat> lowrank(const Json& options) {
  return as_lowrank_sign(make_format("lowrank_sign", options));
}

LowrankSignFactors random_factors(Shape shape, uint64_t rank, uint64_t seed) {
  Rng rng(seed);
  LowrankSignFactors f{shape, {}, {}, {}, {}, {}};
  const auto fill = [&](std::vector<float>& values, uint64_t count, double scale) {
    for (uint64_t i = 0; i < count; ++i) values.push_back(static_cast<float>(scale * rng.normal()));
  };
  fill(f.u, shape.rows * rank, 1);
  fill(f.v, rank * shape.cols, 1);
  fill(f.h, shape.rows, 0.3);
  fill(f.l, rank, 0.1);
  fill(f.g, shape.cols, 2);
  return f;
}

std::vector<float> unpacked(const Packed& packed, uint64_t begin, uint64_t count) {
  std::vector<float> out(count * packed.shape.cols, 7.0f);
  packed.format->unpack(packed.shape, packed.views(), begin, count, out.data());
  return out;
}

// h = 2, 3; l = 1, 10, 0, ...; g = 1, -1, 0.5; by hand.
TEST(LowrankSign, ByHand) {
  const auto format = lowrank({{"rank", 8}});
  LowrankSignFactors f{{2, 3},      std::vector<float>(16, 1.0f), std::vector<float>(24, 1.0f), {2, 3}, {1, 10},
                       {1, -1, 0.5}};
  f.l.resize(8);
  f.u[1] = -0.5f;       // row 0, second column of U
  f.v[2] = -3.0f;       // first row of V^T, column 2
  f.v[3 + 0] = -1e-9f;  // second row of V^T, column 0
  const Packed packed = format->pack(f);
  const auto byte = [&](size_t part, size_t i) { return std::to_integer<int>(packed.parts[part][i]); };
  EXPECT_EQ(byte(0, 0), 0xfd);
  EXPECT_EQ(byte(0, 1), 0xff);
  EXPECT_EQ(byte(1, 0), 0b011);
  EXPECT_EQ(byte(1, 1), 0b110);
  EXPECT_EQ(byte(1, 2), 0b111);
  // row 0: 2 (v0 - 10 v1) g, row 1: 3 (v0 + 10 v1) g
  EXPECT_EQ(unpacked(packed, 0, 2), (std::vector<float>{22, 18, -11, -27, -33, 13.5}));
}

TEST(LowrankSign, RoundTripsAndDecodesTheProduct) {
  for (const Shape shape : {Shape{5, 172}, Shape{40, 65}, Shape{1, 1}, Shape{33, 128}, Shape{3, 7}})
    for (const int rank : {8, 24, 200}) {
      const auto format = lowrank({{"rank", rank}});
      SCOPED_TRACE(std::to_string(shape.rows) + " x " + std::to_string(shape.cols) + " rank " + std::to_string(rank));
      const Packed packed = format->pack(random_factors(shape, static_cast<uint64_t>(rank), 3));
      const LowrankSignFactors f = format->unpack_factors(packed);
      EXPECT_EQ(format->pack(f).parts, packed.parts);
      EXPECT_EQ(packed.bytes(), format->bytes(shape));
      const std::vector<float> w = unpacked(packed, 0, shape.rows);
      const size_t r = static_cast<size_t>(rank);
      for (size_t i = 0; i < shape.rows; ++i)
        for (size_t j = 0; j < shape.cols; ++j) {
          double sum = 0, size = 0;
          for (size_t k = 0; k < r; ++k) {
            const double term = double{f.u[i * r + k]} * f.l[k] * f.v[k * shape.cols + j];
            sum += term;
            size += std::abs(term);
          }
          const double scale = double{f.h[i]} * f.g[j];
          // r / 4 + 3 additions and three products
          ASSERT_NEAR(w[i * shape.cols + j], scale * sum,
                      std::abs(scale) * size * 0x1p-24 * (static_cast<double>(rank) / 4 + 6));
        }
      // A row alone, a few, or all: the same bits.
      for (size_t i = 0; i < shape.rows; ++i) {
        const std::vector<float> row = unpacked(packed, i, 1);
        ASSERT_TRUE(std::equal(row.begin(), row.end(), w.begin() + static_cast<std::ptrdiff_t>(i * shape.cols)));
      }
    }
}

TEST(LowrankSign, RankFromBits) {
  // The ranks of the published arithmetic: bits n m = r (n + m) + 16 (n + m + r), rounded down to 8.
  const auto rank = [](double bits, uint64_t rows, uint64_t cols) {
    return lowrank({{"bits", bits}})->rank({rows, cols});
  };
  EXPECT_EQ(rank(1.0, 960, 576), 336u);
  EXPECT_EQ(rank(1.0, 576, 576), 264u);
  EXPECT_EQ(rank(1.0, 3072, 576), 464u);
  EXPECT_EQ(rank(1.0, 576, 1536), 392u);
  EXPECT_EQ(rank(0.55, 3072, 576), 248u);
  EXPECT_EQ(rank(2.0, 960, 576), 696u);
  EXPECT_EQ(rank(0.01, 64, 64), 8u);
  for (const Shape shape : {Shape{960, 576}, Shape{172, 64}, Shape{64, 172}, Shape{49152, 576}}) {
    const auto format = lowrank({{"bits", 1.5}});
    const uint64_t r = format->rank(shape), row = (shape.cols + 7) / 8;
    EXPECT_EQ(format->bytes(shape), shape.rows * r / 8 + r * row + 2 * (shape.rows + r + shape.cols));
    EXPECT_LE(format->bits_per_weight(shape), shape.cols % 8 == 0 ? 1.5 : 1.55);
    const uint64_t more = 8 * (shape.rows + shape.cols + 16);  // of eight more columns of U and V
    EXPECT_GT(8 * format->bytes(shape) + more, 1.5 * static_cast<double>(shape.count()));
  }
}

TEST(LowrankSign, Options) {
  EXPECT_EQ(make_format("lowrank_sign")->label(), "lowrank-1");
  EXPECT_EQ(make_format("lowrank_sign", {{"bits", 0.55}})->label(), "lowrank-0.55");
  const FormatPtr by_rank = make_format("lowrank_sign", {{"rank", 336}});
  EXPECT_EQ(by_rank->label(), "lowrank-r336");
  EXPECT_EQ(make_format_from(format_to_json(*by_rank), "test")->label(), by_rank->label());
  for (const Json& bad : {Json{{"rank", 12}}, Json{{"rank", 8}, {"bits", 1.0}}, Json{{"bits", 0}}, Json{{"rank", -8}},
                          Json{{"bits", 33}}, Json{{"ranks", 8}}}) {
    try {
      make_format("lowrank_sign", bad);
      FAIL() << bad.dump();
    } catch (const Error& error) {
      EXPECT_EQ(error.kind(), ErrorKind::usage) << bad.dump();
    }
  }
}

// A row of U and its h belong to a row of the matrix: they can be cut out; the rest is shared.
TEST(LowrankSign, AMemberIsCutOut) {
  const auto format = lowrank({{"rank", 16}});
  const StoredTensor stack =
      make_stored("stack", std::make_shared<Packed>(format->pack(random_factors({9, 20}, 16, 4))));
  const Packed member = copy_packed({&stack, 2, 5});
  std::vector<float> whole(9 * 20);
  unpack_rows({&stack, 0, 9}, 0, 9, whole);
  EXPECT_EQ(unpacked(member, 0, 5), std::vector<float>(whole.begin() + 40, whole.begin() + 140));
}

TEST(LowrankSign, ScalesSaturateAndMustBeFinite) {
  const auto format = lowrank({{"rank", 8}});
  LowrankSignFactors f = random_factors({2, 3}, 8, 5);
  f.h[0] = 1e9f;
  EXPECT_EQ(format->unpack_factors(format->pack(f)).h[0], 65504.0f);
  f.l[3] = std::nanf("");
  EXPECT_THROW(format->pack(f), Error);
}

}  // namespace
}  // namespace whit
