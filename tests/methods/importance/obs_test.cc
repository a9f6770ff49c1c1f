#include <gtest/gtest.h>

#include "methods/units.h"

namespace whit {
namespace {

// H = [[2, 1], [1, 2]]: H^-1 = [[2, -1], [-1, 2]] / 3. U upper with U^T U = H^-1: U_11^2 = 2/3, U_12 = -1/3 / U_11,
// U_22^2 = 2/3 - 1/6 = 1/2. Removing the first input's weight, the second makes up: 1 / U_11^2 = 3/2; removing the
// second, nothing is left to make up: 2.
TEST(Obs, ByHand) {
  ThreadPool pool(1);
  TensorState state = tests::make_unit(1, 2, nullptr, 1, false);
  state.weights.data = {2.0f, -1.0f};
  auto statistics = std::make_shared<UnitStatistics>();
  statistics->tokens = 1;
  statistics->gram = Matrix(2, 2);
  statistics->gram.data = {2, 1, 1, 2};
  state.statistics = statistics;
  make_importance("obs", {{"damp_ratio", 0.0}})->score(state, {pool});
  EXPECT_NEAR(state.scores.data[0], 4 * 1.5, 1e-5);
  EXPECT_NEAR(state.scores.data[1], 1 * 2.0, 1e-5);
}

TEST(Obs, WithUncorrelatedInputsItIsWandaSquared) {
  ThreadPool pool(1);
  TensorState obs = tests::make_unit(3, 4, nullptr, 2, false);
  obs.statistics = tests::uncorrelated({4.0f, 0.5f, 0.0f, 1.0f});
  TensorState wanda = obs;
  make_importance("obs", {{"damp_ratio", 0.0}})->score(obs, {pool});
  make_importance("wanda", Json::object())->score(wanda, {pool});
  for (size_t k = 0; k < 12; ++k)
    EXPECT_NEAR(obs.scores.data[k], wanda.scores.data[k] * wanda.scores.data[k], 1e-5f * obs.scores.data[k]);
}

}  // namespace
}  // namespace whit
