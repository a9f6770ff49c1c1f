#include "runtime/sampler.h"

#include <gtest/gtest.h>

#include <array>
#include <cmath>
#include <limits>
#include <set>

namespace whit {
namespace {

constexpr int32_t kIds = 5;
const std::vector<float> kLogits = {1.0f, 3.0f, 2.0f, 3.0f, -1.0f};

SamplerOptions plain() {
  SamplerOptions options;
  options.temperature = 1;
  options.top_k = 0;
  options.top_p = 1;
  options.min_p = 0;
  return options;
}

std::array<int, kIds> draw(const SamplerOptions& options, int count, const std::vector<int32_t>& recent = {}) {
  Sampler sampler(options);
  std::array<int, kIds> hits{};
  for (int i = 0; i < count; ++i) ++hits[static_cast<size_t>(sampler.next(kLogits, recent))];
  return hits;
}

TEST(Sampler, GreedyTakesTheLowerOfEqualIds) {
  SamplerOptions options;
  options.temperature = 0;
  options.repeat_penalty = 5;  // ignored
  EXPECT_EQ(Sampler(options).next(kLogits, std::vector<int32_t>{1}), 1);
}

TEST(Sampler, FrequenciesFollowTheSoftmax) {
  const int count = 40000;
  for (const double temperature : {0.7, 1.0, 2.0}) {
    SamplerOptions options = plain();
    options.temperature = temperature;
    const auto hits = draw(options, count);
    double total = 0;
    for (const float l : kLogits) total += std::exp(l / temperature);
    for (size_t i = 0; i < kIds; ++i) {
      const double p = std::exp(kLogits[i] / temperature) / total;
      EXPECT_NEAR(hits[i], count * p, 5 * std::sqrt(count * p * (1 - p)) + 1) << i << " at " << temperature;
    }
  }
}

std::set<int32_t> seen(const SamplerOptions& options, const std::vector<int32_t>& recent = {}) {
  const auto hits = draw(options, 5000, recent);
  std::set<int32_t> ids;
  for (int32_t i = 0; i < kIds; ++i)
    if (hits[static_cast<size_t>(i)] > 0) ids.insert(i);
  return ids;
}

TEST(Sampler, Filters) {
  SamplerOptions options = plain();
  options.top_k = 3;
  EXPECT_EQ(seen(options), (std::set<int32_t>{1, 2, 3}));
  options.top_k = 1;  // the tie goes to the lower id
  EXPECT_EQ(seen(options), (std::set<int32_t>{1}));
  options = plain();
  options.top_p = 0.5;  // probabilities 0.056 0.41 0.15 0.41 0.0075: the second token crosses one half
  EXPECT_EQ(seen(options), (std::set<int32_t>{1, 3}));
  options.top_p = 0;  // the likeliest always stays
  EXPECT_EQ(seen(options), (std::set<int32_t>{1}));
  options = plain();
  options.min_p = 0.3;  // exp(-1) = 0.37 stays, exp(-2) = 0.14 goes
  EXPECT_EQ(seen(options), (std::set<int32_t>{1, 2, 3}));
}

TEST(Sampler, RepeatPenaltyOverTheLastTokens) {
  SamplerOptions options = plain();
  options.top_k = 1;
  options.repeat_penalty = 2;
  EXPECT_EQ(seen(options, {1}), (std::set<int32_t>{3}));     // 3 / 2 < 3
  EXPECT_EQ(seen(options, {1, 3}), (std::set<int32_t>{2}));  // both are 1.5 now
  options.repeat_last = 1;
  EXPECT_EQ(seen(options, {1, 3}), (std::set<int32_t>{1}));  // only the last one counts
  EXPECT_EQ(seen(options, {-4, 99}), (std::set<int32_t>{1}));
}

TEST(Sampler, SameSeedSameTokens) {
  SamplerOptions options = plain();
  const auto sequence = [&](uint64_t seed) {
    options.seed = seed;
    Sampler sampler(options);
    std::vector<int32_t> ids;
    for (int i = 0; i < 50; ++i) ids.push_back(sampler.next(kLogits, {}));
    return ids;
  };
  EXPECT_EQ(sequence(1), sequence(1));
  EXPECT_NE(sequence(1), sequence(2));
}

TEST(Sampler, StrangeLogits) {
  const float infinite = std::numeric_limits<float>::infinity();
  SamplerOptions options;
  EXPECT_EQ(Sampler(options).next(std::vector<float>{-infinite, 0.0f}, {}), 1);
  EXPECT_EQ(Sampler(options).next(std::vector<float>{0.0f, infinite}, {}), 1);
  EXPECT_THROW(Sampler(options).next(std::vector<float>{0.0f, NAN}, {}), Error);
  EXPECT_THROW(Sampler(options).next({}, {}), Error);
}

}  // namespace
}  // namespace whit
