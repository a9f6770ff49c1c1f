// Text that a model writes itself: a draw from its own distribution, and the same for the same seed.
#include "model/torch/writer.h"

#include <gtest/gtest.h>

#include <cmath>
#include <filesystem>

#include "model/torch/executor.h"
#include "model/torch/matrix.h"

namespace whit {
namespace {

const std::filesystem::path kData = std::filesystem::path(WHIT_TESTS_DIR) / "data";

class Writer : public ::testing::TestWithParam<int> {
 protected:
  void SetUp() override { set_torch_threads(GetParam()); }
  void TearDown() override { set_torch_threads(1); }
};

TEST_P(Writer, TheSameSeedWritesTheSame) {
  const ModelPtr model = load_model(kData / "llama_gqa");
  // More positions than the caches have room for at first.
  const std::vector<std::vector<int32_t>> starts = {{1, 5, 9}, {2}, {7, 3}};
  constexpr size_t kLength = 150;
  TextWriter writer(*model);
  const auto a = writer.write(starts, kLength, 4), b = writer.write(starts, kLength, 4),
             c = writer.write(starts, kLength, 5);
  ASSERT_EQ(a.size(), starts.size() * kLength);
  EXPECT_EQ(a, b);
  EXPECT_NE(a, c);
  for (size_t s = 0; s < starts.size(); ++s)
    for (size_t t = 0; t < starts[s].size(); ++t) EXPECT_EQ(a[s * kLength + t], starts[s][t]);
}

// 4000 continuations of the same words against the probabilities of the scorer, after positions that the caches were
// moved for.
TEST_P(Writer, DrawsFromTheModelsDistribution) {
  const ModelPtr model = load_model(kData / "llama_gqa");
  constexpr size_t kGiven = 70, kDraws = 4000;
  std::vector<int32_t> words;
  for (size_t i = 0; i < kGiven; ++i) words.push_back(static_cast<int32_t>(1 + i * 37 % (model->spec.vocabulary - 1)));
  std::vector<double> p;
  make_torch_scorer(model)->open(kGiven)->feed(words, kGiven - 1, [&](size_t, std::span<const float> logits) {
    double sum = 0;
    for (const float logit : logits) sum += std::exp(static_cast<double>(logit));
    for (const float logit : logits) p.push_back(std::exp(static_cast<double>(logit)) / sum);
  });
  // As many at a time as keys and values of them stay in the processor's caches.
  constexpr size_t kTogether = 100;
  TextWriter writer(*model);
  std::vector<double> drawn(p.size());
  for (uint64_t seed = 0; seed < kDraws / kTogether; ++seed) {
    const auto ids = writer.write(std::vector<std::vector<int32_t>>(kTogether, words), kGiven + 1, seed);
    for (size_t s = 0; s < kTogether; ++s)
      drawn.at(static_cast<size_t>(ids[s * (kGiven + 1) + kGiven])) += 1.0 / kDraws;
  }
  // The statistic over words that are expected at least once has about as many degrees of freedom as there are such
  // words, and a standard deviation of sqrt(2 n): 6 of them.
  double chi = 0, n = 0;
  for (size_t v = 0; v < p.size(); ++v)
    if (p[v] * kDraws >= 1) {
      chi += kDraws * (drawn[v] - p[v]) * (drawn[v] - p[v]) / p[v];
      n += 1;
    }
  ASSERT_GT(n, 10);
  EXPECT_LT(chi, n + 6 * std::sqrt(2 * n));
}

INSTANTIATE_TEST_SUITE_P(OneAndTwo, Writer, ::testing::Values(1, 2));

}  // namespace
}  // namespace whit
