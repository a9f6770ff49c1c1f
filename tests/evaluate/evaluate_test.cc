#include "evaluate/evaluate.h"

#include <gtest/gtest.h>

#include <cmath>

#include "base/error.h"
#include "base/rng.h"
#include "evaluate/fake_scorer.h"
#include "evaluate/rows.h"

namespace whit {
namespace {

std::vector<int32_t> random_ids(size_t count, uint64_t vocabulary, uint64_t seed) {
  Rng rng(seed);
  std::vector<int32_t> ids(count);
  for (int32_t& id : ids) id = static_cast<int32_t>(rng.below(vocabulary));
  return ids;
}

// Logits that depend on id, position and a seed.
FakeScorer::Logits noise(uint64_t vocabulary, uint64_t seed, double spread) {
  return [=](int32_t id, size_t position) {
    Rng rng(seed * 1000003 + static_cast<uint64_t>(id) * 8191 + position);
    std::vector<float> row(vocabulary);
    for (float& value : row) value = static_cast<float>(spread * rng.normal());
    return row;
  };
}

std::shared_ptr<FakeScorer> noisy_model(uint64_t vocabulary, uint64_t seed, double spread) {
  return std::make_shared<FakeScorer>(vocabulary, noise(vocabulary, seed, spread));
}

Judgements judge(const std::vector<Candidate>& models, const Candidate* base, int threads = 1) {
  ThreadPool pool(threads);
  SilentProgress silent;
  return evaluate(models, base, pool, silent);
}

TEST(Evaluate, PerplexityByHand) {
  // p = (1/4, 3/4) always. One window 0 1 1 0: its second half is position 2, which predicts the last 0.
  auto scorer = std::make_shared<FakeScorer>(2, [](int32_t, size_t) { return std::vector<float>{0, std::log(3.0f)}; });
  const TokenWindows windows = cut_windows({0, 1, 1, 0}, -1, 4, 0);
  const Judgements judged = judge({{"hand", scorer, &windows}}, nullptr);
  EXPECT_NEAR(judged.models[0].perplexity_half, 4, 1e-6);
  EXPECT_NEAR(judged.models[0].perplexity_all, std::cbrt(4.0 / 3 * 4.0 / 3 * 4), 1e-6);
  EXPECT_TRUE(std::isnan(judged.models[0].kl_mean));
  EXPECT_TRUE(std::isnan(judged.models[0].perplexity_half_error));  // one position has no spread
  EXPECT_FALSE(judged.base);
}

TEST(Evaluate, PiecesChangeNothing) {
  // Windows of several pieces, the last one ragged, against the definition over whole rows.
  constexpr uint64_t vocabulary = 37, context = 2 * piece_rows + 45;
  const TokenWindows windows = cut_windows(random_ids(3 * context + 5, vocabulary, 1), -1, context, 0);
  ASSERT_EQ(windows.windows.size(), 3u);
  const auto base_logits = noise(vocabulary, 1, 2), model_logits = noise(vocabulary, 2, 1.5);
  std::vector<double> half, all, divergence;
  size_t same = 0;
  for (const auto& window : windows.windows)
    for (size_t p = 0; p + 1 < context; ++p) {
      const std::vector<float> row = model_logits(window[p], p), base_row = base_logits(window[p], p);
      const RowSums sums = sum_row(row), base_sums = sum_row(base_row);
      const double loss = sums.log_sum_exp - row[static_cast<size_t>(window[p + 1])];
      all.push_back(loss);
      if (p < context / 2) continue;
      half.push_back(loss);
      divergence.push_back(row_divergence(base_row, base_sums, row, sums));
      same += sums.top == base_sums.top;
    }
  ASSERT_EQ(half.size(), 3 * (context - 1 - context / 2));
  for (const int threads : {1, 3}) {
    auto base = std::make_shared<FakeScorer>(vocabulary, base_logits),
         model = std::make_shared<FakeScorer>(vocabulary, model_logits);
    const Candidate base_candidate{"base", base, &windows};
    const Judgement judged = judge({{"model", model, &windows}}, &base_candidate, threads).models[0];
    EXPECT_DOUBLE_EQ(judged.perplexity_half, std::exp(mean_error(half).mean));
    EXPECT_DOUBLE_EQ(judged.perplexity_half_error, mean_error(half).error * std::exp(mean_error(half).mean));
    EXPECT_NEAR(judged.perplexity_all, std::exp(mean_error(all).mean), 1e-9);
    EXPECT_DOUBLE_EQ(judged.kl_mean, mean_error(divergence).mean);
    EXPECT_DOUBLE_EQ(judged.kl_mean_error, mean_error(divergence).error);
    EXPECT_DOUBLE_EQ(judged.kl_median, quantile(divergence, 0.5));
    EXPECT_DOUBLE_EQ(judged.kl_p99, quantile(divergence, 0.99));
    EXPECT_DOUBLE_EQ(judged.same_top, static_cast<double>(same) / static_cast<double>(divergence.size()));
    EXPECT_EQ(judged.windows, 3u);
    EXPECT_EQ(judged.context, context);
    EXPECT_LE(base->most_fed, piece_rows);
  }
}

TEST(Evaluate, TheBaseIsComputedOnce) {
  const TokenWindows windows = cut_windows(random_ids(64, 11, 3), -1, 16, 0);
  auto base = noisy_model(11, 1, 1), one = noisy_model(11, 2, 1), two = noisy_model(11, 3, 1);
  const Candidate base_candidate{"base", base, &windows};
  const Judgements judged =
      judge({{"one", one, &windows}, {"base", base, &windows}, {"two", two, &windows}}, &base_candidate, 2);
  EXPECT_EQ(base->fed, 64u);
  EXPECT_EQ(one->fed, 64u);
  EXPECT_EQ(judged.models[1].kl_mean, 0.0);
  EXPECT_EQ(judged.models[1].same_top, 1.0);
  EXPECT_EQ(judged.models[1].perplexity_half, judged.base->perplexity_half);
  EXPECT_GT(judged.models[0].kl_mean, 0.0);
}

TEST(Evaluate, EqualModelsDivergeByNothing) {
  const TokenWindows windows = cut_windows(random_ids(64, 29, 4), -1, 32, 0);
  const Candidate base{"base", noisy_model(29, 1, 3), &windows};
  const Judgement judged = judge({{"copy", noisy_model(29, 1, 3), &windows}}, &base).models[0];
  EXPECT_LT(std::abs(judged.kl_mean), 1e-12);
  EXPECT_EQ(judged.same_top, 1.0);
}

TEST(Evaluate, PairedDifferences) {
  Judgement a, b;
  a.loss_half = {2, 3, 4};
  b.loss_half = {1, 1, 1};
  a.divergence = {0.5, 0.5, 0.5};
  b.divergence = {0.1, 0.2, 0.3};
  const Paired paired = compare(a, b);
  EXPECT_DOUBLE_EQ(paired.log_perplexity, 2);
  EXPECT_DOUBLE_EQ(paired.log_perplexity_error, std::sqrt(2.0 / 3 / 2));
  EXPECT_NEAR(paired.kl, 0.3, 1e-15);
  EXPECT_NEAR(paired.kl_error, std::sqrt(0.02 / 3 / 2), 1e-15);
}

TEST(Evaluate, WhatCannotBeComparedIsRefused) {
  const TokenWindows windows = cut_windows(random_ids(32, 5, 5), -1, 8, 0),
                     others = cut_windows(random_ids(32, 5, 6), -1, 8, 0);
  const auto kind = [&](const Candidate& model, const Candidate* base) {
    try {
      judge({model}, base);
    } catch (const Error& error) {
      return error.kind();
    }
    return ErrorKind::internal;
  };
  const Candidate base{"base", noisy_model(5, 1, 1), &windows};
  EXPECT_EQ(kind({"six rows", noisy_model(6, 1, 1), &windows}, &base), ErrorKind::input);
  EXPECT_EQ(kind({"other ids", noisy_model(5, 2, 1), &others}, &base), ErrorKind::input);
  EXPECT_EQ(kind({"ids without a row", noisy_model(3, 1, 1), &windows}, nullptr), ErrorKind::input);
}

TEST(Evaluate, InterruptEndsIt) {
  struct Interrupt final : Progress {
    void begin(const std::string&, double) override {}
    void advance(double) override {}
    void note(const std::string&) override {}
    void end() override {}
    void check_interrupt() override { throw Error(ErrorKind::interrupted, "stopped"); }
  } interrupt;
  const TokenWindows windows = cut_windows(random_ids(32, 5, 5), -1, 8, 0);
  const Candidate model{"five", noisy_model(5, 1, 1), &windows};
  ThreadPool pool(1);
  EXPECT_THROW(evaluate(std::span(&model, 1), nullptr, pool, interrupt), Error);
}

}  // namespace
}  // namespace whit
