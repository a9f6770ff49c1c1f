#include <gtest/gtest.h>

#include <cmath>
#include <cstring>
#include <limits>
#include <set>

#include "base/half.h"
#include "base/rng.h"
#include "format/format.h"

namespace whit {
namespace {

std::vector<float> unpacked(const Packed& packed) {
  const StoredTensor stored = make_stored("t", std::make_shared<Packed>(packed));
  std::vector<float> rows(packed.shape.count());
  unpack_rows({&stored, 0, packed.shape.rows}, 0, packed.shape.rows, rows);
  return rows;
}

TEST(Formats, EveryRowIsMadeByItsName) {
  std::set<std::string> labels;
  for (const FormatRow& row : format_rows()) {
    const FormatPtr format = make_format(row.name);
    EXPECT_EQ(format->name(), row.name);
    EXPECT_TRUE(labels.insert(format->label()).second);
    const Json json = format_to_json(*format);
    EXPECT_EQ(format_to_json(*make_format_from(json, "test")), json);
    EXPECT_EQ(make_format_from(row.name, "test")->label(), format->label());
  }
}

TEST(Formats, UnknownNamesAreUsageErrorsWithTheNearest) {
  try {
    make_format("q4_2");
    FAIL();
  } catch (const Error& error) {
    EXPECT_EQ(error.kind(), ErrorKind::usage);
    EXPECT_NE(error.hint().find("q4_"), std::string::npos) << error.hint();
  }
  EXPECT_THROW(make_format("f16", {{"bits", 3}}), Error);
  EXPECT_THROW(make_format_from(3, "test"), Error);
  EXPECT_THROW(make_format_from({{"bits", 3}}, "test"), Error);
}

// All 65536 halves and bfloat16s decode to themselves and come back.
TEST(Formats, DenseFormatsAreExact) {
  std::vector<float> weights;
  for (uint32_t i = 0; i < 65536; ++i)
    if (std::isfinite(half_to_float(static_cast<uint16_t>(i))))
      weights.push_back(half_to_float(static_cast<uint16_t>(i)));
  EXPECT_EQ(unpacked(pack_dense(make_format("f16"), {1, weights.size()}, weights)), weights);
  EXPECT_EQ(unpacked(pack_dense(make_format("f32"), {1, weights.size()}, weights)), weights);
  for (float& weight : weights) weight = bfloat16_to_float(float_to_bfloat16(weight));
  EXPECT_EQ(unpacked(pack_dense(make_format("bf16"), {1, weights.size()}, weights)), weights);
}

TEST(Formats, DenseRoundingIsToNearestEven) {
  const std::vector<float> weights = {1.0f + 0x1p-11f, 1.0f + 0x1.8p-10f, 65519.0f, 0x1p-25f, -0x1.8p-24f};
  EXPECT_EQ(unpacked(pack_dense(make_format("f16"), {1, 5}, weights)),
            (std::vector<float>{1.0f, 1.0f + 0x1p-9f, 65504.0f, 0.0f, -0x1p-23f}));
}

TEST(Formats, TooLargeForAHalfIsAnError) {
  const std::vector<float> weights = {1e5f};
  try {
    pack_dense(make_format("f16"), {1, 1}, weights);
    FAIL();
  } catch (const Error& error) {
    EXPECT_EQ(error.kind(), ErrorKind::numeric);
  }
  EXPECT_NO_THROW(pack_dense(make_format("bf16"), {1, 1}, weights));
  EXPECT_THROW(pack_dense(make_format("q4_0"), {1, 32}, std::vector<float>(32)), Error);
}

// Bytes by the definition of the blocks: nibble order, signed bytes, fields.
TEST(Formats, GgmlBlockBytes) {
  for (const char* name : {"q8_0", "q4_0", "q4_1"}) {
    SCOPED_TRACE(name);
    const auto format = as_affine(make_format(name));
    const Shape shape{1, 32};
    AffineCodes codes{shape, {}, {1, {-0.5f}, {3.0f}, {}}};
    for (uint32_t j = 0; j < 32; ++j) codes.codes.push_back(static_cast<uint8_t>(j * 7 % format->levels()));
    format->round_parameters(shape, codes.parameters);
    const Packed packed = format->pack(codes);
    const auto* bytes = reinterpret_cast<const uint8_t*>(packed.parts[0].data());
    EXPECT_EQ(bytes[0] | bytes[1] << 8, 0xb800);  // -0.5
    const std::vector<float> rows = unpacked(packed);
    for (uint32_t j = 0; j < 32; ++j) {
      const int code = codes.codes[j];
      if (format->name() == "q8_0") {
        EXPECT_EQ(static_cast<int8_t>(bytes[2 + j]), code - 128);
        EXPECT_EQ(rows[j], -0.5f * static_cast<float>(code - 128));
        continue;
      }
      const uint8_t* nibbles = bytes + (format->name() == "q4_0" ? 2 : 4);
      EXPECT_EQ(j < 16 ? nibbles[j] & 15 : nibbles[j - 16] >> 4, code);
      EXPECT_EQ(rows[j], format->name() == "q4_0" ? -0.5f * static_cast<float>(code - 8)
                                                  : -0.5f * static_cast<float>(code) + 3.0f);
    }
    const AffineCodes back = format->unpack_codes(packed);
    EXPECT_EQ(back.codes, codes.codes);
    EXPECT_EQ(format->pack(back).parts, packed.parts);
  }
}

TEST(Formats, GgmlRoundingIsIdempotentAndShapesAreChecked) {
  Rng rng(5);
  for (const char* name : {"q8_0", "q4_0", "q4_1"}) {
    const auto format = as_affine(make_format(name));
    const Shape shape{40, 64};
    AffineParameters parameters{2, {}, {}, {}};
    for (int i = 0; i < 80; ++i) {
      const float magnitude = std::pow(10.0f, static_cast<float>(i % 20) - 10.0f);
      parameters.scale.push_back(magnitude * static_cast<float>(rng.normal()));
      parameters.minimum.push_back(magnitude * static_cast<float>(rng.normal()));
    }
    format->round_parameters(shape, parameters);
    AffineParameters again = parameters;
    format->round_parameters(shape, again);
    EXPECT_EQ(again.scale, parameters.scale);
    EXPECT_EQ(again.minimum, parameters.minimum);
    AffineCodes codes{shape, std::vector<uint8_t>(shape.count(), 3), parameters};
    EXPECT_EQ(format->unpack_codes(format->pack(codes)).parameters.scale, parameters.scale);
    codes.codes[5] = 16;
    if (format->levels() == 16) EXPECT_THROW(format->pack(codes), Error);
    try {
      format->check_shape({2, 172}, "blk.0.ffn_down.weight");
      FAIL();
    } catch (const Error& error) {
      EXPECT_EQ(error.kind(), ErrorKind::input);
      EXPECT_EQ(error.where(), "blk.0.ffn_down.weight");
    }
  }
}

}  // namespace
}  // namespace whit
