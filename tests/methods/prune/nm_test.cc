#include <gtest/gtest.h>

#include <cmath>
#include <cstring>

#include "methods/units.h"

namespace whit {
namespace {

void score_by(const char* importance, TensorState& state, ThreadPool& pool) {
  make_importance(importance, Json::object())->score(state, {pool});
}

// 2:4, then a rest of 2 that keeps ceil(2 2 / 4) = 1. The tie between 0.5 and -0.5 loses the lower index.
TEST(Nm, ByHand) {
  ThreadPool pool(1);
  TensorState state = tests::make_unit(1, 6, nullptr, 1, false);
  state.weights.data = {0.5f, -2.0f, -0.5f, 0.1f, 3.0f, 4.0f};
  score_by("magnitude", state, pool);
  const StageReport report = make_pruner("nm", {{"n", 2}, {"m", 4}})->prune(state, {pool});
  EXPECT_EQ(state.mask, (std::vector<uint8_t>{0, 1, 1, 0, 0, 1}));
  EXPECT_EQ(state.weights.data, (std::vector<float>{0.0f, -2.0f, -0.5f, 0.0f, 0.0f, 4.0f}));
  EXPECT_NEAR(report.loss, 0.25 + 0.01 + 9, 1e-5);
  EXPECT_NEAR(report.relative_loss, report.loss / (0.25 + 4 + 0.25 + 0.01 + 9 + 16), 1e-6);
}

// With scores as they are and inputs uncorrelated, Wanda's mask loses least of all N:M masks.
TEST(Nm, WandaBeatsMagnitudeWhereInputsDiffer) {
  ThreadPool pool(1);
  TensorState magnitude = tests::make_unit(16, 64, nullptr, 5), wanda = magnitude;
  score_by("magnitude", magnitude, pool);
  score_by("wanda", wanda, pool);
  const auto prune = [&](TensorState& state) {
    return make_pruner("nm", {{"n", 4}, {"m", 8}})->prune(state, {pool}).loss;
  };
  EXPECT_LT(prune(wanda), 0.9 * prune(magnitude));
}

TEST(Nm, DeadInputsGoFirst) {
  ThreadPool pool(1);
  TensorState state = tests::make_unit(1, 4, nullptr, 1, false);
  state.weights.data = {0.1f, 9.0f, 0.2f, 8.0f};
  state.statistics = tests::uncorrelated({1.0f, 0.0f, 1.0f, 0.0f});
  score_by("magnitude", state, pool);
  make_pruner("nm", {{"n", 2}, {"m", 4}})->prune(state, {pool});
  EXPECT_EQ(state.mask, (std::vector<uint8_t>{1, 0, 1, 0}));
}

TEST(Nm, AllKeptLeavesTheWeightsBitForBit) {
  ThreadPool pool(1);
  TensorState state = tests::make_unit(3, 20, nullptr, 6, false);
  state.weights.data[4] = -0.0f;
  const std::vector<float> before = state.weights.data;
  score_by("magnitude", state, pool);
  make_pruner("nm", {{"n", 8}, {"m", 8}})->prune(state, {pool});
  EXPECT_EQ(std::memcmp(before.data(), state.weights.data.data(), before.size() * sizeof(float)), 0);
}

TEST(Nm, RefusesWhatItCannotUse) {
  ThreadPool pool(1);
  EXPECT_THROW(make_pruner("nm", {{"n", 5}, {"m", 4}}), Error);
  const auto kind = [&](TensorState state, const Json& options) {
    try {
      make_pruner("nm", options)->prune(state, {pool});
    } catch (const Error& error) {
      EXPECT_NE(std::string(error.what()).find("blk.0.test.weight"), std::string::npos) << error.what();
      return error.kind();
    }
    return ErrorKind::internal;
  };
  TensorState state = tests::make_unit(2, 8, nullptr, 7, false);
  EXPECT_EQ(kind(state, Json::object()), ErrorKind::usage);  // no scores
  score_by("magnitude", state, pool);
  EXPECT_EQ(kind(state, {{"layerwise", "owl"}}), ErrorKind::usage);  // of the whole model
  state.scores.data[3] = std::nanf("");
  EXPECT_EQ(kind(state, Json::object()), ErrorKind::numeric);
}

}  // namespace
}  // namespace whit
