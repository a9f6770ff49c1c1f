#include "format/nm_sign.h"

#include <gtest/gtest.h>

#include <cmath>

#include "methods/units.h"

namespace whit {
namespace {

using tests::make_unit;
using tests::trace_error;
using tests::unpacked;

FormatPtr nm(int n, int m, bool columns = false) {
  return make_format("nm_sign", {{"n", n}, {"m", m}, {"columns", columns}});
}

StageReport quantize(TensorState& state, const Json& options = Json::object()) {
  ThreadPool pool(1);
  return make_quantizer("nm_sign", options)->quantize(state, {pool});
}

// One group of four and a rest of one: the two largest and the rest, under the mean of their magnitudes.
TEST(NmSignQuantizer, ByHand) {
  TensorState state = make_unit(1, 5, nm(2, 4), 1, false);
  state.weights.data = {0.25f, -4.0f, 3.0f, 0.5f, -2.0f};
  quantize(state);
  EXPECT_EQ(unpacked(*state.packed).data, (std::vector<float>{0, -3, 3, 0, -3}));
  // Equal weights: the count is exact. Zeros have the sign +.
  state.weights.data = {1, 1, 1, -1, 0};
  quantize(state);
  const NmSigns signs = as_nm_sign(state.plan)->unpack_signs(*state.packed);
  int kept = 0;
  for (int k = 0; k < 4; ++k) kept += signs.signs[k] != 0;
  EXPECT_EQ(kept, 2);
  EXPECT_EQ(signs.signs[4], 1);
}

TEST(NmSignQuantizer, FeedbackBeatsPlainSelectionInTheErrorItMinimises) {
  for (const auto& [n, m] : std::vector<std::pair<int, int>>{{2, 8}, {3, 16}, {1, 4}, {4, 8}, {8, 8}})
    for (const bool columns : {false, true}) {
      TensorState plain = make_unit(24, 172, nm(n, m, columns), 2), feedback = plain;
      quantize(plain, {{"importance", "uniform"}});
      const StageReport report = quantize(feedback, {{"importance", "activations"}});
      const double trace = trace_error(unpacked(*feedback.packed), feedback.weights, feedback.statistics->gram);
      EXPECT_LT(trace, trace_error(unpacked(*plain.packed), plain.weights, plain.statistics->gram)) << n << ":" << m;
      EXPECT_NEAR(report.loss, trace, 1e-4 * trace);
    }
}

// Each row's scale is where the loss under the gram matrix is least: (q H w^T) / (q H q^T), up to a half's rounding.
TEST(NmSignQuantizer, RowScalesAreOptimal) {
  TensorState state = make_unit(12, 64, nm(2, 8, true), 8);
  quantize(state);
  const Matrix back = unpacked(*state.packed);
  for (size_t i = 0; i < 12; ++i) {
    double along = 0, squares = 0;
    for (size_t j = 0; j < 64; ++j)
      for (size_t k = 0; k < 64; ++k) {
        const double qh = double{back.row(i)[j]} * state.statistics->gram.row(j)[k];
        along += qh * state.weights.row(i)[k];
        squares += qh * back.row(i)[k];
      }
    EXPECT_NEAR(along / squares, 1, 1e-3) << i;
  }
}

TEST(NmSignQuantizer, MoreSignsAndColumnScalesLowerTheError) {
  const auto loss = [](int n, int m, bool columns) {
    TensorState state = make_unit(48, 160, nm(n, m, columns), 3);
    return quantize(state).loss;
  };
  EXPECT_LT(loss(2, 8, false), loss(1, 8, false));
  EXPECT_LT(loss(4, 8, false), loss(2, 8, false));
  EXPECT_LT(loss(2, 8, true), loss(2, 8, false));  // the columns of the units differ in size
}

// With H the identity every sign and choice is that of the largest weights and each scale is their mean magnitude.
TEST(NmSignQuantizer, WithUncorrelatedInputsItKeepsTheLargest) {
  TensorState state = make_unit(6, 64, nm(2, 8), 4, false), same = state;
  same.statistics = tests::uncorrelated(std::vector<float>(64, 1.0f));
  quantize(state);
  quantize(same);
  const NmSigns a = as_nm_sign(state.plan)->unpack_signs(*state.packed),
                b = as_nm_sign(state.plan)->unpack_signs(*same.packed);
  for (size_t i = 0; i < 6; ++i) {
    double sum = 0;
    for (size_t begin = 0; begin < 64; begin += 8)
      for (size_t j = begin; j < begin + 8; ++j) {
        size_t larger = 0;
        for (size_t k = begin; k < begin + 8; ++k)
          larger += std::fabs(state.weights.row(i)[k]) > std::fabs(state.weights.row(i)[j]);
        EXPECT_EQ(a.signs[i * 64 + j] != 0, larger < 2);
        if (larger < 2) sum += std::fabs(state.weights.row(i)[j]);
      }
    EXPECT_NEAR(a.scales[i], sum / 16, 1e-3 * sum / 16);
  }
  EXPECT_EQ(a.signs, b.signs);
}

TEST(NmSignQuantizer, AMaskFromBeforeIsKept) {
  TensorState state = make_unit(7, 172, nm(3, 16), 5);
  tests::prune_to({3, 16}, state);
  quantize(state);
  const Matrix back = unpacked(*state.packed);
  for (size_t k = 0; k < back.data.size(); ++k) ASSERT_EQ(back.data[k] != 0, state.mask[k] != 0);
  state.mask[0] ^= 1;
  EXPECT_THROW(quantize(state), Error);
}

TEST(NmSignQuantizer, ZerosAndRefusals) {
  TensorState state = make_unit(4, 20, nm(2, 8, true), 6);
  std::fill(state.weights.data.begin(), state.weights.data.end(), 0.0f);
  quantize(state);
  for (const float w : unpacked(*state.packed).data) EXPECT_EQ(w, 0.0f);
  const auto kind = [](TensorState wrong, const Json& options) {
    try {
      quantize(wrong, options);
    } catch (const Error& error) {
      EXPECT_NE(std::string(error.what()).find("blk.0.test.weight"), std::string::npos);
      return error.kind();
    }
    return ErrorKind::internal;
  };
  EXPECT_EQ(kind(make_unit(4, 32, make_format("q4_0"), 7), Json::object()), ErrorKind::usage);
  EXPECT_EQ(kind(make_unit(4, 32, nm(2, 8), 7, false), {{"importance", "activations"}}), ErrorKind::usage);
}

}  // namespace
}  // namespace whit
