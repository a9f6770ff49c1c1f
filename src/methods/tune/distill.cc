// distill: the whole compressed model learns the original's predictions (LittleBit, arXiv 2506.13771, section 3.3, names the
// loss; rates, batch sizes and the guard are our own measurements, docs/design/tune.md).
//
//   loss = KL(original || model), nats per position, all positions + hidden * mean over blocks |h - h'|^2 / |h'|^2
// or, without an original, cross-entropy of the text. Codes and signs pass gradients straight through; everything that is
// stored is trained. AdamW (0.9, 0.95) without decay, gradients clipped at norm 1, linear warm-up, cosine to 0. Rates are
// relative to what they move: a code's rate to the standard deviation of its tensor in steps, a factor's to the mean
// magnitude of the latents, a scale's to itself (scales are learned as exponents).
// Too high a rate throws a model of few bits on a plateau from which it does not come back within the budget. So the loss
// on held-out text is watched: when over a fifth of the run it has not fallen and is still above half of where it began,
// everything starts again with a third of the rates, inside the same budget.
// Needs: one forward and backward pass a batch; 12 bytes for each learned number (value, two moments) and its gradient.
#include <algorithm>
#include <cmath>
#include <numbers>

#include "methods/registry.h"

namespace whit {
namespace {

struct DistillOptions {
  double codes = 0.005, factors = 0.03, scales = 0.002, embedding = 1.0;
  double hidden = 10, warm_up = 0.05;
  int evaluations = 10;
  template <class V>
  void visit(V& v) {
    v("codes", codes, "learning rate of codes, relative to the spread of their tensor", Range{0, 1});
    v("factors", factors, "learning rate of sign factors, relative to their mean magnitude", Range{0, 10});
    v("scales", scales, "learning rate of scales and norms, relative", Range{0, 1});
    v("embedding", embedding, "factor on the rates of the embedding's codes and factors", Range{0, 10});
    v("hidden", hidden, "weight of the blocks' relative squared error", Range{0, 1e6});
    v("warm_up", warm_up, "part of the steps over which rates rise", Range{0, 1});
    v("evaluations", evaluations, "how often the held-out text is looked at", Range{1, 1000});
  }
};

double spread(const Tensor& leaf) {
  const NoGrad guard;
  const Tensor all = mean(leaf);
  return std::sqrt(std::max(0.0, mean(square(leaf - all)).item()));
}

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

  Json tune(TuneProblem& problem) const override {
    const uint64_t steps = problem.steps();
    AdamW optimizer{{}};
    add_leaves(problem, optimizer, 1);
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
      run.first = run.best = finite(problem.held_out(), "the held-out loss of the start");
      run.seen = {run.first};
      problem.keep();
    }
    const uint64_t between = std::max<uint64_t>(1, steps / static_cast<uint64_t>(options_.evaluations));
    while (step < steps) {
      const LossParts loss = problem.step(step, options_.hidden);
      const double norm = optimizer.step(schedule(step - run.begun, steps - run.begun));
      if (!std::isfinite(loss.main) || !std::isfinite(loss.hidden) || !std::isfinite(norm)) name_the_culprit(problem);
      ++step;
      problem.progress(step, loss, run.seen.back());
      if (step % between == 0 || step == steps) {
        run.seen.push_back(finite(problem.held_out(), "the held-out loss"));
        if (run.seen.back() < run.best) {
          run.best = run.seen.back();
          problem.keep();
        }
        if (on_plateau(run, step, steps)) {
          ++run.restarts;
          run.rate /= 3;
          problem.note("the held-out loss stays at " + std::to_string(run.seen.back()) +
                       ": once more from the start with a third of the rates");
          problem.restart();
          optimizer = AdamW{{}};
          add_leaves(problem, optimizer, run.rate);
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
  void add_leaves(TuneProblem& problem, AdamW& optimizer, double rate) const {
    for (const ParameterGroup& group : problem.parameters()) {
      const double place = group.embedding ? options_.embedding : 1.0;
      for (const Tensor& leaf : group.tensors) {
        double relative = options_.scales;
        if (group.kind == "codes") relative = options_.codes * place * spread(leaf);
        if (group.kind == "factors") relative = options_.factors * place;
        optimizer.add(std::span(&leaf, 1), rate * relative);
      }
    }
  }

  double schedule(uint64_t step, uint64_t steps) const {
    const double done = static_cast<double>(step), all = static_cast<double>(steps);
    const double warm = std::max(1.0, options_.warm_up * all);
    return std::min(1.0, (done + 1) / warm) * 0.5 * (1 + std::cos(std::numbers::pi * done / all));
  }

  // Looked for in the first three fifths of the attempt only: later the rates are low and the loss is flat by design.
  bool on_plateau(const Run& run, uint64_t step, uint64_t steps) const {
    const auto window = static_cast<size_t>(std::max(1, options_.evaluations / 5));
    if (run.seen.size() <= 2 * window || (step - run.begun) * 5 > (steps - run.begun) * 3) return false;
    const double now = run.seen.back(), before = run.seen[run.seen.size() - 1 - window];
    return now > 0.5 * run.first && now > 0.98 * before;
  }

  static double finite(double loss, const char* what) {
    if (!std::isfinite(loss))
      throw Error(ErrorKind::numeric, std::string(what) + " is not a finite number", "tune", "", "smaller rates");
    return loss;
  }

  // After a step whose loss or gradient was not finite: says which leaf shows it.
  [[noreturn]] static void name_the_culprit(TuneProblem& problem) {
    for (const ParameterGroup& group : problem.parameters())
      for (const Tensor& leaf : group.tensors)
        for (const Tensor& seen : {leaf, leaf.grad()})
          if (seen && !std::isfinite(sum(seen).item()))
            throw Error(ErrorKind::numeric, "training ran into a number that is not finite", group.unit, group.kind,
                        "smaller rates");
    throw Error(ErrorKind::numeric, "the loss is not a finite number", "tune", "", "smaller rates");
  }

  DistillOptions options_;
};

}  // namespace

WHIT_DEFINE_METHOD(tune, distill, Distill, DistillOptions)

}  // namespace whit
