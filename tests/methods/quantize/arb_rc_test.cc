#include <gtest/gtest.h>

#include <cmath>

#include "format/binary_groups.h"
#include "methods/units.h"

namespace whit {
namespace {

double loss_of(TensorState state, const char* method, const Json& format, const Json& options, ThreadPool& pool) {
  state.plan = make_format("binary_groups", format);
  return make_quantizer(method, options)->quantize(state, {pool}).loss;
}

const Json kPlain = {{"regions", 2}, {"columns", true}};
const Json kBitmap = {{"regions", 2}, {"columns", true}, {"residual", 49}};

// w_ij = sign r_i c_j is stored exactly: that is what the factors are for.
TEST(ArbRc, AProductOfFactorsIsExact) {
  ThreadPool pool(1);
  TensorState state = tests::make_unit(3, 8, make_format("binary_groups", {{"regions", 1}, {"columns", true}}), 1);
  const float row[3] = {1, 2, 0.5f};
  for (size_t i = 0; i < 3; ++i)
    for (size_t j = 0; j < 8; ++j)
      state.weights.row(i)[j] =
          (i + j) % 3 == 0 ? -row[i] * static_cast<float>(1 << (j % 4)) : row[i] * static_cast<float>(1 << (j % 4));
  state.statistics = tests::uncorrelated(std::vector<float>(8, 1));
  make_quantizer("arb_rc", Json::object())->quantize(state, {pool});
  const Matrix back = tests::unpacked(*state.packed);
  // Two halves are off by 2^-11 each at most.
  for (size_t k = 0; k < 24; ++k)
    EXPECT_NEAR(back.data[k], state.weights.data[k], 0x1p-10f * std::fabs(state.weights.data[k])) << k;
}

// Every step solves a least squares problem, so more rounds never lose; 2^-10 of slack for the rounding to halves.
TEST(ArbRc, MoreRoundsNeverLose) {
  ThreadPool pool(1);
  TensorState state = tests::make_unit(32, 160, nullptr, 2);
  state.statistics = tests::uncorrelated(std::vector<float>(160, 1));
  for (const Json& format : {kPlain, kBitmap}) {
    double before = 1e300;
    for (const int iterations : {0, 1, 2, 4, 15}) {
      const double loss = loss_of(state, "arb_rc", format, {{"iterations", iterations}, {"feedback", false}}, pool);
      EXPECT_LE(loss, before * (1 + 0x1p-10)) << iterations;
      before = loss;
    }
    EXPECT_LT(before, 0.99 * loss_of(state, "arb_rc", format, {{"iterations", 0}, {"feedback", false}}, pool));
  }
}

// The order of the paper: billm, then row and column factors at the same groups, then the column-group bitmap.
TEST(ArbRc, BeatsBillmAndTheBitmapHelps) {
  ThreadPool pool(1);
  for (const uint64_t seed : {3, 4}) {
    const TensorState state = tests::make_unit(64, 320, nullptr, seed);
    for (const char* search : {"saliency", "weights"}) {
      const Json options = {{"search", search}};
      const double billm = loss_of(state, "billm", {{"regions", 2}, {"means", false}}, options, pool);
      const double plain = loss_of(state, "arb_rc", kPlain, options, pool);
      EXPECT_LT(plain, billm) << search;
      EXPECT_LT(loss_of(state, "arb_rc", kBitmap, options, pool), plain) << search;
    }
  }
}

TEST(ArbRc, MasksRaggedBlocksAndZeroRows) {
  ThreadPool pool(1);
  TensorState state =
      tests::make_unit(6, 172, make_format("binary_groups", {{"columns", true}, {"n", 1}, {"m", 2}}), 5);
  state.mask.assign(state.weights.data.size(), 0);
  for (size_t k = 0; k < state.mask.size(); k += 2) state.mask[k] = 1, state.weights.data[k + 1] = 0;
  for (size_t j = 0; j < 172; ++j) state.weights.row(2)[j] = 0;
  make_quantizer("arb_rc", {{"feedback", false}})->quantize(state, {pool});
  const Matrix back = tests::unpacked(*state.packed);
  for (size_t k = 0; k < state.mask.size(); ++k) {
    EXPECT_TRUE(std::isfinite(back.data[k]));
    if (!state.mask[k]) EXPECT_EQ(back.data[k], 0.0f);
  }
  for (size_t j = 0; j < 172; ++j) EXPECT_EQ(back.row(2)[j], 0.0f);
}

TEST(ArbRc, WantsAFormatWithColumnScales) {
  ThreadPool pool(1);
  TensorState state = tests::make_unit(2, 16, make_format("binary_groups"), 6);
  EXPECT_THROW(make_quantizer("arb_rc", Json::object())->quantize(state, {pool}), Error);
}

}  // namespace
}  // namespace whit
