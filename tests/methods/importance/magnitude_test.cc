#include <gtest/gtest.h>

#include "methods/units.h"

namespace whit {
namespace {

TEST(Magnitude, IsTheSize) {
  ThreadPool pool(1);
  TensorState state = tests::make_unit(2, 3, nullptr, 1, false);
  state.weights.data = {0.5f, -2.0f, 0.0f, 3.0f, -0.25f, 1.0f};
  make_importance("magnitude", Json::object())->score(state, {pool});
  EXPECT_EQ(state.scores.data, (std::vector<float>{0.5f, 2.0f, 0.0f, 3.0f, 0.25f, 1.0f}));
}

TEST(Magnitude, AsksForNothing) { EXPECT_FALSE(make_importance("magnitude", Json::object())->needs_statistics()); }

}  // namespace
}  // namespace whit
