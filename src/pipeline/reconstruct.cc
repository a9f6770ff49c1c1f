#include "pipeline/reconstruct.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>

#include "base/rng.h"
#include "pipeline/pause.h"

namespace whit {
namespace {

// Windows that are held out, spread evenly over the text: at least one, and one at least is left.
uint64_t held_out_count(uint64_t windows, double share) {
  const auto wanted = static_cast<uint64_t>(std::llround(share * static_cast<double>(windows)));
  return std::clamp<uint64_t>(wanted, 1, windows - 1);
}

class Problem final : public BlockProblem {
 public:
  explicit Problem(const BlockJob& job) : job_(job), student_(job.model, job.units, job.start, job.vectors, job.block) {
    const BlockTask task = job.method.task();
    const uint64_t windows = job.inputs.sequences, out = held_out_count(windows, task.held_out);
    for (uint64_t i = 0; i < windows; ++i)
      ((i + 1) * out / windows > i * out / windows ? held_out_ : train_).push_back(i);
    at_once_ = std::max<uint64_t>(1, task.batch / job.inputs.length);
  }

  std::string name() const override { return fmt::format("blk.{}", job_.block); }
  std::vector<ParameterGroup> parameters() override { return student_.parameters(); }
  uint64_t steps() const override { return (train_.size() + at_once_ - 1) / at_once_; }

  double step(uint64_t number) override {
    pause_point(job_.progress);
    const uint64_t epoch = number / steps(), first = number % steps() * at_once_;
    if (order_.empty() || epoch != epoch_) {
      order_ = shuffled(train_.size(), Rng((job_.seed * 7919 + job_.block) * 7919 + epoch));
      epoch_ = epoch;
    }
    std::vector<size_t> windows;
    for (uint64_t i = first; i < std::min<uint64_t>(first + at_once_, train_.size()); ++i)
      windows.push_back(train_[order_[i]]);
    const Tensor loss = error(windows);
    loss.backward();
    return loss.item();
  }

  double held_out() override {
    const NoGrad guard;
    double sum = 0;
    for (size_t first = 0; first < held_out_.size(); first += at_once_) {
      const size_t count = std::min<size_t>(at_once_, held_out_.size() - first);
      sum += error(std::span(held_out_).subspan(first, count)).item() * static_cast<double>(count);
    }
    return sum / static_cast<double>(held_out_.size());
  }

  void keep() override {
    best_.clear();
    for (const Tensor& leaf : student_.leaves()) best_.push_back(leaf.values());
  }
  void back() override {
    size_t next = 0;
    for (Tensor leaf : student_.leaves()) {
      leaf.assign(Tensor::from(best_.at(next++), leaf.shape()));
      leaf.clear_grad();
    }
  }

  uint64_t numbers() const { return student_.count(); }
  Encoded encode() const { return student_.encode(job_.latents); }

 private:
  // Mean over the tokens of these windows of |y - y'|^2 / |y'|^2.
  Tensor error(std::span<const size_t> windows) const {
    const Tensor x = rows(job_.inputs.values, windows), target = rows(job_.targets, windows);
    const Tensor y = block_forward(job_.model.spec, job_.block, student_.block(job_.block), x, windows.size());
    return mean(sum(square(y - target), 1, true) / clamp(sum(square(target), 1, true), 1e-12, 1e30));
  }

  Tensor rows(const Matrix& stream, std::span<const size_t> windows) const {
    const size_t length = job_.inputs.length;
    Matrix some(windows.size() * length, stream.cols);
    for (size_t i = 0; i < windows.size(); ++i)
      std::copy_n(stream.row(windows[i] * length), length * stream.cols, some.row(i * length));
    return Tensor::from(some);
  }

  const BlockJob& job_;
  Student student_;
  std::vector<size_t> train_, held_out_, order_;
  uint64_t at_once_ = 1, epoch_ = 0;
  std::vector<std::vector<float>> best_;  // leaves
};

}  // namespace

ReconstructedBlock reconstruct_block(const BlockJob& job) {
  Problem problem(job);
  const SerialWhereFew serial(problem.numbers());
  Json report = job.method.reconstruct(problem);
  return {problem.encode(), std::move(report)};
}

void check_reconstruct(const BlockTask& task, const CalibrateOptions& calibrate) {
  if (calibrate.tokens < 2 * calibrate.context)
    throw Error(ErrorKind::usage, "a block learns from some calibration windows while others are held out",
                "calibrate: tokens", fmt::format("{} tokens are one window of {}", calibrate.tokens, calibrate.context),
                "more tokens or a shorter context");
  if (task.unit_by_unit && calibrate.prefix == "original")
    throw Error(ErrorKind::usage,
                "a block that learns unit by unit has statistics of what became of it, not of the original's inputs",
                "calibrate: prefix", calibrate.prefix, "prefix = \"compressed\", or order = \"block\"");
}

uint64_t reconstruct_bytes(const Model& model, const Plan& plan, const CalibrateOptions& calibrate,
                           const BlockTask& task) {
  const ModelSpec& spec = model.spec;
  const auto tokens = static_cast<uint64_t>(calibrate.tokens), context = static_cast<uint64_t>(calibrate.context);
  uint64_t most = 0;
  for (uint64_t block = 0; block < spec.layers; ++block) {
    uint64_t weights = 0, leaves = 0, packed = 0;
    for (const UnitPlan& unit : plan.units) {
      if (unit.unit.block != static_cast<int64_t>(block)) continue;
      weights += unit.unit.rows * unit.unit.cols;
      packed += unit.bytes;
      if (!unit.copied) leaves += learned_numbers(unit);
    }
    // A leaf, its gradient, two moments, its start or its best latents; the block's weights as they were, as they are
    // to be stored, as they are shown with what the graph keeps of the way there, and their gradient.
    most = std::max(most, 20 * leaves + 32 * weights + 2 * packed);
  }
  const uint64_t batch = std::max(task.batch / context, uint64_t{1}) * context;
  return most + 3 * tokens * spec.width * sizeof(float) + 2 * block_graph_bytes(spec, batch);
}

}  // namespace whit
