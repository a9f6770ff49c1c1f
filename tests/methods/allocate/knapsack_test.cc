#include <gtest/gtest.h>

#include <cmath>
#include <limits>

#include "base/rng.h"
#include "methods/stages.h"

namespace whit {
namespace {

using Instance = std::vector<std::vector<Choice>>;

struct Total {
  uint64_t bytes = 0;
  double loss = 0;
};

Total total(const Instance& choices, const std::vector<size_t>& plan) {
  Total sum;
  for (size_t u = 0; u < choices.size(); ++u) {
    sum.bytes += choices[u].at(plan[u]).bytes;
    sum.loss += choices[u].at(plan[u]).loss;
  }
  return sum;
}

double brute_force(const Instance& choices, uint64_t budget, size_t unit = 0, Total so_far = {}) {
  if (so_far.bytes > budget) return std::numeric_limits<double>::infinity();
  if (unit == choices.size()) return so_far.loss;
  double best = std::numeric_limits<double>::infinity();
  for (const Choice& choice : choices[unit])
    best = std::min(best,
                    brute_force(choices, budget, unit + 1, {so_far.bytes + choice.bytes, so_far.loss + choice.loss}));
  return best;
}

Instance random_instance(uint64_t seed, size_t units, size_t most_choices, uint64_t most_bytes) {
  Rng rng(seed);
  Instance instance(units);
  for (auto& unit : instance) {
    unit.resize(1 + rng.below(most_choices));
    for (Choice& choice : unit) choice = {1 + rng.below(most_bytes), rng.uniform()};
  }
  return instance;
}

// Like a model: bytes linear in bits, loss falling by a factor of 4 per bit, units of a few sizes.
Instance model_like(uint64_t seed, size_t units) {
  Rng rng(seed);
  const double bits[] = {2.28, 2.5, 3.13, 3.25, 3.5, 4.13, 4.25, 4.5, 5.5, 6.5, 8.5};
  const uint64_t weights[] = {576 * 576, 960 * 576, 3072 * 576, 576 * 1536};
  Instance instance(units);
  for (size_t u = 0; u < units; ++u) {
    const double sensitivity = 0.01 * std::exp(2 * rng.normal());
    for (const double b : bits)
      instance[u].push_back({static_cast<uint64_t>(b / 8 * static_cast<double>(weights[u % 4])) + 64 * rng.below(4),
                             sensitivity * std::exp2(-2 * b) * (0.9 + 0.2 * rng.uniform())});
  }
  return instance;
}

TEST(Knapsack, ByHand) {
  const auto knapsack = make_allocator("knapsack", Json::object());
  //                      4 + 4 = 8 bytes; one unit may have 8: the one that gains more
  const Instance choices = {{{4, 1.0}, {8, 0.5}}, {{8, 0.1}, {4, 1.0}}};
  EXPECT_EQ(knapsack->allocate(choices, 8), (std::vector<size_t>{0, 1}));
  EXPECT_EQ(knapsack->allocate(choices, 12), (std::vector<size_t>{0, 0}));
  EXPECT_EQ(knapsack->allocate(choices, 16), (std::vector<size_t>{1, 0}));
  EXPECT_TRUE(knapsack->allocate(choices, 7).empty());
}

TEST(Knapsack, TakesTheSmallerOfEqualLossesAndNeverADominatedOne) {
  const auto knapsack = make_allocator("knapsack", Json::object());
  const Instance choices = {{{10, 0.5}, {6, 0.5}, {7, 0.9}, {6, 0.6}}};
  EXPECT_EQ(knapsack->allocate(choices, 100), (std::vector<size_t>{1}));
}

TEST(Knapsack, EqualsBruteForce) {
  const auto knapsack = make_allocator("knapsack", Json::object());
  for (uint64_t seed = 0; seed < 60; ++seed) {
    const Instance choices = random_instance(seed, 1 + seed % 6, 5, 40);
    for (uint64_t budget = 0; budget < 240; budget += 7) {
      const double least = brute_force(choices, budget);
      const auto plan = knapsack->allocate(choices, budget);
      if (std::isinf(least)) {
        EXPECT_TRUE(plan.empty());
        continue;
      }
      ASSERT_EQ(plan.size(), choices.size());
      const Total sum = total(choices, plan);
      EXPECT_LE(sum.bytes, budget);
      EXPECT_NEAR(sum.loss, least, 1e-12) << "seed " << seed << " budget " << budget;
    }
  }
}

TEST(Knapsack, LargerBudgetNeverLosesEvenWhenBucketsAreCoarse) {
  const auto knapsack = make_allocator("knapsack", {{"buckets", 256}});
  for (uint64_t seed = 0; seed < 5; ++seed) {
    const Instance choices = model_like(seed, 24);
    double before = std::numeric_limits<double>::infinity();
    for (uint64_t budget = 6'000'000; budget < 24'000'000; budget += 100'003) {
      const auto plan = knapsack->allocate(choices, budget);
      if (plan.empty()) continue;
      const Total sum = total(choices, plan);
      EXPECT_LE(sum.bytes, budget);
      EXPECT_LE(sum.loss, before);
      before = sum.loss;
    }
  }
}

// Weak duality: for any price >= 0 of a byte, sum over units of min(loss + price * bytes) - price * budget bounds the
// loss of every plan within the budget from below.
double lower_bound(const Instance& choices, uint64_t budget) {
  double best = 0;
  for (double price = 1e-14; price < 1e-3; price *= 1.05) {
    double bound = -price * static_cast<double>(budget);
    for (const auto& unit : choices) {
      double least = std::numeric_limits<double>::infinity();
      for (const Choice& choice : unit)
        least = std::min(least, choice.loss + price * static_cast<double>(choice.bytes));
      bound += least;
    }
    best = std::max(best, bound);
  }
  return best;
}

TEST(Knapsack, AModelsWorthOfUnitsIsNearlyOptimalAndUsesItsBudget) {
  const auto knapsack = make_allocator("knapsack", Json::object());
  const Instance choices = model_like(7, 121);
  for (const uint64_t budget : {35'000'000ull, 45'000'000ull, 70'000'000ull}) {
    const auto plan = knapsack->allocate(choices, budget);
    ASSERT_FALSE(plan.empty());
    const Total sum = total(choices, plan);
    EXPECT_LE(sum.bytes, budget);
    EXPECT_LT(sum.loss, 1.002 * lower_bound(choices, budget));
    EXPECT_GT(static_cast<double>(sum.bytes), 0.995 * static_cast<double>(budget));
  }
}

TEST(Knapsack, RefusesNonsense) {
  const auto knapsack = make_allocator("knapsack", Json::object());
  EXPECT_THROW(knapsack->allocate(Instance{{}}, 10), Error);
  EXPECT_THROW(knapsack->allocate(Instance{{{1, std::nan("")}}}, 10), Error);
  EXPECT_TRUE(knapsack->allocate(Instance{}, 10).empty());
}

}  // namespace
}  // namespace whit
