// distill on a problem small enough to see through: one leaf that should become a target.
#include <gtest/gtest.h>

#include <cmath>

#include "methods/stages.h"

namespace whit {
namespace {

class Toy : public TuneProblem {
 public:
  explicit Toy(uint64_t steps) : steps_(steps) { restart(); }
  std::vector<ParameterGroup> parameters() override { return {{"codes", {x_}, "the unit", false}}; }
  uint64_t steps() const override { return steps_; }
  LossParts step(uint64_t number, double hidden) override {
    EXPECT_EQ(hidden, 10);
    if (number == explode_at) {
      sum(x_ * std::nan("")).backward();
      return {1, 0, 1};
    }
    const Tensor loss = sum(square(x_ - Tensor::from(kTarget, {4})));
    loss.backward();
    ++seen;
    return {loss.item(), 0, 1};
  }
  int most_looks() const override { return looks; }
  double held_out() override {
    ++looked;
    if (stuck) return 5;
    const NoGrad guard;
    return sum(square(x_ - Tensor::from(kTarget, {4}))).item();
  }
  void keep() override { kept = x_.values(); }
  void restart() override {
    x_ = Tensor::from(std::vector<float>{0, 1, 2, 3}, {4}).requires_grad();
    ++restarts;
  }
  void checkpoint(uint64_t step, const Json& state, const AdamW& optimizer) override {
    if (step != stop_at) return;
    state_ = state;
    optimizer.visit_state([&](std::span<const float> values) { moments_.emplace_back(values.begin(), values.end()); });
    optimizer_steps_ = optimizer.steps();
    throw Error(ErrorKind::interrupted, "stopped");
  }
  std::optional<Json> resume(AdamW& optimizer) override {
    if (state_.is_null()) return std::nullopt;
    const std::vector<std::span<const float>> spans(moments_.begin(), moments_.end());
    optimizer.restore(spans, optimizer_steps_);
    return state_;
  }
  void progress(uint64_t, const LossParts&, double) override {}
  void note(const std::string& text) override { notes += text; }

  static const std::vector<float> kTarget;
  bool stuck = false;
  uint64_t explode_at = ~uint64_t{0}, stop_at = 0;
  int restarts = -1, seen = 0, looks = 1 << 20, looked = 0;
  std::vector<float> kept;
  std::string notes;

 private:
  uint64_t steps_;
  Tensor x_;
  Json state_;
  std::vector<std::vector<float>> moments_;
  uint64_t optimizer_steps_ = 0;
};
const std::vector<float> Toy::kTarget = {0.5f, 0.5f, 2.5f, 3.0f};

TEST(Distill, DescendsAndKeepsTheBest) {
  Toy toy(200);
  const Json report = make_tuner("distill", Json::object())->tune(toy);
  EXPECT_EQ(toy.seen, 200);
  EXPECT_LT(report.at("held_out").get<double>(), 0.1 * report.at("held_out_start").get<double>());
  EXPECT_EQ(report.at("restarts"), 0);
  double distance = 0;
  for (size_t i = 0; i < 4; ++i) distance += std::pow(toy.kept[i] - Toy::kTarget[i], 2);
  EXPECT_NEAR(distance, report.at("held_out").get<double>(), 1e-6);
}

TEST(Distill, LooksNoMoreOftenThanTheTimeAllows) {
  Toy free(200), hurried(200);
  hurried.looks = 3;
  const auto tuner = make_tuner("distill", Json::object());
  tuner->tune(free);
  tuner->tune(hurried);
  EXPECT_EQ(free.looked, tuner->looks());
  EXPECT_EQ(hurried.looked, 3);
}

TEST(Distill, APlateauStartsAgainWithLowerRates) {
  Toy toy(200);
  toy.stuck = true;
  const Json report = make_tuner("distill", Json::object())->tune(toy);
  EXPECT_GE(report.at("restarts").get<int>(), 1);
  EXPECT_EQ(toy.restarts, report.at("restarts").get<int>());
  EXPECT_EQ(toy.seen, 200) << "inside the same budget";
  EXPECT_NE(toy.notes.find("a third of the rates"), std::string::npos);
}

TEST(Distill, ExplosionsNameTheUnit) {
  Toy toy(20);
  toy.explode_at = 7;
  try {
    make_tuner("distill", Json::object())->tune(toy);
    FAIL();
  } catch (const Error& error) {
    EXPECT_EQ(error.kind(), ErrorKind::numeric);
    EXPECT_EQ(error.where(), "the unit");
  }
}

TEST(Distill, GoesOnWhereItStopped) {
  Toy whole(60), stopped(60);
  const auto tuner = make_tuner("distill", Json::object());
  const Json report = tuner->tune(whole);
  for (const uint64_t at : {6u, 31u}) {
    stopped.stop_at = at;
    EXPECT_THROW(tuner->tune(stopped), Error);
    stopped.stop_at = 0;
    stopped.restart();  // as a new process begins
    const Json resumed = tuner->tune(stopped);
    EXPECT_EQ(resumed.dump(), report.dump()) << at;
    EXPECT_EQ(stopped.kept, whole.kept) << at;
    stopped = Toy(60);
  }
}

TEST(Distill, NoRateNoChange) {
  Toy toy(10);
  const Json report = make_tuner("distill", {{"codes", 0}})->tune(toy);
  EXPECT_EQ(report.at("held_out"), report.at("held_out_start"));
}

}  // namespace
}  // namespace whit
