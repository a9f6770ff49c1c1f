#include <gtest/gtest.h>

#include <cmath>

#include "methods/units.h"

namespace whit {
namespace {

using tests::make_unit;
using tests::trace_error;
using tests::unpacked;

Matrix identity(size_t n) {
  Matrix out(n, n);
  for (size_t i = 0; i < n; ++i) out.row(i)[i] = 1;
  return out;
}

TEST(Rtn, LevelsByHand) {
  // 0, 1/15, ..., 1 and repeated: the extremes are the range, every weight is a level (scale rounded to a half).
  TensorState state = make_unit(1, 32, make_format("q4_1"), 1, false);
  for (size_t j = 0; j < 32; ++j) state.weights.data[j] = static_cast<float>(j % 16) * 0.25f - 1.0f;
  ThreadPool pool(1);
  make_quantizer("rtn", {{"range", "minmax"}})->quantize(state, {pool});
  const AffineCodes codes = as_affine(state.plan)->unpack_codes(*state.packed);
  EXPECT_EQ(codes.parameters.scale[0], 0.25f);
  EXPECT_EQ(codes.parameters.minimum[0], -1.0f);
  for (size_t j = 0; j < 32; ++j) EXPECT_EQ(codes.codes[j], j % 16);
}

TEST(Rtn, ZeroAndConstantRows) {
  for (const FormatPtr& format : tests::affine_variants()) {
    TensorState state = make_unit(3, 64, format, 2, false);
    for (size_t j = 0; j < 64; ++j) {
      state.weights.row(0)[j] = 0.0f;
      state.weights.row(1)[j] = 0.5f;
    }
    ThreadPool pool(1);
    make_quantizer("rtn", Json::object())->quantize(state, {pool});
    const Matrix back = unpacked(*state.packed);
    const bool zero_is_a_level = as_affine(format)->centre() == std::floor(as_affine(format)->centre());
    for (size_t j = 0; j < 64; ++j) {
      if (zero_is_a_level && !as_affine(format)->has_columns())
        EXPECT_EQ(back.row(0)[j], 0.0f) << format->label();
      else
        EXPECT_LT(std::fabs(back.row(0)[j]), 0.1f) << format->label();
      EXPECT_NEAR(back.row(1)[j], 0.5f, as_affine(format)->has_columns() ? 0.3f : 0.01f) << format->label();
    }
  }
}

TEST(Rtn, EachRangeIsNoWorseThanThePlainerOne) {
  ThreadPool pool(1);
  for (const char* name : {"q4_0", "q4_1", "q8_0"}) {
    double before = 1e30;
    for (const char* range : {"minmax", "search", "least_squares"}) {
      TensorState state = make_unit(32, 128, make_format(name), 3, false);
      const double loss =
          make_quantizer("rtn", {{"range", range}, {"importance", "uniform"}})->quantize(state, {pool}).loss;
      EXPECT_LE(loss, before * 1.0001) << name << " " << range;
      before = loss;
    }
  }
}

TEST(Rtn, ImportanceLowersTheErrorItWeighs) {
  ThreadPool pool(1);
  TensorState plain = make_unit(64, 128, make_format("q4_1"), 4), weighted = plain;
  make_quantizer("rtn", {{"importance", "uniform"}})->quantize(plain, {pool});
  make_quantizer("rtn", Json::object())->quantize(weighted, {pool});
  Matrix diagonal(128, 128);
  for (size_t j = 0; j < 128; ++j) diagonal.row(j)[j] = plain.statistics->gram.row(j)[j];
  EXPECT_LT(trace_error(unpacked(*weighted.packed), weighted.weights, diagonal),
            0.98 * trace_error(unpacked(*plain.packed), plain.weights, diagonal));
}

TEST(Rtn, ReportsTheHonestLoss) {
  ThreadPool pool(1);
  TensorState state = make_unit(600, 64, make_format("q4_0"), 5);
  const StageReport report = make_quantizer("rtn", Json::object())->quantize(state, {pool});
  const double wanted = trace_error(unpacked(*state.packed), state.weights, state.statistics->gram);
  const double whole = trace_error(Matrix(600, 64), state.weights, state.statistics->gram);
  EXPECT_NEAR(report.loss, wanted, 1e-4 * wanted);
  EXPECT_NEAR(report.relative_loss, wanted / whole, 1e-4 * wanted / whole);
  TensorState blind = make_unit(600, 64, make_format("q4_0"), 5, false);
  const double squares = make_quantizer("rtn", Json::object())->quantize(blind, {pool}).loss;
  EXPECT_NEAR(squares, trace_error(unpacked(*blind.packed), blind.weights, identity(64)), 1e-4 * squares);
}

TEST(Rtn, DenseFormats) {
  ThreadPool pool(1);
  TensorState state = make_unit(5, 7, make_format("f16"), 6, false);
  EXPECT_LT(make_quantizer("rtn", Json::object())->quantize(state, {pool}).relative_loss, 1e-6);
  EXPECT_EQ(state.packed->bytes(), 5u * 7 * 2);
}

TEST(Rtn, ActivationsAskedForButAbsent) {
  ThreadPool pool(1);
  const auto method = make_quantizer("rtn", {{"importance", "activations"}});
  EXPECT_TRUE(method->needs_statistics());
  TensorState state = make_unit(2, 32, make_format("q4_0"), 7, false);
  EXPECT_THROW(method->quantize(state, {pool}), Error);
}

}  // namespace
}  // namespace whit
