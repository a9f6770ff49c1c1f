#include <gtest/gtest.h>

#include <cmath>

#include "methods/units.h"

namespace whit {
namespace {

TEST(StbllmSi, ReleasedIsRia) {
  ThreadPool pool(1);
  TensorState stbllm = tests::make_unit(6, 40, nullptr, 4), ria = stbllm;
  make_importance("stbllm_si", Json::object())->score(stbllm, {pool});
  make_importance("ria", Json::object())->score(ria, {pool});
  for (size_t k = 0; k < ria.scores.data.size(); ++k)
    EXPECT_NEAR(stbllm.scores.data[k], ria.scores.data[k], 1e-6f * ria.scores.data[k]);
}

// mu of [[1, 3], [3, 5]] is 1/2, 9/8, 9/8, 5/4: mean 1, deviation sqrt((1/4 + 1/64 + 1/64 + 1/16) / 4). Norms 4 and 1.
TEST(StbllmSi, StandardizedByHand) {
  ThreadPool pool(1);
  TensorState state = tests::make_unit(2, 2, nullptr, 1, false);
  state.weights.data = {1.0f, -3.0f, 3.0f, 5.0f};
  state.statistics = tests::uncorrelated({16.0f, 1.0f});
  make_importance("stbllm_si", {{"form", "standardized"}})->score(state, {pool});
  const double deviation = std::sqrt((1.0 / 4 + 1.0 / 64 + 1.0 / 64 + 1.0 / 16) / 4);
  const double wanted[] = {-0.5 / deviation * 4, 0.125 / deviation, 0.125 / deviation * 4, 0.25 / deviation};
  for (size_t k = 0; k < 4; ++k) EXPECT_NEAR(state.scores.data[k], wanted[k], 1e-5) << k;
}

TEST(StbllmSi, EqualWeightsStandardizeToZero) {
  ThreadPool pool(1);
  TensorState state = tests::make_unit(2, 2, nullptr, 1, false);
  state.weights.data = {1, 1, 1, 1};
  state.statistics = tests::uncorrelated({16.0f, 1.0f});
  make_importance("stbllm_si", {{"form", "standardized"}})->score(state, {pool});
  EXPECT_EQ(state.scores.data, std::vector<float>(4, 0.0f));
}

}  // namespace
}  // namespace whit
