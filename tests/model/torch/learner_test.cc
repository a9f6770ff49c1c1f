// The whole model's loss and its gradients, against finite differences and against what the scorer says.
#include "model/torch/learner.h"

#include <gtest/gtest.h>

#include <cmath>
#include <tuple>

#include "model/torch/adamw.h"
#include "model/torch/executor.h"
#include "model/torch/leaves.h"

namespace whit {
namespace {

const std::filesystem::path kData = std::filesystem::path(WHIT_TESTS_DIR) / "data";

TEST(Learner, AModelIsItsOwnBestStudent) {
  const ModelPtr model = load_model(kData / "llama_gqa");
  Learner learner(model->spec, model.get(), true);
  const LossParts loss = learner.loss(Leaves(*model), some_ids(32), 2);
  EXPECT_NEAR(loss.main, 0, 1e-6);
  EXPECT_EQ(loss.positions, 32);
  EXPECT_GT(learner.loss(Leaves(*model, 0.3f), some_ids(32), 2).main, 1e-3);
}

TEST(Learner, CrossEntropyIsThatOfTheScorer) {
  for (const char* name : {"llama_gqa", "llama_tied_smollm", "gemma3_capped"}) {
    const ModelPtr model = load_model(kData / name);
    const std::vector<int32_t> ids = some_ids(24);
    const auto session = make_torch_scorer(model)->open(64);
    double expected = 0;
    session->feed(ids, 0, [&](size_t position, std::span<const float> row) {
      if (position + 1 >= ids.size()) return;
      double sum = 0;
      for (const float x : row) sum += std::exp(static_cast<double>(x));
      expected += std::log(sum) - row[static_cast<size_t>(ids[position + 1])];
    });
    Learner learner(model->spec, nullptr, true);
    const LossParts loss = learner.loss(Leaves(*model), ids, 1);
    EXPECT_EQ(loss.positions, 23);
    EXPECT_NEAR(loss.main, expected / 23, 1e-4) << name;
  }
}

// d loss / d (a direction in a leaf) by the gradient and by a central difference.
TEST(Learner, GradientsAreThoseOfTheLoss) {
  for (const char* name : {"llama_gqa", "llama_tied_smollm", "gemma3_capped"}) {
    const ModelPtr model = load_model(kData / name);
    const std::vector<int32_t> ids = some_ids(32);
    for (const bool taught : {true, false}) {
      Learner learner(model->spec, taught ? model.get() : nullptr, true);
      const Leaves student(*model, 0.2f);
      learner.step(student, ids, 2, 3.0);
      // Copied at once: the steps below add to them.
      std::vector<std::tuple<std::string, Tensor, std::vector<float>>> leaves;
      for (const LearnedWeights& weights : {student.block(1), student.ends()})
        for (const auto& [leaf_name, leaf] : weights) {
          ASSERT_TRUE(static_cast<bool>(leaf.grad())) << leaf_name;
          leaves.emplace_back(leaf_name, leaf, leaf.grad().values());
        }
      for (auto& [leaf_name, leaf, gradient] : leaves) {
        const std::vector<float> before = leaf.values();
        double norm = 0;
        for (const float g : gradient) norm += static_cast<double>(g) * g;
        norm = std::sqrt(norm);
        ASSERT_GT(norm, 0) << leaf_name;
        const double step = 3e-3 / std::max(1.0, norm);
        const std::vector<float>& direction = gradient;
        Tensor moving = leaf;
        const auto loss_at = [&](double along) {
          std::vector<float> moved = before;
          for (size_t i = 0; i < moved.size(); ++i) moved[i] += static_cast<float>(along * direction[i] / norm);
          moving.assign(Tensor::from(moved, moving.shape()));
          // step() gives the hidden part, which loss() leaves out.
          const LossParts parts = learner.step(student, ids, 2, 3.0);
          return parts.main + (taught ? 3.0 * parts.hidden : 0.0);
        };
        const double slope = (loss_at(step) - loss_at(-step)) / (2 * step);
        moving.assign(Tensor::from(before, moving.shape()));
        EXPECT_NEAR(slope, norm, 0.03 * norm + 2e-4) << name << " " << leaf_name << (taught ? " taught" : " alone");
      }
    }
  }
}

TEST(Learner, RecomputingBlocksChangesNothing) {
  const ModelPtr model = load_model(kData / "llama_gqa");
  const std::vector<int32_t> ids = some_ids(32);
  std::vector<std::vector<float>> gradients;
  for (const bool checkpoint : {true, false}) {
    Learner learner(model->spec, model.get(), checkpoint);
    const Leaves student(*model, 0.2f);
    learner.step(student, ids, 2, 10);
    for (const auto& [name, leaf] : student.block(0)) gradients.push_back(leaf.grad().values());
  }
  for (size_t i = 0; i < gradients.size() / 2; ++i) EXPECT_EQ(gradients[i], gradients[i + gradients.size() / 2]);
}

// The scorer of the learning device, here the CPU, in pieces and cut back, against the plain one.
TEST(DeviceScorer, GivesTheSameLogits) {
  for (const char* name : {"llama_gqa", "llama_tied_smollm", "gemma3_capped", "models/stories260K.gguf"}) {
    const ModelPtr model = load_model(kData / name);
    const std::vector<int32_t> ids = some_ids(40);
    const auto rows_of = [&](const std::shared_ptr<const Scorer>& scorer, size_t piece) {
      const auto session = scorer->open(64);
      std::vector<float> rows;
      session->feed(std::vector<int32_t>{5, 6, 7}, 3, {});
      session->truncate(0);
      for (size_t at = 0; at < ids.size(); at += piece)
        session->feed(std::span(ids).subspan(at, std::min(piece, ids.size() - at)), 7,
                      [&](size_t position, std::span<const float> row) {
                        EXPECT_EQ(position, 7 + rows.size() / row.size());
                        rows.insert(rows.end(), row.begin(), row.end());
                      });
      EXPECT_THROW(session->feed(some_ids(30), 0, {}), Error);
      return rows;
    };
    const std::vector<float> expected = rows_of(make_torch_scorer(model), 40);
    for (const size_t piece : {1, 7, 40}) {
      const std::vector<float> got = rows_of(make_device_scorer(*model), piece);
      ASSERT_EQ(got.size(), expected.size());
      for (size_t i = 0; i < got.size(); ++i) ASSERT_NEAR(got[i], expected[i], 2e-4) << name << " " << piece;
    }
  }
}

// A window judged on the device against the same judged from logit rows.
TEST(DeviceScorer, JudgesAWindowAsItsRowsDo) {
  const ModelPtr model = load_model(kData / "llama_gqa"), base = load_model(kData / "llama_tied_smollm");
  ASSERT_EQ(model->spec.vocabulary, base->spec.vocabulary);
  const std::vector<int32_t> ids = some_ids(300);  // more than one piece
  const auto rows_of = [&](const ModelPtr& of) {
    std::vector<std::vector<double>> rows;  // log-probabilities
    make_torch_scorer(of)->open(ids.size())->feed(ids, 0, [&](size_t, std::span<const float> logits) {
      double sum = 0;
      for (const float logit : logits) sum += std::exp(static_cast<double>(logit));
      rows.emplace_back();
      for (const float logit : logits) rows.back().push_back(logit - std::log(sum));
    });
    return rows;
  };
  const auto p = rows_of(base), q = rows_of(model);
  WindowScore score, self;
  const auto scorer = make_device_scorer(*model), reference = make_device_scorer(*base);
  ASSERT_TRUE(scorer->score_window(ids, *reference, score));
  ASSERT_TRUE(scorer->score_window(ids, *scorer, self));
  EXPECT_FALSE(scorer->score_window(ids, *make_torch_scorer(base), self));
  ASSERT_EQ(score.loss.size(), ids.size() - 1);
  ASSERT_EQ(score.divergence.size(), ids.size() - 1);
  size_t same = 0;
  for (size_t i = 0; i + 1 < ids.size(); ++i) {
    double divergence = 0;
    for (size_t v = 0; v < p[i].size(); ++v) divergence += std::exp(p[i][v]) * (p[i][v] - q[i][v]);
    EXPECT_NEAR(score.loss[i], -q[i][static_cast<size_t>(ids[i + 1])], 1e-4);
    EXPECT_NEAR(score.divergence[i], divergence, 1e-4);
    const bool top = std::max_element(p[i].begin(), p[i].end()) - p[i].begin() ==
                     std::max_element(q[i].begin(), q[i].end()) - q[i].begin();
    EXPECT_EQ(score.same_top[i] != 0, top);
    same += top;
    EXPECT_EQ(self.divergence[i], 0);
    EXPECT_EQ(self.same_top[i], 1);
  }
  EXPECT_LT(same, ids.size() - 1);
}

TEST(Learner, IdsOutsideTheVocabularyAreRefused) {
  const ModelPtr model = load_model(kData / "llama_gqa");
  Learner learner(model->spec, nullptr, true);
  EXPECT_THROW(learner.loss(Leaves(*model), std::vector<int32_t>{1, 1 << 20}, 1), Error);
}

TEST(AdamW, FirstStepsByHand) {
  // The first step is rate * sign(g) up to epsilon; gradients above the norm 1 are scaled down, which cancels.
  Tensor x = Tensor::from(std::vector<float>{1, 2}, {2}).requires_grad();
  AdamW optimizer{{}};
  optimizer.add(std::span(&x, 1), 0.1);
  sum(x * Tensor::from(std::vector<float>{3, -4}, {2})).backward();
  EXPECT_NEAR(optimizer.step(0.5), 5, 1e-5);
  EXPECT_NEAR(x.values()[0], 1 - 0.05, 1e-5);
  EXPECT_NEAR(x.values()[1], 2 + 0.05, 1e-5);
  EXPECT_FALSE(static_cast<bool>(x.grad()));
  // Second: clipped gradients (0.6, -0.8) again, so both moments are corrected to those: the same step.
  sum(x * Tensor::from(std::vector<float>{3, -4}, {2})).backward();
  optimizer.step(1);
  EXPECT_NEAR(x.values()[0], 0.95 - 0.1, 1e-5);
  EXPECT_EQ(optimizer.steps(), 2u);
}

TEST(AdamW, WhatIsNotANumberChangesNothing) {
  Tensor x = Tensor::from(std::vector<float>{1}, {1}).requires_grad();
  AdamW optimizer{{}};
  optimizer.add(std::span(&x, 1), 0.1);
  sum(x * std::nan("")).backward();
  EXPECT_FALSE(std::isfinite(optimizer.step(1)));
  EXPECT_EQ(x.values()[0], 1);
  EXPECT_EQ(optimizer.steps(), 0u);
}

TEST(AdamW, GoesOnFromItsState) {
  const auto run = [](bool stopped) {
    Tensor x = Tensor::from(std::vector<float>{1, -2, 3}, {3}).requires_grad();
    auto optimizer = std::make_unique<AdamW>(AdamWOptions{});
    optimizer->add(std::span(&x, 1), 0.01);
    for (int i = 0; i < 8; ++i) {
      if (stopped && i == 4) {
        std::vector<std::vector<float>> state;
        optimizer->visit_state([&](std::span<const float> array) { state.emplace_back(array.begin(), array.end()); });
        EXPECT_EQ(optimizer->state_counts(), (std::vector<uint64_t>{3, 3, 3}));
        const std::vector<std::span<const float>> spans(state.begin(), state.end());
        x = Tensor::from(std::vector<float>{0, 0, 0}, {3}).requires_grad();
        const uint64_t steps = optimizer->steps();
        optimizer = std::make_unique<AdamW>(AdamWOptions{});
        optimizer->add(std::span(&x, 1), 0.01);
        optimizer->restore(spans, steps);
      }
      sum(square(x)).backward();
      optimizer->step(1);
    }
    return x.values();
  };
  EXPECT_EQ(run(true), run(false));
}

}  // namespace
}  // namespace whit
