// Rotations: orthogonal to float rounding at every kind of width, fixed for all time, refused where they cannot be.
#include "format/rotation.h"

#include <gtest/gtest.h>

#include <cmath>

#include "base/error.h"
#include "base/rng.h"
#include "format/format.h"

namespace whit {
namespace {

std::vector<float> random_values(uint64_t count, uint64_t seed) {
  Rng rng(seed);
  std::vector<float> values(count);
  for (float& x : values) x = static_cast<float>(rng.normal());
  return values;
}

TEST(Rotation, ByHand) {
  // n = 2: H / sqrt(2) after the signs.
  const Rotation two(2, 9, {});
  std::vector<float> x = {3, 5};
  two.apply(x.data(), 1, 1, 2);
  const float a = 3 * two.signs()[0], b = 5 * two.signs()[1];
  EXPECT_FLOAT_EQ(x[0], (a + b) / std::sqrt(2.0f));
  EXPECT_FLOAT_EQ(x[1], (a - b) / std::sqrt(2.0f));
  // n = 6 = 3 runs of 2, Q a permutation: run r of the result is the transform of run (r + 1) % 3.
  const Rotation six(6, 9, {0, 1, 0, 0, 0, 1, 1, 0, 0});
  std::vector<float> y = {1, 2, 4, 8, 16, 32}, signed_y = y;
  for (size_t i = 0; i < 6; ++i) signed_y[i] *= six.signs()[i];
  six.apply(y.data(), 1, 1, 6);
  for (size_t r = 0; r < 3; ++r) {
    const float p = signed_y[(r + 1) % 3 * 2], q = signed_y[(r + 1) % 3 * 2 + 1];
    EXPECT_FLOAT_EQ(y[2 * r], (p + q) / std::sqrt(2.0f));
    EXPECT_FLOAT_EQ(y[2 * r + 1], (p - q) / std::sqrt(2.0f));
  }
}

TEST(Rotation, OrthogonalAndInvertible) {
  for (const uint64_t n : {1, 2, 3, 8, 9, 43, 64, 172, 192, 255, 576, 960, 1020, 1536, 3072}) {
    const auto rotation = make_rotation(n, n, 3, "n");
    const std::vector<float> x = random_values(11 * n, n);
    std::vector<float> y = x;
    rotation->apply(y.data(), 11, 1, n);
    // Inner products of vectors stay: F32 keeps Q and the result to 2^-24 an element.
    for (uint64_t v = 0; v + 1 < 11; ++v) {
      double before = 0, after = 0, square = 0;
      for (uint64_t i = 0; i < n; ++i) {
        before += static_cast<double>(x[v * n + i]) * x[(v + 1) * n + i];
        after += static_cast<double>(y[v * n + i]) * y[(v + 1) * n + i];
        square += static_cast<double>(x[v * n + i]) * x[v * n + i];
      }
      ASSERT_NEAR(before, after, 1e-6 * (square + static_cast<double>(n))) << n;
    }
    if (n > 8) EXPECT_NE(x, y);
    rotation->invert(y.data(), 11, 1, n);
    for (uint64_t i = 0; i < y.size(); ++i) ASSERT_NEAR(y[i], x[i], 3e-6) << n;
  }
}

// One large entry is spread over all: what a rotation is for. |R e| <= max |Q| / sqrt(2^k).
TEST(Rotation, SpreadsAnOutlier) {
  const auto rotation = make_rotation(576, 1, 2, "n");
  float largest = 0;
  for (const float q : rotation->factor()) largest = std::max(largest, std::abs(q));
  std::vector<float> x(576, 0.0f);
  x[100] = 1;
  rotation->apply(x.data(), 1, 1, 576);
  for (const float y : x) EXPECT_LE(std::abs(y), largest / 8 + 1e-6f);
}

TEST(Rotation, RowsAndColumnsAreTheSameTransform) {
  const auto rotation = make_rotation(24, 1, 2, "n");
  const std::vector<float> x = random_values(24 * 13, 5);
  std::vector<float> rows = x, columns(x.size());
  for (size_t v = 0; v < 13; ++v)
    for (size_t i = 0; i < 24; ++i) columns[i * 13 + v] = x[v * 24 + i];
  rotation->apply(rows.data(), 13, 1, 24);
  rotation->apply(columns.data(), 13, 13, 1);
  for (size_t v = 0; v < 13; ++v)
    for (size_t i = 0; i < 24; ++i) ASSERT_EQ(columns[i * 13 + v], rows[v * 24 + i]);
}

// A file that was written once must be read alike for ever: the signs are part of the format.
TEST(Rotation, SignsAreFixedForAllTime) {
  const Rotation rotation(96, 12345, random_values(9, 1));
  uint64_t first = 0;
  for (size_t i = 0; i < 64; ++i) first |= static_cast<uint64_t>(rotation.signs()[i] < 0) << i;
  EXPECT_EQ(first, Rng(12345 ^ (uint64_t{96} << 32)).next());
  EXPECT_EQ(first, uint64_t{0x5415df543a81f84e});
  EXPECT_TRUE(*make_rotation(96, 1, 2, "") == *make_rotation(96, 1, 2, ""));
  EXPECT_FALSE(*make_rotation(96, 1, 2, "") == *make_rotation(96, 2, 2, ""));
  EXPECT_FALSE(*make_rotation(96, 1, 2, "") == *make_rotation(96, 1, 3, ""));
  EXPECT_EQ(make_rotation(96, 1, 2, "")->factor(), make_rotation(768, 5, 2, "")->factor()) << "one Q for all 3 2^k";
}

TEST(Rotation, WidthsThatCannotBe) {
  for (const uint64_t n : {uint64_t{0}, uint64_t{257}, uint64_t{514}, uint64_t{2} << 20, uint64_t{1} << 63}) {
    try {
      make_rotation(n, 1, 1, "blk.0.ffn_down.weight");
      FAIL() << n;
    } catch (const Error& error) {
      EXPECT_EQ(error.kind(), ErrorKind::usage);
      EXPECT_NE(std::string(error.what()).find("cannot be rotated"), std::string::npos);
      EXPECT_EQ(error.where(), "blk.0.ffn_down.weight");
      EXPECT_EQ(error.found(), std::to_string(n));
    }
  }
}

// Every way to read rows of a rotated stack sees the model's own weights.
TEST(Rotation, RowsOfARotatedStack) {
  const Shape shape{40, 24};
  const std::vector<float> weights = random_values(shape.count(), 8);
  auto packed = std::make_shared<Packed>();
  UnitRotation rotation{make_rotation(24, 1, 9, "i"),
                        {{0, make_rotation(24, 2, 9, "q")}, {28, make_rotation(12, 2, 9, "v")}}};
  std::vector<float> turned = weights;
  rotation.rotate_inputs(turned.data(), 40, 24);
  rotation.rotate_outputs(turned.data(), 24, 0, 10);  // in pieces, as several workers do
  rotation.rotate_outputs(turned.data(), 24, 10, 24);
  *packed = pack_dense(make_format("f32"), shape, turned);
  packed->rotation = rotation;
  const std::vector<Member> members = {{"q", 0, 24}, {"k", 24, 4}, {"v", 28, 12}};
  const StoredTensor tensor = make_stored("stack", packed, members);
  const auto expect_rows = [&](const TensorView& view, uint64_t begin, uint64_t count, uint64_t at) {
    std::vector<float> rows(count * 24);
    unpack_rows(view, begin, count, rows);
    for (size_t i = 0; i < rows.size(); ++i) ASSERT_NEAR(rows[i], weights[at * 24 + i], 5e-6) << at << " " << i;
  };
  expect_rows({&tensor, 0, 40}, 0, 40, 0);
  for (uint64_t row = 0; row < 40; ++row) expect_rows({&tensor, 0, 40}, row, 1, row);
  expect_rows({&tensor, 0, 40}, 20, 12, 20);  // the end of q, k, the start of v
  for (const Member& member : members) {
    expect_rows({&tensor, member.begin, member.count}, 0, member.count, member.begin);
    // A member that is copied takes its part of the rotation along.
    const StoredTensor alone =
        make_stored(member.name, std::make_shared<Packed>(copy_packed({&tensor, member.begin, member.count})));
    expect_rows({&alone, 0, member.count}, 1, 3, member.begin + 1);
  }
}

}  // namespace
}  // namespace whit
