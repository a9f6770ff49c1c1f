// Half floats over all codes, checked sizes, the generator's fixed numbers, checksums.
#include <gtest/gtest.h>

#include <cmath>
#include <limits>

#include "base/checked.h"
#include "base/error.h"
#include "base/half.h"
#include "base/hash.h"
#include "base/memory.h"
#include "base/progress.h"
#include "base/rng.h"
#include "base/size.h"

namespace whit {
namespace {

// The value of a half by its definition, in double.
double half_value(uint32_t h) {
  const int exponent = static_cast<int>(h >> 10 & 31), mantissa = static_cast<int>(h & 1023);
  const double magnitude = exponent == 0    ? std::ldexp(mantissa, -24)
                           : exponent == 31 ? (mantissa ? std::nan("") : HUGE_VAL)
                                            : std::ldexp(1024 + mantissa, exponent - 25);
  return h & 0x8000 ? -magnitude : magnitude;
}

TEST(Half, AllCodesMeanWhatTheyShould) {
  for (uint32_t h = 0; h < 0x10000; ++h) {
    const float value = half_to_float(static_cast<uint16_t>(h));
    if (std::isnan(half_value(h))) {
      EXPECT_TRUE(std::isnan(value)) << h;
      EXPECT_TRUE(std::isnan(half_to_float(float_to_half(value)))) << h;
    } else {
      EXPECT_EQ(value, half_value(h)) << h;
      EXPECT_EQ(std::signbit(value), (h & 0x8000) != 0) << h;
      EXPECT_EQ(float_to_half(value), h);
    }
  }
}

// Every 1021st float: no half is nearer than the one chosen, and of two equally near ones it is the even.
TEST(Half, RoundsToNearestEven) {
  for (uint64_t bits = 0; bits < 0x7f800000u; bits += 1021) {
    const float value = std::bit_cast<float>(static_cast<uint32_t>(bits));
    const uint16_t h = float_to_half(value);
    ASSERT_LE(h, 0x7c00u);
    if (h == 0x7c00u) {
      ASSERT_GE(value, 65520.0f);  // half way between the largest half and what would come next
      continue;
    }
    const double error = std::abs(static_cast<double>(value) - half_value(h));
    const double above = h + 1u == 0x7c00u ? 65536.0 : half_value(h + 1u);
    ASSERT_LE(error, above - value) << value;
    if (error == above - value) ASSERT_EQ(h & 1, 0) << value;
    if (h > 0) {
      ASSERT_LE(error, value - half_value(h - 1u)) << value;
      if (error == value - half_value(h - 1u)) ASSERT_EQ(h & 1, 0) << value;
    }
    ASSERT_EQ(float_to_half(-value), h | 0x8000);
  }
}

TEST(Bfloat16, IsTheUpperHalfRounded) {
  for (uint32_t b = 0; b < 0x10000; ++b) {
    const float value = bfloat16_to_float(static_cast<uint16_t>(b));
    if (std::isnan(value)) {
      EXPECT_TRUE(std::isnan(bfloat16_to_float(float_to_bfloat16(value))));
    } else {
      EXPECT_EQ(float_to_bfloat16(value), b);
    }
  }
  EXPECT_EQ(float_to_bfloat16(std::bit_cast<float>(0x3f808000u)), 0x3f80);  // a tie goes to even
  EXPECT_EQ(float_to_bfloat16(std::bit_cast<float>(0x3f818000u)), 0x3f82);
  EXPECT_EQ(float_to_bfloat16(std::bit_cast<float>(0x3f808001u)), 0x3f81);
  EXPECT_EQ(float_to_bfloat16(std::numeric_limits<float>::max()), 0x7f80);  // rounds to infinity
  EXPECT_TRUE(std::isnan(bfloat16_to_float(float_to_bfloat16(std::bit_cast<float>(0x7f800001u)))));
}

TEST(Checked, RefusesToWrapAround) {
  const uint64_t most = std::numeric_limits<uint64_t>::max();
  EXPECT_EQ(checked_mul(most / 3, 3, "x"), most / 3 * 3);
  EXPECT_EQ(checked_add(most - 1, 1, "x"), most);
  EXPECT_THROW(checked_add(most, 1, "x"), Error);
  try {
    checked_mul(uint64_t{1} << 33, uint64_t{1} << 31, "tensor x");
    FAIL();
  } catch (const Error& error) {
    EXPECT_EQ(error.kind(), ErrorKind::input);
    EXPECT_EQ(error.where(), "tensor x");
  }
  EXPECT_EQ(round_up(0, 32), 0u);
  EXPECT_EQ(round_up(33, 32), 64u);
  EXPECT_EQ(div_up(33, 32), 2u);
}

// The published first outputs of SplitMix64 for seed 1234567; files depend on these numbers.
TEST(Rng, IsTheSpecifiedGenerator) {
  Rng rng(1234567);
  for (const uint64_t expected : {6457827717110365317ull, 3203168211198807973ull, 9817491932198370423ull,
                                  4593380528125082431ull, 16408922859458223821ull}) {
    EXPECT_EQ(rng.next(), expected);
  }
  double sum = 0, squares = 0;
  constexpr int kCount = 100000;
  for (int i = 0; i < kCount; ++i) {
    const double value = rng.normal();
    sum += value;
    squares += value * value;
    ASSERT_LT(rng.below(7), 7u);
    const double uniform = rng.uniform();
    ASSERT_TRUE(uniform >= 0 && uniform < 1);
  }
  EXPECT_LT(std::abs(sum / kCount), 5 / std::sqrt(kCount));  // five standard errors
  EXPECT_LT(std::abs(squares / kCount - 1), 5 * std::sqrt(2.0 / kCount));
}

TEST(Hash, StringsKeepTheirBorders) {
  EXPECT_NE(Hasher().add("ab").add("c").hex(), Hasher().add("a").add("bc").hex());
  EXPECT_EQ(Hasher().add("ab").add(uint64_t{7}).hex(), Hasher().add("ab").add(uint64_t{7}).hex());
  EXPECT_EQ(Hasher().hex().size(), 32u);
  EXPECT_EQ(xxh3_64({}), 0x2d06800538d394c2ull);  // the published value of XXH3 for no bytes at all
}

class Notes final : public Progress {
 public:
  void begin(const std::string&, double) override {}
  void advance(double) override {}
  void note(const std::string& text) override { all += text; }
  void end() override {}
  std::string all;
};

TEST(Size, AsPeopleWriteIt) {
  const struct {
    const char* text;
    uint64_t bytes;
  } kSizes[] = {{"61900000", 61900000},
                {"1", 1},
                {"7B", 7},
                {"7b", 7},
                {"100M", 100000000},
                {"100mb", 100000000},
                {"100Mb", 100000000},
                {"100MB", 100000000},
                {"60MiB", 62914560},
                {"60mib", 62914560},
                {"60MIB", 62914560},
                {"1.5G", 1500000000},
                {"0.5gb", 500000000},
                {"2GiB", 2147483648},
                {"300KiB", 307200},
                {"64k", 64000},
                {"64KB", 64000},
                {"1.001k", 1001},
                {"1.0009k", 1000},
                {"2.3G", 2300000000}};
  for (const auto& [text, bytes] : kSizes) EXPECT_EQ(parse_size(text), bytes) << text;
  // Parts of a byte, other units, other marks of decimals and thousands, white space, signs, nothing.
  for (const char* bad : {"",         "M",    "MB",    "-5MB", "+5MB",   "0",   "0.4",  "1.5",     "1.5B",
                          "5 apples", "5 MB", " 5MB",  "5MB ", "nan",    "inf", "infM", "1e300GB", "12mbit",
                          "12Mi",     "1,5G", "1_000", "0x10", "3.1bpw", "10T", "5MBB", "1.2.3M"})
    EXPECT_EQ(parse_size(bad), std::nullopt) << bad;
}

TEST(Size, NumbersOfTokens) {
  const struct {
    const char* text;
    int64_t tokens;
  } kCounts[] = {{"1", 1},        {"250k", 250000},    {"250K", 250000},    {"5M", 5000000},
                 {"5m", 5000000}, {"0.5g", 500000000}, {"1000000", 1000000}};
  for (const auto& [text, tokens] : kCounts) EXPECT_EQ(parse_count(text, "here"), tokens) << text;
  for (const char* bad : {"", "M", "0", "-1", "1.5", "5MB", "5Mi", "4KiB", "5 M", "many", "nan", "1e30", "2T", "1,000"})
    try {
      ADD_FAILURE() << bad << " is " << parse_count(bad, "--train-tokens");
    } catch (const Error& error) {
      EXPECT_EQ(error.kind(), ErrorKind::usage);
      for (const char* part : {"not a number of tokens", "--train-tokens", "250k, 5M"})
        EXPECT_NE(std::string(error.what()).find(part), std::string::npos) << error.what();
    }
}

TEST(Memory, TooMuchIsNoted) {
  EXPECT_GT(available_memory(), uint64_t{1} << 20);
  EXPECT_LT(available_memory(), uint64_t{1} << 50);
  Notes notes;
  note_if_too_large(notes, "it takes", 1, "slow");
  EXPECT_EQ(notes.all, "");
  note_if_too_large(notes, "it takes", uint64_t{1} << 50, "slow");
  EXPECT_TRUE(notes.all.starts_with("it takes 1125899.91 GB and ")) << notes.all;
  EXPECT_TRUE(notes.all.ends_with(" GB of memory are free: slow")) << notes.all;
}

}  // namespace
}  // namespace whit
