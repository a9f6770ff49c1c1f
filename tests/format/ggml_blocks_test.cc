// The types of ggml: decoding against the reference reader, bit for bit, and what rounding costs.
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>

#include "base/rng.h"
#include "format/format.h"
#include "format/safetensors.h"

namespace whit {
namespace {

constexpr const char* kTypes[] = {"q4_0", "q4_1", "q5_0",   "q5_1",   "q8_0",  "q2_k",  "q3_k", "q4_k",
                                  "q5_k", "q6_k", "iq4_nl", "iq4_xs", "tq1_0", "tq2_0", "mxfp4"};
constexpr const char* kRounded[] = {"q4_0", "q4_1", "q5_0", "q5_1", "q8_0", "q2_k", "q3_k", "q4_k", "q5_k", "q6_k"};

// tools/ggml_vectors.py made the file with the reader of the package gguf.
TEST(GgmlBlocks, DecodeAsTheReferenceDoes) {
  const SafetensorsFile file = SafetensorsFile::open(std::string(WHIT_TESTS_DIR) + "/data/ggml_blocks.safetensors");
  for (const std::string name : kTypes) {
    SCOPED_TRACE(name);
    const SafetensorsEntry *bytes = file.find(name + ".bytes"), *floats = file.find(name + ".floats");
    ASSERT_TRUE(bytes && floats);
    const Shape shape{floats->shape[0], floats->shape[1]};
    const FormatPtr format = make_format(name);
    format->check_shape(shape, "test");
    ASSERT_EQ(format->bytes(shape), bytes->data.size());
    std::vector<float> out(shape.count());
    format->unpack(shape, std::array{bytes->data}, 0, shape.rows, out.data());
    EXPECT_EQ(std::memcmp(out.data(), floats->data.data(), floats->data.size()), 0);
    // A range of rows gives the same as all.
    std::vector<float> row(shape.cols);
    for (uint64_t r = 0; r < shape.rows; ++r) {
      format->unpack(shape, std::array{bytes->data}, r, 1, row.data());
      EXPECT_EQ(std::memcmp(row.data(), out.data() + r * shape.cols, row.size() * sizeof(float)), 0) << r;
    }
  }
}

std::vector<float> unpacked(const Packed& packed) {
  std::vector<float> rows(packed.shape.count());
  packed.format->unpack(packed.shape, packed.views(), 0, packed.shape.rows, rows.data());
  return rows;
}

double mean_squared_error(const std::vector<float>& a, const std::vector<float>& b) {
  double sum = 0;
  for (size_t i = 0; i < a.size(); ++i) sum += std::pow(double{a[i]} - double{b[i]}, 2);
  return sum / static_cast<double>(a.size());
}

// The same weights with the levels that the extremes of each `group` ask for (the largest weight at the lowest code
// where levels are symmetric, as ggml's own plain rounding has it), scales as floats that cost nothing.
std::vector<float> min_max_rounded(const std::vector<float>& weights, size_t group, int levels, bool minimum) {
  std::vector<float> out(weights.size());
  for (size_t at = 0; at < weights.size(); at += group) {
    float low = weights[at], high = weights[at];
    for (size_t i = at; i < at + group; ++i) low = std::min(low, weights[i]), high = std::max(high, weights[i]);
    const float half = static_cast<float>(levels / 2), largest = -low > high ? low : high;
    const float scale = minimum ? (high - low) / static_cast<float>(levels - 1) : -largest / half;
    const float zero = minimum ? low : -half * scale;
    for (size_t i = at; i < at + group; ++i)
      out[i] = zero + scale * std::min(std::nearbyint((weights[i] - zero) / scale), static_cast<float>(levels - 1));
  }
  return out;
}

std::vector<float> normal_weights(size_t count, bool outliers) {
  Rng rng(11);
  std::vector<float> weights(count);
  for (size_t i = 0; i < count; ++i)
    weights[i] = 0.02f * static_cast<float>(rng.normal()) * (outliers && i % 97 == 0 ? 6.0f : 1.0f);
  return weights;
}

TEST(GgmlBlocks, RoundingBeatsTheExtremesOfAGroup) {
  struct Case {
    const char* name;
    size_t group;
    int levels;
    bool minimum;
    double most;  // of the naive error; measured, and a margin of 0.03
  };
  const Case cases[] = {{"q4_0", 32, 16, false, 0.97}, {"q4_1", 32, 16, true, 0.88},   {"q5_0", 32, 32, false, 0.97},
                        {"q5_1", 32, 32, true, 0.91},  {"q8_0", 32, 256, false, 0.95}, {"q2_k", 16, 4, true, 0.69},
                        {"q3_k", 16, 8, false, 0.96},  {"q4_k", 32, 16, true, 0.85},   {"q5_k", 32, 32, true, 0.89},
                        {"q6_k", 16, 64, false, 0.96}};
  for (const Case& row : cases) {
    for (const bool outliers : {false, true}) {
      const std::vector<float> weights = normal_weights(1 << 14, outliers);
      const double ours =
          mean_squared_error(weights, unpacked(pack_rounded(make_format(row.name), {64, 256}, weights)));
      const double naive = mean_squared_error(weights, min_max_rounded(weights, row.group, row.levels, row.minimum));
      EXPECT_LT(ours, row.most * naive) << row.name << (outliers ? " with outliers" : "");
      RecordProperty(std::string(row.name) + (outliers ? "_outliers" : "_normal"), std::to_string(ours / naive));
    }
  }
}

// What a type can hold comes back: rounding a second time changes nothing that can be seen.
TEST(GgmlBlocks, RoundingIsNearlyIdempotentAndTakesOddBlocks) {
  for (const std::string name : kRounded) {
    SCOPED_TRACE(name);
    const FormatPtr format = make_format(name);
    ASSERT_TRUE(rounds_alone(format));
    const Shape shape{8, 256};
    const std::vector<float> weights = normal_weights(shape.count(), true);
    const std::vector<float> once = unpacked(pack_rounded(format, shape, weights));
    const std::vector<float> twice = unpacked(pack_rounded(format, shape, once));
    EXPECT_LE(mean_squared_error(once, twice), 0.15 * mean_squared_error(weights, once));
    // Zeros, one value, one weight alone, all negative, all positive, subnormal.
    for (const int kind : {0, 1, 2, 3, 4, 5}) {
      std::vector<float> odd(256, 0.0f);
      for (size_t i = 0; i < odd.size(); ++i) {
        const float some = 0.5f + 0.5f * static_cast<float>(i % 7);
        odd[i] = kind == 0 ? 0 : kind == 1 ? 0.25f : kind == 2 ? (i == 77 ? -3.0f : 0) : kind == 3 ? -some : some;
        if (kind == 5) odd[i] *= 1e-30f;
      }
      const std::vector<float> back = unpacked(pack_rounded(format, {1, 256}, odd));
      const float reach = std::abs(
          *std::max_element(odd.begin(), odd.end(), [](float a, float b) { return std::abs(a) < std::abs(b); }));
      for (size_t i = 0; i < odd.size(); ++i) ASSERT_NEAR(back[i], odd[i], 0.35f * reach + 1e-7f) << kind << " " << i;
    }
  }
  EXPECT_FALSE(rounds_alone(make_format("tq1_0")));
  EXPECT_TRUE(rounds_alone(make_format("bf16")));
}

TEST(GgmlBlocks, ACoarserGridComesBackExactly) {
  const std::vector<float> weights = normal_weights(1 << 12, true);
  const std::vector<float> coarse = unpacked(pack_rounded(make_format("q4_1"), {64, 64}, weights));
  for (const char* name : {"q4_1", "q5_1"})  // but for groups that leave one of the ends out
    EXPECT_LT(mean_squared_error(coarse, unpacked(pack_rounded(make_format(name), {64, 64}, coarse))),
              1e-3 * mean_squared_error(weights, coarse))
        << name;
}

TEST(GgmlBlocks, WhatCannotBeStoredIsRefused) {
  for (const float bad : {std::numeric_limits<float>::quiet_NaN(), std::numeric_limits<float>::infinity(), 1e6f}) {
    std::vector<float> weights(256, 0.5f);
    weights[200] = bad;
    EXPECT_THROW(pack_rounded(make_format("q4_k"), {1, 256}, weights), Error) << bad;
  }
  EXPECT_THROW(make_format("q6_k")->check_shape({1, 576}, "blk.0.attn_q.weight"), Error);
  EXPECT_THROW(pack_rounded(make_format("tq1_0"), {1, 256}, std::vector<float>(256)), Error);
}

}  // namespace
}  // namespace whit
