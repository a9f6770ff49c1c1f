// Laws of every quantizer over every affine format.
#include <gtest/gtest.h>

#include <cmath>

#include "methods/units.h"

namespace whit {
namespace {

std::vector<std::string> quantizers() {
  std::vector<std::string> names;
  for (const MethodRow& row : method_rows())
    if (row.stage == Stage::quantize) names.push_back(row.name);
  return names;
}

class QuantizeLaws : public testing::TestWithParam<std::string> {};

TEST_P(QuantizeLaws, LegalCodesThatRoundTripTheSameForAnyThreads) {
  const auto method = make_quantizer(GetParam(), Json::object());
  ThreadPool one(1), two(2);
  for (const FormatPtr& format : tests::affine_variants()) {
    TensorState first = tests::make_unit(17, 192, format, 21), second = first, third = first;
    method->quantize(first, {one, 5});
    method->quantize(second, {one, 5});
    method->quantize(third, {two, 5});
    EXPECT_EQ(first.packed->parts, second.packed->parts) << format->label() << ": same seed, other bytes";
    EXPECT_EQ(first.packed->parts, third.packed->parts) << format->label() << ": other threads, other bytes";
    EXPECT_EQ(first.weights.data, tests::make_unit(17, 192, format, 21).weights.data) << "weights are left alone";

    const auto affine = as_affine(format);
    const AffineCodes codes = affine->unpack_codes(*first.packed);
    for (const uint8_t code : codes.codes) ASSERT_LT(code, affine->levels());
    AffineParameters rounded = codes.parameters;
    affine->round_parameters(codes.shape, rounded);
    EXPECT_EQ(rounded.scale, codes.parameters.scale) << format->label();
    EXPECT_EQ(rounded.minimum, codes.parameters.minimum) << format->label();
    EXPECT_EQ(affine->pack(codes).parts, first.packed->parts) << format->label();
    EXPECT_EQ(first.packed->bytes(), format->bytes({17, 192})) << format->label();
  }
}

TEST_P(QuantizeLaws, MoreBitsLoseLessAndEightBitsNearlyNothing) {
  const auto method = make_quantizer(GetParam(), Json::object());
  ThreadPool pool(2);
  for (const FormatPtr& format : tests::affine_variants()) {
    TensorState state = tests::make_unit(24, 128, format, 22);
    const StageReport report = method->quantize(state, {pool});
    const double bits = std::log2(static_cast<double>(as_affine(format)->levels()));
    // Relative error of a uniform quantizer, 4^-bits times at most about 2 per octave of range that groups leave
    // unused.
    EXPECT_LT(report.relative_loss, 12 * std::pow(4.0, -bits)) << format->label();
    EXPECT_GE(report.relative_loss, 0.0);
  }
}

TEST_P(QuantizeLaws, NotANumberIsRefusedByName) {
  const auto method = make_quantizer(GetParam(), Json::object());
  ThreadPool pool(1);
  TensorState state = tests::make_unit(4, 32, make_format("q4_0"), 23);
  state.weights.data[0] = std::nanf("");
  try {
    method->quantize(state, {pool});
    FAIL();
  } catch (const Error& error) {
    EXPECT_EQ(error.kind(), ErrorKind::numeric);
    EXPECT_NE(std::string(error.what()).find(state.unit.name), std::string::npos);
  }
}

TEST_P(QuantizeLaws, MasksSurvive) {
  const auto method = make_quantizer(GetParam(), Json::object());
  ThreadPool pool(1);
  for (const FormatPtr& format : tests::affine_variants()) {
    TensorState state = tests::make_unit(8, 128, format, 24);
    state.mask.assign(state.weights.data.size(), 1);
    for (size_t k = 0; k < state.mask.size(); k += 2) state.mask[k] = 0, state.weights.data[k] = 0;
    try {
      method->quantize(state, {pool});
    } catch (const Error& error) {
      EXPECT_EQ(error.kind(), ErrorKind::usage) << error.what();
      EXPECT_FALSE(as_affine(format)->symmetric() &&
                   as_affine(format)->centre() == std::floor(as_affine(format)->centre()))
          << format->label() << " can store zero";
      continue;
    }
    const Matrix back = tests::unpacked(*state.packed);
    for (size_t k = 0; k < state.mask.size(); k += 2) ASSERT_NEAR(back.data[k], 0.0f, 1e-7f) << format->label();
  }
}

INSTANTIATE_TEST_SUITE_P(Rows, QuantizeLaws, testing::ValuesIn(quantizers()),
                         [](const auto& info) { return info.param; });

TEST(QuantizeLaws, FeedbackBeatsPlainRoundingInTheErrorItMinimises) {
  ThreadPool pool(2);
  for (const FormatPtr& format : tests::affine_variants()) {
    TensorState plain = tests::make_unit(24, 192, format, 25), feedback = plain;
    const double rtn = make_quantizer("rtn", Json::object())->quantize(plain, {pool}).loss;
    const double gptq = make_quantizer("gptq", Json::object())->quantize(feedback, {pool}).loss;
    EXPECT_LT(gptq, rtn) << format->label();
  }
}

}  // namespace
}  // namespace whit
