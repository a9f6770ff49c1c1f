#include "model/torch/matrix.h"

#include <gtest/gtest.h>

#include <cmath>
#include <limits>

#include "base/rng.h"

namespace whit {
namespace {

Matrix random_matrix(size_t rows, size_t cols, uint64_t seed) {
  Rng rng(seed);
  Matrix m(rows, cols);
  for (float& v : m.data) v = static_cast<float>(rng.normal());
  return m;
}

// Bound of a float dot product of length k of standard normals: k * eps * sum |a||b|, sum < ~k here, generously 4 k eps
// sqrt(k).
double bound(size_t k) { return 8.0 * 6e-8 * (static_cast<double>(k) + 8.0); }

class Threads : public ::testing::TestWithParam<int> {
 protected:
  void SetUp() override { set_torch_threads(GetParam()); }
};

TEST_P(Threads, MultiplyAddAgreesWithTheDefinition) {
  const size_t sizes[] = {1, 2, 15, 16, 17, 33, 64, 172};
  uint64_t seed = 1;
  for (size_t m : sizes)
    for (size_t n : {size_t{1}, size_t{31}, size_t{96}})
      for (size_t k : {size_t{1}, size_t{7}, size_t{128}})
        for (bool transpose : {false, true}) {
          const Matrix a = random_matrix(m, k, ++seed);
          const Matrix b = transpose ? random_matrix(n, k, ++seed) : random_matrix(k, n, ++seed);
          Matrix c = random_matrix(m, n + 3, ++seed);
          const Matrix before = c;
          multiply_add(-0.5f, a, b, transpose, c.data.data(), c.cols);
          for (size_t i = 0; i < m; ++i) {
            for (size_t j = 0; j < n; ++j) {
              double sum = before.row(i)[j];
              for (size_t l = 0; l < k; ++l) sum -= 0.5 * a.row(i)[l] * (transpose ? b.row(j)[l] : b.row(l)[j]);
              ASSERT_NEAR(c.row(i)[j], sum, bound(k)) << m << " " << n << " " << k << " " << transpose;
            }
            for (size_t j = n; j < n + 3; ++j) ASSERT_EQ(c.row(i)[j], before.row(i)[j]) << "beyond the matrix";
          }
        }
}

TEST_P(Threads, MultiplyAddWithNothingInCommonLeavesC) {
  Matrix c = random_matrix(3, 4, 5);
  const Matrix before = c;
  multiply_add(1.0f, Matrix(3, 0), Matrix(0, 4), false, c.data.data(), 4);
  EXPECT_EQ(c.data, before.data);
}

TEST_P(Threads, GramIsTheSumOfOuterProductsAndSymmetric) {
  for (size_t n : {1, 5, 64, 100, 200, 577}) {
    const Matrix x = random_matrix(37, n, n);
    const MatrixView view(x.data.data(), 37, n, n);
    Matrix gram(n, n);
    add_gram(view, gram);
    add_gram(MatrixView(x.data.data(), 10, n, n), gram);  // adds
    for (size_t i = 0; i < n; i += 1 + n / 40)
      for (size_t j = 0; j < n; ++j) {
        double sum = 0;
        for (size_t t = 0; t < 37; ++t) sum += (t < 10 ? 2.0 : 1.0) * x.row(t)[i] * x.row(t)[j];
        ASSERT_NEAR(gram.row(i)[j], sum, 2 * bound(37)) << n;
        ASSERT_EQ(gram.row(i)[j], gram.row(j)[i]);
      }
  }
}

TEST_P(Threads, GramRepeatsBitForBit) {
  const Matrix x = random_matrix(300, 576, 3);
  Matrix first(576, 576), second(576, 576);
  add_gram(x, first);
  add_gram(x, second);
  EXPECT_EQ(first.data, second.data);
}

TEST_P(Threads, InverseCholeskyUpperInverts) {
  for (size_t n : {1, 2, 17, 96, 300}) {
    const Matrix x = random_matrix(2 * n + 3, n, n);
    Matrix h(n, n), upper;
    add_gram(x, h);
    const double damp = 0.5;
    ASSERT_TRUE(inverse_cholesky_upper(h, damp, upper));
    // (h + damp I) U^T U = I
    for (size_t i = 0; i < n; ++i)
      for (size_t j = 0; j < i; ++j) ASSERT_EQ(upper.row(i)[j], 0.0f);
    std::vector<double> inverse(n * n, 0.0);
    for (size_t k = 0; k < n; ++k)
      for (size_t i = k; i < n; ++i)
        for (size_t j = k; j < n; ++j) inverse[i * n + j] += static_cast<double>(upper.row(k)[i]) * upper.row(k)[j];
    for (size_t i = 0; i < n; i += 1 + n / 10)
      for (size_t j = 0; j < n; ++j) {
        double sum = damp * inverse[i * n + j];
        for (size_t l = 0; l < n; ++l) sum += static_cast<double>(h.row(i)[l]) * inverse[l * n + j];
        ASSERT_NEAR(sum, i == j ? 1.0 : 0.0, 2e-4) << n;
      }
  }
}

TEST_P(Threads, InverseCholeskyUpperRefusesWhatIsNotPositiveDefinite) {
  Matrix h(3, 3), upper;
  h.data = {1, 2, 0, 2, 1, 0, 0, 0, 1};  // eigenvalues 3, -1, 1
  EXPECT_FALSE(inverse_cholesky_upper(h, 0.5, upper));
  EXPECT_TRUE(inverse_cholesky_upper(h, 1.5, upper));
  h.data = {0, 0, 0, 0, 0, 0, 0, 0, 0};
  EXPECT_FALSE(inverse_cholesky_upper(h, 0.0, upper));
  h.data = {1, 0, 0, 0, std::numeric_limits<float>::quiet_NaN(), 0, 0, 0, 1};
  EXPECT_FALSE(inverse_cholesky_upper(h, 0.1, upper));
  h.data = {1, 0, 0, 0, std::numeric_limits<float>::infinity(), 0, 0, 0, 1};
  EXPECT_FALSE(inverse_cholesky_upper(h, 0.1, upper));
}

TEST_P(Threads, QuadraticForms) {
  const size_t n = 130, rows = 141;
  const Matrix x = random_matrix(200, n, 9), d = random_matrix(rows, n, 10);
  Matrix h(n, n);
  add_gram(x, h);
  std::vector<double> out(rows);
  quadratic_forms(d, h, out);
  for (size_t i = 0; i < rows; ++i) {
    double sum = 0;
    for (size_t a = 0; a < n; ++a)
      for (size_t b = 0; b < n; ++b) sum += static_cast<double>(d.row(i)[a]) * h.row(a)[b] * d.row(i)[b];
    ASSERT_NEAR(out[i] / sum, 1.0, 1e-5);
  }
}

INSTANTIATE_TEST_SUITE_P(OneAndTwo, Threads, ::testing::Values(1, 2));

TEST(TorchThreads, NonsenseIsRefused) { EXPECT_THROW(set_torch_threads(-1), Error); }

}  // namespace
}  // namespace whit
