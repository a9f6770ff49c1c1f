#include "format/enumerative.h"

#include <gtest/gtest.h>

#include <bit>
#include <cmath>
#include <vector>

#include "base/rng.h"

namespace whit {
namespace {

// The six masks of 2:4 in order: 0011 0101 0110 1001 1010 1100 (the highest position on the left).
TEST(Enumerative, TwoOfFourByHand) {
  const std::vector<uint32_t> masks = {0b0011, 0b0101, 0b0110, 0b1001, 0b1010, 0b1100};
  EXPECT_EQ(enumerative_count(2, 4), 6u);
  EXPECT_EQ(enumerative_bits(2, 4), 3u);
  for (size_t i = 0; i < masks.size(); ++i) {
    EXPECT_EQ(enumerative_rank(masks[i], 4), i);
    EXPECT_EQ(enumerative_unrank(i, 2, 4), masks[i]);
  }
}

TEST(Enumerative, EveryMaskUpToSixteenHasItsOwnNumber) {
  for (unsigned m = 0; m <= 16; ++m) {
    std::vector<uint64_t> next(m + 1, 0);  // masks ascend, so the numbers of each weight must too
    for (uint32_t mask = 0; mask < (1u << m); ++mask) {
      const auto n = static_cast<unsigned>(std::popcount(mask));
      ASSERT_EQ(enumerative_rank(mask, m), next[n]) << mask;
      ASSERT_EQ(enumerative_unrank(next[n], n, m), mask);
      ++next[n];
    }
    for (unsigned n = 0; n <= m; ++n) {
      ASSERT_EQ(enumerative_count(n, m), next[n]);
      ASSERT_EQ(enumerative_bits(n, m), std::ceil(std::log2(static_cast<double>(next[n]))));
    }
  }
}

TEST(Enumerative, WideMasks) {
  EXPECT_EQ(enumerative_count(16, 32), 601080390u);
  EXPECT_EQ(enumerative_bits(16, 32), 30u);
  EXPECT_EQ(enumerative_count(3, 2), 0u);
  Rng rng(5);
  for (int i = 0; i < 20000; ++i) {
    const uint32_t mask = static_cast<uint32_t>(rng.next()) & static_cast<uint32_t>(rng.next() | rng.next());
    const auto n = static_cast<unsigned>(std::popcount(mask));
    const uint64_t index = enumerative_rank(mask, 32);
    ASSERT_LT(index, enumerative_count(n, 32));
    ASSERT_EQ(enumerative_unrank(index, n, 32), mask);
  }
}

// Numbers that no mask has (a damaged file) still give n of m positions.
TEST(Enumerative, NumbersOutOfRangeGiveTheLastMask) {
  for (unsigned m = 1; m <= 32; ++m)
    for (unsigned n = 0; n <= m; ++n)
      for (const uint64_t index : {enumerative_count(n, m), enumerative_count(n, m) + 1, ~uint64_t{0}})
        ASSERT_EQ(enumerative_unrank(index, n, m), enumerative_unrank(enumerative_count(n, m) - 1, n, m));
}

}  // namespace
}  // namespace whit
