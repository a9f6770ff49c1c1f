// Laws of every quantizer over every affine format.
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>

#include "methods/parametrize/parametrizations.h"
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
  const TensorState unit = tests::make_unit(17, 160, nullptr, 21);  // blocks of rows and of columns with a rest
  for (const FormatPtr& format : tests::affine_variants()) {
    if (!method->accepts(*format)) continue;
    TensorState first = unit, second = unit, third = unit;
    first.plan = second.plan = third.plan = format;
    method->quantize(first, {one, 5});
    method->quantize(second, {one, 5});
    method->quantize(third, {two, 5});
    EXPECT_EQ(first.packed->parts, second.packed->parts) << format->label() << ": same seed, other bytes";
    EXPECT_EQ(first.packed->parts, third.packed->parts) << format->label() << ": other threads, other bytes";
    EXPECT_EQ(first.weights.data, unit.weights.data) << "weights are left alone";

    const auto affine = as_affine(format);
    const AffineCodes codes = affine->unpack_codes(*first.packed);
    for (const uint8_t code : codes.codes) ASSERT_LT(code, affine->levels());
    AffineParameters rounded = codes.parameters;
    affine->round_parameters(codes.shape, rounded);
    EXPECT_EQ(rounded.scale, codes.parameters.scale) << format->label();
    EXPECT_EQ(rounded.minimum, codes.parameters.minimum) << format->label();
    EXPECT_EQ(affine->pack(codes).parts, first.packed->parts) << format->label();
    EXPECT_EQ(first.packed->bytes(), format->bytes({17, 160})) << format->label();
  }
}

TEST_P(QuantizeLaws, NoWorseThanLevelsOverTheRangeOfEachGroup) {
  const auto method = make_quantizer(GetParam(), Json::object());
  ThreadPool pool(1);
  TensorState unit = tests::make_unit(16, 128, nullptr, 22);
  auto uncorrelated = std::make_shared<UnitStatistics>();
  uncorrelated->tokens = 1;
  uncorrelated->gram = Matrix(128, 128);
  for (size_t j = 0; j < 128; ++j) uncorrelated->gram.row(j)[j] = 1;
  unit.statistics = uncorrelated;
  for (const FormatPtr& format : tests::affine_variants()) {
    if (!method->accepts(*format)) continue;
    TensorState state = unit;
    state.plan = format;
    const StageReport report = method->quantize(state, {pool});
    // Levels spread evenly over [-max, max] of a group are 2 max / (levels - 1) apart: no error is above half of that.
    const auto affine = as_affine(format);
    double bound = 0;
    for (size_t i = 0; i < 16; ++i)
      for (size_t j = 0; j < 128;) {
        const size_t end = std::min<size_t>(128, j + affine->group(128));
        float most = 0;
        for (size_t k = j; k < end; ++k) most = std::max(most, std::fabs(unit.weights.row(i)[k]));
        bound += static_cast<double>(end - j) * std::pow(most / (affine->levels() - 1), 2);
        j = end;
      }
    EXPECT_LT(report.loss, bound) << format->label();
    EXPECT_GT(report.loss, 0) << format->label();
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
  TensorState unit = tests::make_unit(8, 128, nullptr, 24);
  unit.mask.assign(unit.weights.data.size(), 1);
  for (size_t k = 0; k < unit.mask.size(); k += 2) unit.mask[k] = 0, unit.weights.data[k] = 0;
  for (const FormatPtr& format : tests::affine_variants()) {
    if (!method->accepts(*format)) continue;
    TensorState state = unit;
    state.plan = format;
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

// Pruned to N:M, quantized to a format that stores the mask, packed, unpacked: the zeros are where they were, the bytes
// are those promised, and nothing depends on threads.
TEST_P(QuantizeLaws, SparseFormatsKeepTheMask) {
  const auto method = make_quantizer(GetParam(), Json::object());
  ThreadPool one(1), two(2);
  const TensorState unit = tests::make_unit(9, 172, nullptr, 26);
  const auto refused = [&](TensorState state) {
    try {
      method->quantize(state, {one});
    } catch (const Error& error) {
      return error.kind() == ErrorKind::usage && std::string(error.what()).find(state.unit.name) != std::string::npos;
    }
    return false;
  };
  for (const FormatPtr& format : tests::sparse_variants()) {
    if (!method->accepts(*format)) continue;
    TensorState state = unit;
    state.plan = format;
    EXPECT_TRUE(refused(state)) << format->label() << ": not pruned";
    tests::prune_to(*format->pattern(), state);
    TensorState other = state;
    method->quantize(state, {one});
    method->quantize(other, {two});
    EXPECT_EQ(state.packed->parts, other.packed->parts) << format->label();
    EXPECT_EQ(state.packed->bytes(), format->bytes({9, 172})) << format->label();
    EXPECT_EQ(stored_mask(*state.packed), state.mask) << format->label();
    const Matrix back = tests::unpacked(*state.packed);
    for (size_t k = 0; k < state.mask.size(); ++k) ASSERT_TRUE(state.mask[k] || back.data[k] == 0) << format->label();
    if (const auto affine = as_affine(format)) {
      EXPECT_EQ(affine->pack(affine->unpack_codes(*state.packed)).parts, state.packed->parts) << format->label();
    }
    state.mask[0] ^= 1;
    EXPECT_TRUE(refused(state)) << format->label() << ": another pattern";
  }
}

// Formats of signs: the same bytes for the same seed and any threads, as many as promised, that decode to finite
// numbers and err less than storing nothing; learning starts from what they show.
TEST_P(QuantizeLaws, SignsAreTheSameForAnyThreads) {
  const auto method = make_quantizer(GetParam(), Json::object());
  ThreadPool one(1), two(2);
  const TensorState unit = tests::make_unit(17, 172, nullptr, 27);
  for (const FormatPtr& format : tests::sign_variants()) {
    if (!method->accepts(*format)) continue;
    TensorState first = unit, second = unit, third = unit;
    first.plan = second.plan = third.plan = format;
    const StageReport report = method->quantize(first, {one, 5});
    method->quantize(second, {one, 5});
    method->quantize(third, {two, 5});
    EXPECT_EQ(first.packed->parts, second.packed->parts) << format->label() << ": same seed, other bytes";
    EXPECT_EQ(first.packed->parts, third.packed->parts) << format->label() << ": other threads, other bytes";
    EXPECT_EQ(first.weights.data, unit.weights.data) << "weights are left alone";
    EXPECT_EQ(first.packed->bytes(), format->bytes({17, 172})) << format->label();
    EXPECT_GT(report.relative_loss, 0) << format->label();
    EXPECT_LT(report.relative_loss, 0.9) << format->label();
    const auto learned = make_parametrization(parametrization_rows(), *first.packed, {first.weights, first.latents});
    EXPECT_EQ(learned->encode().parts, first.packed->parts) << format->label();
    const Matrix shown = learned->materialize().matrix(), stored = tests::unpacked(*first.packed);
    for (size_t k = 0; k < shown.data.size(); ++k) ASSERT_NEAR(shown.data[k], stored.data[k], 1e-5f);
  }
}

INSTANTIATE_TEST_SUITE_P(Rows, QuantizeLaws, testing::ValuesIn(quantizers()),
                         [](const auto& info) { return info.param; });

TEST(QuantizeLaws, FeedbackBeatsPlainRoundingInTheErrorItMinimises) {
  ThreadPool pool(1);
  const TensorState unit = tests::make_unit(16, 160, nullptr, 25);
  for (const FormatPtr& format : tests::affine_variants()) {
    TensorState plain = unit, feedback = unit;
    plain.plan = feedback.plan = format;
    const double rtn = make_quantizer("rtn", Json::object())->quantize(plain, {pool}).loss;
    const double gptq = make_quantizer("gptq", Json::object())->quantize(feedback, {pool}).loss;
    EXPECT_LT(gptq, rtn) << format->label();
  }
}

}  // namespace
}  // namespace whit
