#include "model/torch/tensor.h"

#include <gtest/gtest.h>

#include <cmath>
#include <functional>

#include "base/rng.h"
#include "format/format.h"
#include "model/torch/parametrization.h"

namespace whit {
namespace {

Matrix random_matrix(size_t rows, size_t cols, uint64_t seed) {
  Rng rng(seed);
  Matrix m(rows, cols);
  for (float& v : m.data) v = static_cast<float>(rng.normal());
  return m;
}

TEST(Tensor, ComesFromAndReturnsToTheHost) {
  const Matrix m = random_matrix(3, 5, 1);
  const Tensor t = Tensor::from(MatrixView(m.data.data() + 1, 3, 4, 5));  // a part with a stride
  EXPECT_EQ(t.shape(), (std::vector<int64_t>{3, 4}));
  const Matrix back = t.matrix();
  for (size_t i = 0; i < 3; ++i)
    for (size_t j = 0; j < 4; ++j) EXPECT_EQ(back.row(i)[j], m.row(i)[j + 1]);
  EXPECT_EQ(transpose(t).matrix().row(3)[2], m.row(2)[4]);  // not contiguous
  EXPECT_FALSE(static_cast<bool>(Tensor()));
  EXPECT_EQ(Tensor::full({2}, 0.5).values(), (std::vector<float>{0.5f, 0.5f}));
}

// Every operation against difference quotients of itself.
struct Operation {
  std::string name;
  std::function<Tensor(const Tensor&, const Tensor&)> apply;  // of two positive [3, 4] tensors
};

class Gradients : public ::testing::TestWithParam<Operation> {};

TEST_P(Gradients, AgreeWithFiniteDifferences) {
  Matrix ma = random_matrix(3, 4, 2), mb = random_matrix(3, 4, 3);
  for (float& v : ma.data) v = 0.5f + std::fabs(v);
  for (float& v : mb.data) v = 0.5f + std::fabs(v);
  const auto loss = [&](const Matrix& x, const Matrix& y) {
    const Tensor out = GetParam().apply(Tensor::from(x), Tensor::from(y));
    // weights 1, 2, 3, ... so that sums do not hide a permutation
    double sum = 0, weight = 1;
    for (const float v : out.values()) sum += weight++ * static_cast<double>(v);
    return sum;
  };
  Tensor a = Tensor::from(ma).requires_grad(), b = Tensor::from(mb).requires_grad();
  const Tensor out = GetParam().apply(a, b);
  std::vector<float> weights(static_cast<size_t>(out.count()));
  for (size_t i = 0; i < weights.size(); ++i) weights[i] = static_cast<float>(i + 1);
  out.backward(Tensor::from(weights, out.shape()));
  for (const bool second : {false, true}) {
    Matrix& m = second ? mb : ma;
    const Tensor grad = (second ? b : a).grad();
    for (size_t i = 0; i < m.data.size(); ++i) {
      const float before = m.data[i];
      m.data[i] = before + 0.004f;
      const double high = loss(ma, mb);
      m.data[i] = before - 0.004f;
      const double low = loss(ma, mb);
      m.data[i] = before;
      const double numeric = (high - low) / 0.008;
      const double analytic = grad ? grad.values()[i] : 0.0;
      EXPECT_NEAR(analytic, numeric, 1e-2 * (1.0 + std::fabs(numeric))) << (second ? "b " : "a ") << i;
    }
  }
}

const std::vector<Tensor> pair(const Tensor& a, const Tensor& b) { return {a, b}; }

INSTANTIATE_TEST_SUITE_P(
    Operations, Gradients,
    ::testing::Values(Operation{"add", [](auto& a, auto& b) { return a + b; }},
                      Operation{"subtract", [](auto& a, auto& b) { return a - b; }},
                      Operation{"multiply", [](auto& a, auto& b) { return a * b; }},
                      Operation{"divide", [](auto& a, auto& b) { return a / b; }},
                      Operation{"scalars",
                                [](auto& a, auto&) { return 2.0 - (1.0 + 3.0 * a) * 0.5 / 2.0 - 1.0 + 0.5; }},
                      Operation{"broadcast", [](auto& a, auto& b) { return a * sum(b, 1, true); }},
                      Operation{"matmul", [](auto& a, auto& b) { return matmul(a, transpose(b)); }},
                      Operation{"reshape",
                                [](auto& a, auto& b) {
                                  return reshape(a, {2, 6}) * reshape(b, {2, 6});
                                }},
                      Operation{"narrow", [](auto& a, auto& b) { return narrow(a, 1, 1, 2) * narrow(b, 1, 0, 2); }},
                      Operation{"concat", [](auto& a, auto& b) { return square(concat(pair(a, b), 0)); }},
                      Operation{"rows",
                                [](auto& a, auto&) {
                                  return rows(a, std::vector<int64_t>{2, 0, 2});
                                }},
                      Operation{"exp", [](auto& a, auto&) { return exp(a); }},
                      Operation{"log", [](auto& a, auto&) { return log(a); }},
                      Operation{"abs", [](auto& a, auto&) { return abs(-a); }},
                      Operation{"sqrt", [](auto& a, auto&) { return sqrt(a); }},
                      Operation{"sigmoid", [](auto& a, auto&) { return sigmoid(a); }},
                      Operation{"silu", [](auto& a, auto&) { return silu(a); }},
                      Operation{"mean", [](auto& a, auto& b) { return mean(a * b) + mean(a, 0, false) + sum(b); }},
                      Operation{"softmax", [](auto& a, auto&) { return softmax(a, 1); }},
                      Operation{"log_softmax", [](auto& a, auto&) { return log_softmax(a, -1); }}),
    [](const auto& info) { return info.param.name; });

TEST(Tensor, StraightThrough) {
  Tensor x = Tensor::from(std::vector<float>{-1.5f, -0.4f, 0.0f, 0.5f, 2.5f, 1e7f}, {6}).requires_grad();
  const Tensor r = round_ste(x);
  EXPECT_EQ(r.values(), (std::vector<float>{-2.0f, 0.0f, 0.0f, 0.0f, 2.0f, 1e7f}));
  sum(r * r).backward();
  EXPECT_EQ(x.grad().values()[0], -4.0f);
  x.clear_grad();
  const Tensor s = sign_ste(x);
  EXPECT_EQ(s.values(), (std::vector<float>{-1.0f, -1.0f, 1.0f, 1.0f, 1.0f, 1.0f}));
  sum(s).backward();
  EXPECT_EQ(x.grad().values(), std::vector<float>(6, 1.0f));
}

TEST(Tensor, ClampStopsTheGradientOutside) {
  Tensor x = Tensor::from(std::vector<float>{-2.0f, 0.25f, 2.0f}, {3}).requires_grad();
  sum(clamp(x, -1, 1)).backward();
  EXPECT_EQ(x.grad().values(), (std::vector<float>{0, 1, 0}));
}

TEST(Tensor, NoGradRecordsNothingAndAssignKeepsTheLeaf) {
  Tensor x = Tensor::full({2}, 1.0).requires_grad();
  {
    const NoGrad guard;
    EXPECT_FALSE((x * 2.0).needs_grad());
  }
  EXPECT_TRUE((x * 2.0).needs_grad());
  x.assign(Tensor::full({2}, 3.0));
  sum(x * x).backward();
  EXPECT_EQ(x.grad().values(), (std::vector<float>{6, 6}));
}

TEST(Tensor, MistakesAreErrorsOfOurs) {
  EXPECT_THROW(matmul(Tensor::full({2, 3}, 1), Tensor::full({2, 3}, 1)), Error);
  EXPECT_THROW(Tensor::full({2}, 1).backward(), Error);
  EXPECT_THROW(Tensor().shape(), Error);
  EXPECT_THROW(Tensor::full({2}, 1).item(), Error);
}

TEST(Parametrization, FormatWithoutARowIsAUsageError) {
  const std::vector<float> weights(4, 1.0f);
  const Packed packed = pack_dense(make_format("f32"), {2, 2}, weights);
  try {
    make_parametrization({}, packed);
    FAIL();
  } catch (const Error& error) {
    EXPECT_EQ(error.kind(), ErrorKind::usage);
    EXPECT_EQ(error.found(), "f32");
  }
}

}  // namespace
}  // namespace whit
