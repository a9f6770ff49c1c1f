#include <gtest/gtest.h>

#include "methods/units.h"

namespace whit {
namespace {

// Mean squares 4, 0.25, 0: norms 2, 0.5, 0.
TEST(Wanda, IsTheSizeTimesTheNormOfTheInput) {
  ThreadPool pool(1);
  TensorState state = tests::make_unit(2, 3, nullptr, 1, false);
  state.weights.data = {0.5f, -2.0f, 7.0f, 3.0f, -0.25f, 1.0f};
  state.statistics = tests::uncorrelated({4.0f, 0.25f, 0.0f});
  make_importance("wanda", Json::object())->score(state, {pool});
  EXPECT_EQ(state.scores.data, (std::vector<float>{1.0f, 1.0f, 0.0f, 6.0f, 0.125f, 0.0f}));
}

TEST(Wanda, WithoutStatisticsItIsAnErrorThatNamesTheUnit) {
  ThreadPool pool(1);
  TensorState state = tests::make_unit(2, 8, nullptr, 1, false);
  try {
    make_importance("wanda", Json::object())->score(state, {pool});
    FAIL();
  } catch (const Error& error) {
    EXPECT_EQ(error.kind(), ErrorKind::usage);
    EXPECT_NE(std::string(error.what()).find(state.unit.name), std::string::npos);
  }
}

}  // namespace
}  // namespace whit
