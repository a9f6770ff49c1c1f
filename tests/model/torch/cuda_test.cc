// What runs on a CUDA device against the same on the CPU. Label cuda: no other machine has it; preset cuda alone builds it.
#include <gtest/gtest.h>

#include <cmath>
#include <numeric>

#include "base/error.h"
#include "base/rng.h"
#include "calibrate/statistics.h"
#include "model/torch/leaves.h"
#include "model/torch/adamw.h"
#include "model/torch/device.h"

namespace whit {
namespace {

const std::filesystem::path kData = std::filesystem::path(WHIT_TESTS_DIR) / "data";

// A student whose down projections are looked up by indices, as binary groups are: its rows, turned round twice.
class LookedUp final : public WeightSource {
 public:
  LookedUp(const Model& model, float noise) : leaves_(model, noise) {
    std::vector<int64_t> order(model.spec.width);
    std::iota(order.rbegin(), order.rend(), 0);
    reverse_ = Indices(order);
  }
  LearnedWeights block(uint64_t index) const override {
    LearnedWeights weights = leaves_.block(index);
    for (auto& [name, weight] : weights)
      if (name.find("ffn_down") != std::string::npos) weight = rows(rows(weight, reverse_), reverse_);
    return weights;
  }
  LearnedWeights ends() const override { return leaves_.ends(); }
  std::vector<Tensor> leaves() const override { return leaves_.leaves(); }

 private:
  Leaves leaves_;
  Indices reverse_;
};

// Everything below runs once on each device; the device is set once and for all, so the CPU's turn comes first.
struct Outcome {
  LossParts parts, first, again;
  std::vector<std::vector<float>> gradients;
  std::map<std::string, Matrix> grams;
  Matrix stream;
  std::vector<float> solved;
};

Outcome outcome_of(const Model& model) {
  Outcome out;
  const std::vector<int32_t> ids = some_ids(4 * 64);
  {
    const LookedUp student(model, 0.2f);
    Learner learner(model.spec, &model, false);
    out.parts = learner.step(student, ids, 4, 10);
    for (const Tensor& leaf : student.leaves()) out.gradients.push_back(leaf.grad() ? leaf.grad().values() : std::vector<float>());
    // The same step again and again: on CUDA it is recorded and replayed.
    for (int i = 0; i < 6; ++i) {
      for (Tensor leaf : student.leaves()) leaf.clear_grad();
      out.again = learner.step(student, ids, 4, 10);
      if (i == 0) out.first = out.again;
    }
  }
  Activations stream{4, 64, embed(model, ids, 64)};
  Grams grams;
  run_block(model.spec, 0, load_block(model, 0), stream, grams.hook());
  for (const char* kind : {"attn_qkv", "attn_output", "ffn_gate_up", "ffn_down"}) out.grams[kind] = grams.mean(kind).gram;
  out.stream = stream.values;
  out.solved.resize(20);
  side_by_side(20, [&](size_t i) {
    const NoGrad guard;
    Rng rng(i);
    Matrix a(32, 32);
    for (float& x : a.data) x = static_cast<float>(rng.normal());
    const Tensor half = Tensor::from(a), system = matmul(half, transpose(half)) + identity(32);
    out.solved[i] = static_cast<float>(sum(solve_spd(system, half)).item());
  });
  return out;
}

double relative_difference(std::span<const float> a, std::span<const float> b) {
  double difference = 0, size = 0;
  for (size_t i = 0; i < a.size(); ++i) {
    difference += std::pow(static_cast<double>(a[i]) - b[i], 2);
    size += std::pow(static_cast<double>(b[i]), 2);
  }
  return std::sqrt(difference / std::max(size, 1e-30));
}

TEST(Cuda, ComputesWhatTheCpuComputes) {
  for (const char* name : {"models/stories260K.gguf", "llama_gqa"}) {
    const ModelPtr model = load_model(kData / name);
    set_learning_device("cpu");
    const Outcome cpu = outcome_of(*model);
    set_learning_device("cuda");
    const Outcome cuda = outcome_of(*model);
    // bfloat16 has 8 bits; what is compared has gone through some twenty roundings.
    EXPECT_NEAR(cuda.parts.main, cpu.parts.main, 0.03 * cpu.parts.main) << name;
    EXPECT_NEAR(cuda.parts.hidden, cpu.parts.hidden, 0.03 * cpu.parts.hidden) << name;
    EXPECT_GT(cpu.parts.main, 1e-3) << name;
    EXPECT_NEAR(cuda.again.main, cuda.first.main, 1e-3 * cuda.first.main) << name << ": a replayed step";
    ASSERT_EQ(cuda.gradients.size(), cpu.gradients.size());
    for (size_t i = 0; i < cpu.gradients.size(); ++i) {
      ASSERT_EQ(cuda.gradients[i].size(), cpu.gradients[i].size()) << name << ", leaf " << i;
      EXPECT_LT(relative_difference(cuda.gradients[i], cpu.gradients[i]), 0.1) << name << ", leaf " << i;
    }
    for (const auto& [kind, gram] : cpu.grams)
      EXPECT_LT(relative_difference(cuda.grams.at(kind).data, gram.data), 1e-4) << name << ", " << kind;
    EXPECT_LT(relative_difference(cuda.stream.data, cpu.stream.data), 1e-4) << name;
    EXPECT_LT(relative_difference(cuda.solved, cpu.solved), 1e-3) << name;
  }
}

TEST(Cuda, AnErrorInOneOfManyThreadsIsThrownOn) {
  set_learning_device("cuda");
  EXPECT_THROW(side_by_side(50, [](size_t i) {
                 if (i == 17) throw Error(ErrorKind::numeric, "this one fails", "unit 17");
               }),
               Error);
}

}  // namespace
}  // namespace whit
