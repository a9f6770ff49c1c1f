// distill: the whole compressed model learns the original's predictions (LittleBit, arXiv 2506.13771, section 3.3, names the
// loss; rates, batch sizes and the guard are our own measurements, docs/design/tune.md).
//
//   loss = KL(original || model), nats per position, all positions + hidden * mean over blocks |h - h'|^2 / |h'|^2
// or, without an original, cross-entropy of the text. Codes and signs pass gradients straight through; everything that is
// stored is trained. AdamW (0.9, 0.95) without decay, gradients clipped at norm 1, linear warm-up, cosine to 0, rates
// relative to what they move (math/learning.h).
// Too high a rate throws a model of few bits on a plateau from which it does not come back within the budget. So the loss
// on held-out text is watched: when over a fifth of the run it has not fallen and is still above half of where it began,
// everything starts again with a third of the rates, inside the same budget.
// Needs: one forward and backward pass a batch; 12 bytes for each learned number (value, two moments) and its gradient.
#include <algorithm>
#include <cmath>

#include "methods/math/learning.h"
#include "methods/registry.h"

namespace whit {
namespace {

struct DistillOptions {
  LearningRates rates;
  double embedding = 1.0, hidden = 10, warm_up = 0.05;
  int evaluations = 10;
  template <class V>
  void visit(V& v) {
    rates.visit(v);
    v("embedding", embedding, "factor on the rates of the embedding's codes and factors", Range{0, 10});
    v("hidden", hidden, "weight of the blocks' relative squared error", Range{0, 1e6});
    v("warm_up", warm_up, "part of the steps over which rates rise", Range{0, 1});
    v("evaluations", evaluations, "how often the held-out text is looked at", Range{1, 1000});
  }
};

// Where a run stands, besides the optimizer.
struct Run {
  double rate = 1;          // what guards have left of the rates
  uint64_t begun = 0;       // the step at which this attempt began
  int64_t restarts = 0;
  double first = 0;         // held-out loss at the very start
  double best = 0;
  std::vector<double> seen;  // held-out losses of this attempt
  template <class V>
  void visit(V& v) {
    v("rate", rate, "", Range{0, 1});
    v("restarts", restarts, "", Range{0, 1000});
    v("first", first, "", Range{0, 1e30});
    v("best", best, "", Range{0, 1e30});
  }
};

class Distill final : public Tuner {
 public:
  explicit Distill(const DistillOptions& options) : options_(options) {}
  Json options() const override { return write_options(options_); }
  int looks() const override { return options_.evaluations + 1; }
  // A twentieth of the steps is warm-up: of fewer than these not one.
  uint64_t least_steps() const override { return 20; }

  Json tune(TuneProblem& problem) const override {
    const uint64_t steps = problem.steps();
    AdamW optimizer{{}};
    start(problem, optimizer, 1);
    Run run;
    uint64_t step = 0;
    if (const auto state = problem.resume(optimizer)) {
      step = state->at("step").get<uint64_t>();
      run.begun = state->at("begun").get<uint64_t>();
      run.seen = state->at("seen").get<std::vector<double>>();
      Json rest = *state;
      for (const char* key : {"step", "begun", "seen"}) rest.erase(key);
      read_options(run, rest, "checkpoint");
      if (run.rate != 1) {
        // The rates are the optimizer's own; its state came back with the leaves.
        optimizer.scale_rates(run.rate);
      }
    } else {
      run.first = run.best = finite_loss(problem.held_out(), "the held-out loss of the start", "tune");
      run.seen = {run.first};
      problem.keep();
    }
    const int evaluations = std::max(1, std::min(options_.evaluations, problem.most_looks() - 1));
    const uint64_t between = std::max<uint64_t>(1, steps / static_cast<uint64_t>(evaluations));
    while (step < steps) {
      const LossParts loss = problem.step(step, options_.hidden);
      const double norm = optimizer.step(cosine_schedule(step - run.begun, steps - run.begun, options_.warm_up));
      if (!std::isfinite(loss.main) || !std::isfinite(loss.hidden) || !std::isfinite(norm))
        name_the_culprit(problem.parameters(), "tune");
      ++step;
      problem.progress(step, loss, run.seen.back());
      if (step % between == 0 || step == steps) {
        run.seen.push_back(finite_loss(problem.held_out(), "the held-out loss", "tune"));
        if (run.seen.back() < run.best) {
          run.best = run.seen.back();
          problem.keep();
        }
        if (on_plateau(run, step, steps, evaluations)) {
          ++run.restarts;
          run.rate /= 3;
          problem.note("the held-out loss stays at " + std::to_string(run.seen.back()) +
                       ": once more from the start with a third of the rates");
          problem.restart();
          optimizer = AdamW{{}};
          start(problem, optimizer, run.rate);
          run.begun = step;
          run.seen = {run.first};
        }
      }
      Json state = write_options(run);
      state["step"] = step;
      state["begun"] = run.begun;
      state["seen"] = run.seen;
      problem.checkpoint(step, state, optimizer);
    }
    return {{"steps", steps},
            {"held_out_start", run.first},
            {"held_out", run.best},
            {"restarts", run.restarts}};
  }

 private:
  void start(TuneProblem& problem, AdamW& optimizer, double rate) const {
    add_leaves(problem.parameters(), options_.rates, rate, options_.embedding, optimizer);
  }

  // Looked for in the first three fifths of the attempt only: later the rates are low and the loss is flat by design.
  static bool on_plateau(const Run& run, uint64_t step, uint64_t steps, int evaluations) {
    const auto window = static_cast<size_t>(std::max(1, evaluations / 5));
    if (run.seen.size() <= 2 * window || (step - run.begun) * 5 > (steps - run.begun) * 3) return false;
    const double now = run.seen.back(), before = run.seen[run.seen.size() - 1 - window];
    return now > 0.5 * run.first && now > 0.98 * before;
  }

  DistillOptions options_;
};

}  // namespace

WHIT_DEFINE_METHOD(tune, distill, Distill, DistillOptions)

}  // namespace whit
