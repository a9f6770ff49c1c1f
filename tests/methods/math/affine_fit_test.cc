#include "methods/math/affine_fit.h"

#include <gtest/gtest.h>

#include <cmath>

#include "methods/math/affine_freedom.h"
#include "methods/units.h"

namespace whit {
namespace {

using tests::make_unit;
using tests::unpacked;

double squares(const Matrix& a, const Matrix& b) {
  double sum = 0;
  for (size_t k = 0; k < a.data.size(); ++k) sum += std::pow(static_cast<double>(a.data[k]) - b.data[k], 2);
  return sum;
}

// A matrix as a file stores it in q4_1: its own weights are levels.
TensorState stored_in_q4_1(size_t rows, size_t cols, uint64_t seed) {
  ThreadPool pool(1);
  TensorState state = make_unit(rows, cols, make_format("q4_1"), seed);
  make_quantizer("rtn", {{"range", "minmax"}})->quantize(state, {pool});
  state.weights = unpacked(*state.packed);
  state.source_grid = as_affine(state.plan)->unpack_codes(*state.packed).parameters;
  state.source_group = 32;
  state.packed.reset();
  return state;
}

TEST(AffineFit, FindsWhatFormatsLeaveFree) {
  const auto freedom = [](const char* name, const Json& options = Json::object()) {
    return affine_freedom(*as_affine(make_format(name, options)));
  };
  using Kind = AffineFreedom::Kind;
  EXPECT_EQ(freedom("q4_1").kind, Kind::minimum);
  EXPECT_EQ(freedom("q4_0").kind, Kind::symmetric);
  EXPECT_TRUE(freedom("q4_0").negative_scale);
  EXPECT_EQ(freedom("q4_0").scale_step, 0.0f);
  EXPECT_EQ(freedom("grid", {{"zero", "minimum"}}).kind, Kind::minimum);
  EXPECT_EQ(freedom("grid", {{"zero", "integer"}}).kind, Kind::zero_point);
  EXPECT_EQ(freedom("grid", {{"zero", "symmetric"}}).kind, Kind::symmetric);
  EXPECT_FALSE(freedom("grid").negative_scale);
  EXPECT_NEAR(freedom("grid", {{"parameter_bits", 6}}).scale_step, 1.0 / 63, 1e-6);
  EXPECT_NEAR(freedom("grid", {{"parameter_bits", 8}}).scale_step, 1.0 / 255, 1e-6);
  EXPECT_EQ(freedom("grid", {{"parameter_bits", 16}}).scale_step, 0.0f);
  EXPECT_EQ(freedom("grid", {{"columns", true}}).kind, Kind::symmetric);
}

// A source of 16 levels per 32 inputs goes into a grid of 16 levels per 32 (or 16) inputs almost without loss: what is
// left comes from rounding the parameters to 8 bits alone.
TEST(AffineFit, TheSourcesOwnGridIsNearlyLossless) {
  ThreadPool pool(1);
  for (const int group : {32, 16}) {
    TensorState state = stored_in_q4_1(32, 256, 41), exact = state, blind = state;
    state.plan = blind.plan = make_format("grid", {{"bits", 4}, {"group", group}, {"parameter_bits", 8}});
    exact.plan = make_format("grid", {{"bits", 4}, {"group", group}, {"parameter_bits", 16}});
    const Json plain = {{"importance", "uniform"}};
    EXPECT_EQ(make_quantizer("rtn", plain)->quantize(exact, {pool}).loss, 0.0) << "q4_1 is a grid of half floats";
    const double loss = make_quantizer("rtn", plain)->quantize(state, {pool}).relative_loss;
    // A minimum is off by at most M / 254, M the row's largest, about 15 steps of the smaller groups in rows with an
    // outlier: (15 * 8 / 254 steps)^2 / 3 against weights of (4 steps)^2 would be 5e-3; rows without are far below.
    EXPECT_LT(loss, 5e-4);
    EXPECT_LT(make_quantizer("gptq", Json::object())->quantize(state, {pool}).relative_loss, 5e-4);
    blind.source_grid.reset();
    const double alone = make_quantizer("rtn", plain)->quantize(blind, {pool}).relative_loss;
    EXPECT_LE(loss, alone * 1.001);
  }
}

TEST(AffineFit, SmallerGroupsLoseLess) {
  ThreadPool pool(1);
  const TensorState unit = make_unit(16, 256, nullptr, 42);
  for (const char* method : {"rtn", "gptq"})
    for (const char* zero : {"minimum", "integer", "symmetric"}) {
      double before = 0;
      for (const int group : {16, 32, 64, 128}) {
        TensorState state = unit;
        state.plan = make_format("grid", {{"bits", 3}, {"group", group}, {"zero", zero}});
        const double loss = make_quantizer(method, Json::object())->quantize(state, {pool}).loss;
        EXPECT_GT(loss, before) << method << " " << zero << " " << group;
        before = loss;
      }
    }
}

TEST(AffineFit, FinerParametersLoseNoMore) {
  ThreadPool pool(1);
  const TensorState unit = make_unit(16, 256, nullptr, 43);
  for (const char* zero : {"minimum", "integer", "symmetric"}) {
    double before = 1e30;
    for (const int parameter_bits : {6, 8, 16}) {
      TensorState state = make_unit(
          64, 256,
          make_format("grid", {{"bits", 4}, {"group", 32}, {"zero", zero}, {"parameter_bits", parameter_bits}}), 43);
      const double loss = make_quantizer("rtn", Json::object())->quantize(state, {pool}).loss;
      EXPECT_LT(loss, 1.01 * before) << zero << " " << parameter_bits;
      before = loss;
    }
  }
}

// The fit calls round_parameters row by row.
TEST(AffineFit, FormatsRoundEachRowAlone) {
  for (const FormatPtr& plan : tests::affine_variants()) {
    const auto format = as_affine(plan);
    const TensorState unit = make_unit(3, 128, plan, 44, false);
    const uint64_t groups = 128 / format->group(128);
    AffineParameters all;
    all.groups_per_row = groups;
    all.column.assign(format->has_columns() ? 128 : 0, 0.7f);
    for (size_t k = 0; k < 3 * groups; ++k) {
      all.scale.push_back(std::fabs(unit.weights.data[k]));
      all.minimum.push_back(unit.weights.data[200 + k]);
    }
    AffineParameters whole = all;
    format->round_parameters({3, 128}, whole);
    for (size_t i = 0; i < 3; ++i) {
      AffineParameters row = all;
      row.scale.assign(all.scale.begin() + i * groups, all.scale.begin() + (i + 1) * groups);
      row.minimum.assign(all.minimum.begin() + i * groups, all.minimum.begin() + (i + 1) * groups);
      format->round_parameters({1, 128}, row);
      for (size_t g = 0; g < groups; ++g) {
        EXPECT_EQ(row.scale[g], whole.scale[i * groups + g]) << plan->label();
        EXPECT_EQ(row.minimum[g], whole.minimum[i * groups + g]) << plan->label();
      }
    }
  }
}

TEST(AffineFit, ColumnScalesPayWhereColumnsDiffer) {
  ThreadPool pool(1);
  const Json uniform = {{"importance", "uniform"}};
  TensorState columns = make_unit(64, 128, make_format("grid", {{"columns", true}}), 45, false), rows = columns;
  for (size_t i = 0; i < 64; ++i)
    for (size_t j = 0; j < 128; j += 4) columns.weights.row(i)[j] *= 8;
  rows = columns;
  rows.plan = make_format("grid", {{"group", 0}});
  const double by_columns = make_quantizer("rtn", uniform)->quantize(columns, {pool}).loss;
  EXPECT_LT(by_columns, 0.7 * make_quantizer("rtn", uniform)->quantize(rows, {pool}).loss);
}

TEST(AffineFit, ZeroCodeIsExactOrAbsent) {
  EXPECT_EQ(zero_code(0.5f, -4.0f, 16), 8);
  EXPECT_EQ(zero_code(0.5f, 0.0f, 16), 0);
  EXPECT_EQ(zero_code(-0.5f, 4.0f, 16), 8);
  EXPECT_EQ(zero_code(0.5f, -4.1f, 16), -1);
  EXPECT_EQ(zero_code(0.5f, -8.0f, 16), -1);
  EXPECT_EQ(zero_code(0.5f, 0.5f, 16), -1);
  EXPECT_EQ(zero_code(0.0f, 0.0f, 16), 0);
  EXPECT_EQ(zero_code(0.0f, 0.1f, 16), -1);
}

}  // namespace
}  // namespace whit
