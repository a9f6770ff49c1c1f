// blockwise: one block at a time learns to give what the original block gives (Block-AP of EfficientQAT, arXiv
// 2407.11062; order = "unit": the tuning of what is still dense between two matrices, as in QuIP#, 2402.04396).
//
//   loss = mean over tokens |y - y'|^2 / |y'|^2
// y: the block's output on the stream that the compressed blocks before it give. y': the original block's output on the
// original's stream (target = "original": the block also makes up for the blocks before it), or on the same compressed
// stream (target = "prefix"). Everything of the block that is stored is trained: codes and signs straight-through,
// factors, scales, norms; with order = "unit" also the matrices that are not quantized yet, which are then quantized as
// they became, on the statistics of what stands before them.
// AdamW (0.9, 0.95) without decay, rates as in math/learning.h, linear warm-up, cosine to 0 over all epochs. Part of
// the calibration windows is held out, and the iterate that is best there is kept (the start is one of them): when
// `patience` epochs in a row have not brought a better one, learning goes on from it with a third of the rates (too
// high ones throw codes of few bits about), and ends when that happens for the third time. We differ from EfficientQAT,
// which trains weights, scales and zero points for two epochs: signs, factors and norms are trained too, the error is
// relative to every token's target, and held-out windows decide when to stop. Needs: for each weight of a block about
// 50 bytes while it is trained; per epoch one forward and backward pass of the block over the calibration windows. No
// GPU, no whole model.
#include <cmath>

#include "methods/math/learning.h"
#include "methods/registry.h"

namespace whit {
namespace {

struct BlockwiseOptions {
  LearningRates rates{0.005, 0.03, 0.005};
  int epochs = 20, patience = 4, batch = 512;
  double held_out = 0.125, warm_up = 0.05;
  std::string target = "original", order = "block";
  template <class V>
  void visit(V& v) {
    rates.visit(v);
    v("epochs", epochs, "passes over the calibration windows, at most", Range{1, 10000});
    v("patience", patience,
      "epochs without a better held-out error after which the rates are cut, the third time a block is done",
      Range{1, 10000});
    v("held_out", held_out, "share of the calibration windows that are not trained on; one at least",
      Range{0.001, 0.9});
    v("batch", batch, "tokens of a step; one window at least", Range{1, 1 << 24});
    v("warm_up", warm_up, "part of the steps over which rates rise", Range{0, 1});
    v("target", target,
      "what a block should give: what the original block gives on the original's stream (original), or on the stream "
      "of "
      "the compressed blocks before it (prefix)",
      Choices{{"original", "prefix"}});
    v("order", order,
      "a block learns when all of its units are quantized (block), or after each of them, the others still dense "
      "(unit)",
      Choices{{"block", "unit"}});
  }
};

constexpr double kLeastRate = 0.05;  // of the rates: two cuts to a third are above it

class Blockwise final : public Reconstructor {
 public:
  explicit Blockwise(const BlockwiseOptions& options) : options_(options) {}
  Json options() const override { return write_options(options_); }
  BlockTask task() const override {
    return {options_.target == "original", options_.order == "unit", options_.held_out,
            static_cast<uint64_t>(options_.batch)};
  }

  Json reconstruct(BlockProblem& problem) const override {
    const uint64_t epochs = static_cast<uint64_t>(options_.epochs), steps = problem.steps() * epochs;
    const double first = finite_loss(problem.held_out(), "the block's held-out error at the start", problem.name());
    problem.keep();
    double best = first, rate = 1;
    AdamW optimizer = optimizer_for(problem, rate);
    uint64_t step = 0, epoch = 0;
    for (int stale = 0; epoch < epochs; ++epoch) {
      if (stale == options_.patience) {
        rate /= 3;
        if (rate < kLeastRate) break;
        problem.back();
        optimizer = optimizer_for(problem, rate);
        stale = 0;
      }
      for (uint64_t i = 0; i < problem.steps(); ++i, ++step) {
        const double loss = problem.step(step);
        const double norm = optimizer.step(cosine_schedule(step, steps, options_.warm_up));
        if (!std::isfinite(loss) || !std::isfinite(norm)) name_the_culprit(problem.parameters(), problem.name());
      }
      const double now = finite_loss(problem.held_out(), "the block's held-out error", problem.name());
      ++stale;
      if (now >= best) continue;
      best = now;
      stale = 0;
      problem.keep();
    }
    problem.back();
    return {{"epochs", epoch}, {"held_out_start", first}, {"held_out", best}};
  }

 private:
  AdamW optimizer_for(BlockProblem& problem, double rate) const {
    AdamW optimizer{{}};
    add_leaves(problem.parameters(), options_.rates, rate, 1, optimizer);
    return optimizer;
  }

  BlockwiseOptions options_;
};

}  // namespace

WHIT_DEFINE_METHOD(reconstruct, blockwise, Blockwise, BlockwiseOptions)

}  // namespace whit
