#include <gtest/gtest.h>

#include <algorithm>
#include <limits>

#include "base/error.h"
#include "model/torch/executor.h"
#include "model/torch/learn.h"
#include "model/torch/random_block.h"

namespace whit {
namespace {

class Blocks : public ::testing::TestWithParam<std::tuple<BlockCase, int>> {
 protected:
  void SetUp() override { set_torch_threads(std::get<1>(GetParam())); }
  const ModelSpec& spec() const { return std::get<0>(GetParam()).spec; }
};

TEST_P(Blocks, ForwardAgreesWithTheFormulas) {
  const DenseWeights weights = random_block(spec(), 1, 7);
  for (const size_t length : {1, 3, 129, 300}) {  // 129 and 300 cross the blocks of queries
    Activations a = random_activations(length > 100 ? 1 : 3, length, spec().width, length);
    const Activations before = a;
    run_block(spec(), 1, weights, a, {});
    for (size_t s = 0; s < a.sequences; ++s) {
      const float* first = before.values.row(s * length);
      const std::vector<double> expected =
          reference_block(spec(), 1, weights, std::vector<double>(first, first + length * spec().width));
      for (size_t i = 0; i < expected.size(); ++i)
        ASSERT_NEAR(a.values.row(s * length)[i], expected[i], 2e-5) << "length " << length << " element " << i;
    }
  }
}

TEST_P(Blocks, DifferentiableFormAgreesWithThePlainOne) {
  const DenseWeights weights = random_block(spec(), 0, 8);
  Activations a = random_activations(2, 140, spec().width, 9);
  LearnedWeights tensors;
  for (const auto& [name, m] : weights) tensors.emplace(name, Tensor::from(m));
  const Matrix learned = block_forward(spec(), 0, tensors, Tensor::from(a.values), 2).matrix();
  run_block(spec(), 0, weights, a, {});
  for (size_t i = 0; i < learned.data.size(); ++i) ASSERT_NEAR(learned.data[i], a.values.data[i], 2e-5);
}

// loss = sum of g * output, so d loss / d output = g
double loss_of(const ModelSpec& spec, const DenseWeights& weights, const Activations& x, const Activations& g) {
  double loss = 0;
  for (size_t s = 0; s < x.sequences; ++s) {
    const float* first = x.values.row(s * x.length);
    const std::vector<double> y =
        reference_block(spec, 0, weights, std::vector<double>(first, first + x.length * spec.width));
    for (size_t i = 0; i < y.size(); ++i) loss += y[i] * g.values.row(s * x.length)[i];
  }
  return loss;
}

TEST_P(Blocks, GradientsAgreeWithFiniteDifferences) {
  if (spec().activation == Activation::relu) GTEST_SKIP() << "finite differences step over its corners";
  DenseWeights weights = random_block(spec(), 0, 11);
  const size_t length = 9;
  Activations x = random_activations(2, length, spec().width, 12);
  const Activations g = random_activations(2, length, spec().width, 13);
  std::map<std::string, Matrix> unit_gradients, unit_inputs;
  const Activations dx = backward_block(spec(), 0, weights, x, g, [&](const std::string& kind, MatrixView rows) {
    ASSERT_FALSE(unit_gradients.contains(kind)) << "two sequences of 9 are one chunk";
    Matrix m(rows.rows, rows.cols);
    for (size_t t = 0; t < rows.rows; ++t) std::copy_n(rows.data + t * rows.stride, rows.cols, m.row(t));
    unit_gradients[kind] = std::move(m);
  });
  // The difference quotient of the double reference; its step moves float inputs, so the step is read back.
  const auto numeric = [&](float& value) {
    const float before = value;
    value = before + 0.01f;
    const double up = static_cast<double>(value), high = loss_of(spec(), weights, x, g);
    value = before - 0.01f;
    const double down = static_cast<double>(value), low = loss_of(spec(), weights, x, g);
    value = before;
    return (high - low) / (up - down);
  };
  for (size_t i = 0; i < x.values.data.size(); i += 37)
    ASSERT_NEAR(dx.values.data[i], numeric(x.values.data[i]), 2e-2) << i;

  // d loss / d W = (d loss / d output)^T input ties the hooks of both directions to the weights.
  Activations copy = x;
  run_block(spec(), 0, weights, copy, [&](const std::string& kind, MatrixView rows) {
    Matrix m(rows.rows, rows.cols);
    for (size_t t = 0; t < rows.rows; ++t) std::copy_n(rows.data + t * rows.stride, rows.cols, m.row(t));
    unit_inputs[kind] = std::move(m);
  });
  for (const UnitSpec& unit : units_of(spec())) {
    if (unit.block != 0) continue;
    ASSERT_TRUE(unit_gradients.contains(unit.kind)) << unit.kind;
    ASSERT_TRUE(unit_inputs.contains(unit.kind)) << unit.kind;
    const Matrix& out = unit_gradients[unit.kind];
    const Matrix& in = unit_inputs[unit.kind];
    ASSERT_EQ(out.cols, unit.rows);
    ASSERT_EQ(in.cols, unit.cols);
    ASSERT_EQ(out.rows, in.rows);
    size_t row = 0;
    for (size_t member = 0; member < unit.members.size(); ++member) {
      Matrix& w = weights.at(unit.members[member]);
      for (size_t k = 0; k < 3; ++k) {
        const size_t i = (5 * k + member) % w.rows, j = (7 * k + 1) % w.cols;
        double analytic = 0;
        for (size_t t = 0; t < out.rows; ++t)
          analytic += static_cast<double>(out.row(t)[row + i]) * static_cast<double>(in.row(t)[j]);
        ASSERT_NEAR(analytic, numeric(w.row(i)[j]), 2e-2) << unit.members[member] << " " << i << " " << j;
      }
      row += w.rows;
    }
  }
}

TEST_P(Blocks, GradientsReachLearnedWeights) {
  if (spec().activation == Activation::relu) GTEST_SKIP() << "finite differences step over its corners";
  const DenseWeights weights = random_block(spec(), 0, 21);
  const Activations x = random_activations(1, 7, spec().width, 22);
  const Activations g = random_activations(1, 7, spec().width, 23);
  LearnedWeights tensors;
  for (const auto& [name, m] : weights) tensors.emplace(name, Tensor::from(m).requires_grad());
  block_forward(spec(), 0, tensors, Tensor::from(x.values), 1).backward(Tensor::from(g.values));
  for (auto& [name, tensor] : tensors) {
    ASSERT_TRUE(static_cast<bool>(tensor.grad())) << name;
    DenseWeights moved = weights;
    float& value = moved.at(name).data[3];
    value += 0.01f;
    const double high = loss_of(spec(), moved, x, g);
    value -= 0.02f;
    const double low = loss_of(spec(), moved, x, g);
    EXPECT_NEAR(tensor.grad().values()[3], (high - low) / 0.02, 2e-2) << name;
  }
}

TEST_P(Blocks, RepeatsBitForBit) {
  const DenseWeights weights = random_block(spec(), 0, 31);
  Activations a = random_activations(3, 200, spec().width, 32), b = a;
  const Activations g = random_activations(3, 200, spec().width, 33);
  const Activations first = backward_block(spec(), 0, weights, a, g, {});
  const Activations second = backward_block(spec(), 0, weights, a, g, {});
  EXPECT_EQ(first.values.data, second.values.data);
  run_block(spec(), 0, weights, a, {});
  run_block(spec(), 0, weights, b, {});
  EXPECT_EQ(a.values.data, b.values.data);
}

INSTANTIATE_TEST_SUITE_P(All, Blocks, ::testing::Combine(::testing::ValuesIn(block_cases()), ::testing::Values(1, 2)),
                         [](const auto& info) {
                           std::string name =
                               std::get<0>(info.param).name + "_" + std::to_string(std::get<1>(info.param)) + "threads";
                           std::replace(name.begin(), name.end(), ' ', '_');
                           return name;
                         });

TEST(Block, HooksSeeEveryTokenOnceInSeveralCalls) {
  const ModelSpec spec = block_cases()[1].spec;
  const DenseWeights weights = random_block(spec, 0, 41);
  Activations a = random_activations(9, 400, spec.width, 42);  // two sequences at a time
  std::map<std::string, size_t> tokens;
  run_block(spec, 0, weights, a, [&](const std::string& kind, MatrixView rows) { tokens[kind] += rows.rows; });
  EXPECT_EQ(tokens, (std::map<std::string, size_t>{
                        {"attn_qkv", 3600}, {"attn_output", 3600}, {"ffn_gate_up", 3600}, {"ffn_down", 3600}}));
}

TEST(Block, SequencesDoNotSeeEachOther) {
  const ModelSpec spec = block_cases()[0].spec;
  const DenseWeights weights = random_block(spec, 0, 51);
  Activations both = random_activations(2, 20, spec.width, 52);
  Activations one{1, 20, Matrix(20, spec.width)};
  std::copy_n(both.values.row(20), 20 * spec.width, one.values.data.data());
  run_block(spec, 0, weights, both, {});
  run_block(spec, 0, weights, one, {});
  for (size_t i = 0; i < one.values.data.size(); ++i) ASSERT_NEAR(one.values.data[i], both.values.row(20)[i], 1e-5);
}

TEST(Block, MissingAndMisshapenTensorsAreNamed) {
  const ModelSpec spec = block_cases()[0].spec;
  Activations a = random_activations(1, 2, spec.width, 61);
  DenseWeights weights = random_block(spec, 0, 62);
  weights.at("blk.0.ffn_up.weight") = Matrix(3, 3);
  try {
    run_block(spec, 0, weights, a, {});
    FAIL();
  } catch (const Error& error) {
    EXPECT_EQ(error.kind(), ErrorKind::input);
    EXPECT_EQ(error.where(), "blk.0.ffn_up.weight");
  }
  weights.erase("blk.0.ffn_up.weight");
  EXPECT_THROW(run_block(spec, 0, weights, a, {}), Error);
}

TEST(Block, NotANumberIsAnError) {
  const ModelSpec spec = block_cases()[0].spec;
  const DenseWeights weights = random_block(spec, 0, 71);
  Activations a = random_activations(1, 4, spec.width, 72);
  a.values.row(2)[0] = std::numeric_limits<float>::quiet_NaN();
  try {
    run_block(spec, 0, weights, a, {});
    FAIL() << "it passed";
  } catch (const Error& error) {
    EXPECT_EQ(error.kind(), ErrorKind::numeric) << error.what();
  }
}

}  // namespace
}  // namespace whit
