// blockwise on a problem small enough to see through: one leaf that should become a target.
#include <gtest/gtest.h>

#include <cmath>

#include "methods/stages.h"

namespace whit {
namespace {

class Toy final : public BlockProblem {
 public:
  Toy() : x_(Tensor::from(std::vector<float>{0, 1, 2, 3}, {4}).requires_grad()) {}
  std::string name() const override { return "blk.7"; }
  std::vector<ParameterGroup> parameters() override { return {{"codes", {x_}, "blk.7.the_unit", false}}; }
  uint64_t steps() const override { return 4; }
  double step(uint64_t number) override {
    EXPECT_EQ(number, seen++) << "steps are counted on over the epochs";
    const Tensor loss = sum(square(x_ - Tensor::from(kTarget, {4})));
    (number == explode_at ? sum(x_ * std::nan("")) : loss).backward();
    return loss.item();
  }
  double held_out() override {
    const NoGrad guard;
    const double error = sum(square(x_ - Tensor::from(kTarget, {4}))).item();
    if (looks++ < looks_that_fall) return error;
    return broken ? std::nan("") : error + 1e3 + static_cast<double>(looks);
  }
  void keep() override {
    kept = x_.values();
    kept_at = looks;
  }

  void back() override {
    x_.assign(Tensor::from(kept, {4}));
    backs.push_back(looks);
  }
  std::vector<float> values() const { return x_.values(); }

  static const std::vector<float> kTarget;
  std::vector<int> backs;  // looks after which it went back
  uint64_t seen = 0, explode_at = ~uint64_t{0};
  int looks = 0, looks_that_fall = 1 << 30, kept_at = 0;
  bool broken = false;
  std::vector<float> kept;

 private:
  Tensor x_;
};
const std::vector<float> Toy::kTarget = {0.5f, 0.5f, 2.5f, 3.0f};

TEST(Blockwise, DescendsAndKeepsTheBest) {
  Toy toy;
  const Json report = make_reconstructor("blockwise", {{"epochs", 60}, {"patience", 60}})->reconstruct(toy);
  EXPECT_EQ(report.at("epochs"), 60);
  EXPECT_EQ(toy.seen, 240u);
  EXPECT_LT(report.at("held_out").get<double>(), 0.1 * report.at("held_out_start").get<double>());
  double distance = 0;
  for (size_t i = 0; i < 4; ++i) distance += std::pow(toy.values()[i] - Toy::kTarget[i], 2);
  EXPECT_NEAR(distance, report.at("held_out").get<double>(), 1e-6) << "the best values are left behind";
}

TEST(Blockwise, HeldOutErrorDecidesWhenToStop) {
  Toy toy;
  toy.looks_that_fall = 6;  // the start and five epochs
  const Json report = make_reconstructor("blockwise", {{"epochs", 60}, {"patience", 4}})->reconstruct(toy);
  EXPECT_EQ(report.at("epochs"), 5 + 3 * 4) << "patience, and twice more with lower rates";
  EXPECT_EQ(toy.kept_at, 6) << "the last that was better";
  EXPECT_EQ(toy.backs, (std::vector<int>{10, 14, 18}));
  EXPECT_EQ(toy.values(), toy.kept);
  EXPECT_LT(report.at("held_out").get<double>(), 1e3);
}

TEST(Blockwise, WhatLearningSpoilsStaysAsItWas) {
  Toy toy;
  toy.looks_that_fall = 1;
  const Json report = make_reconstructor("blockwise", {{"patience", 2}})->reconstruct(toy);
  EXPECT_EQ(report.at("epochs"), 6);
  EXPECT_EQ(report.at("held_out"), report.at("held_out_start"));
  EXPECT_EQ(toy.values(), (std::vector<float>{0, 1, 2, 3}));
}

TEST(Blockwise, ExplosionsNameTheUnit) {
  Toy toy;
  toy.explode_at = 7;
  try {
    make_reconstructor("blockwise", Json::object())->reconstruct(toy);
    FAIL();
  } catch (const Error& error) {
    EXPECT_EQ(error.kind(), ErrorKind::numeric);
    EXPECT_EQ(error.where(), "blk.7.the_unit");
  }
  Toy broken;
  broken.broken = true;
  broken.looks_that_fall = 0;
  try {
    make_reconstructor("blockwise", Json::object())->reconstruct(broken);
    FAIL();
  } catch (const Error& error) {
    EXPECT_EQ(error.kind(), ErrorKind::numeric);
    EXPECT_EQ(error.where(), "blk.7");
  }
}

TEST(Blockwise, SaysWhatItWantsOfThePipeline) {
  const BlockTask usual = make_reconstructor("blockwise", Json::object())->task();
  EXPECT_TRUE(usual.original_targets);
  EXPECT_FALSE(usual.unit_by_unit);
  const BlockTask other =
      make_reconstructor("blockwise", {{"target", "prefix"}, {"order", "unit"}, {"batch", 64}, {"held_out", 0.25}})
          ->task();
  EXPECT_FALSE(other.original_targets);
  EXPECT_TRUE(other.unit_by_unit);
  EXPECT_EQ(other.batch, 64u);
  EXPECT_EQ(other.held_out, 0.25);
}

}  // namespace
}  // namespace whit
