#include "model/torch/matrix.h"

#include <ATen/core/Tensor.h>
#include <ATen/ops/from_blob.h>
#include <ATen/ops/linalg_cholesky_ex.h>
#include <ATen/ops/linalg_solve_triangular.h>
#include <c10/core/InferenceMode.h>

#include <algorithm>
#include <cmath>
#include <cstring>

#include "model/torch/gemm.h"

namespace whit {
namespace {

using torch_room::gemm;
using torch_room::Operand;
using torch_room::run_parallel;

Operand rows_of(MatrixView m) { return {m.data, static_cast<int64_t>(m.stride), 1}; }
Operand transposed(MatrixView m) { return {m.data, 1, static_cast<int64_t>(m.stride)}; }

// upper triangle := lower triangle, in tiles so that both sides stay in the cache
void mirror_lower(Matrix& matrix) {
  constexpr size_t kTile = 32;
  const size_t n = matrix.rows;
  run_parallel((n + kTile - 1) / kTile, 1, [&](size_t begin, size_t end, int) {
    for (size_t tile = begin; tile < end; ++tile)
      for (size_t other = 0; other <= tile; ++other)
        for (size_t i = tile * kTile; i < std::min(n, (tile + 1) * kTile); ++i)
          for (size_t j = other * kTile; j < std::min(i, (other + 1) * kTile); ++j)
            matrix.data[j * n + i] = matrix.data[i * n + j];
  });
}

}  // namespace

void multiply_add(float alpha, MatrixView a, MatrixView b, bool transpose_b, float* c, size_t c_stride) {
  WHIT_CHECK(a.cols == (transpose_b ? b.cols : b.rows));
  const size_t n = transpose_b ? b.rows : b.cols;
  WHIT_CHECK(c_stride >= n);
  torch_room::parallel_gemm(static_cast<int64_t>(a.rows), static_cast<int64_t>(n), static_cast<int64_t>(a.cols), alpha,
                            rows_of(a), transpose_b ? transposed(b) : rows_of(b), 1.0f, c,
                            static_cast<int64_t>(c_stride));
}

void add_gram(MatrixView x, Matrix& gram) {
  const size_t n = x.cols;
  WHIT_CHECK(gram.rows == n && gram.cols == n);
  if (x.rows == 0 || n == 0) return;
  // Strips of rows of the lower triangle: a little over half of the work of a full product. Each goes to the worker
  // with the least work so far, largest first.
  const size_t threads = static_cast<size_t>(torch_room::pool_threads());
  const size_t height = std::clamp<size_t>(n / (3 * threads), 64, 256);
  const size_t strips = (n + height - 1) / height;
  std::vector<size_t> owner(strips), load(threads, 0);
  for (size_t strip = strips; strip-- > 0;) {
    owner[strip] = static_cast<size_t>(std::min_element(load.begin(), load.end()) - load.begin());
    load[owner[strip]] += strip + 1;
  }
  run_parallel([&](int worker) {
    for (size_t strip = 0; strip < strips; ++strip) {
      if (owner[strip] != static_cast<size_t>(worker)) continue;
      const size_t begin = strip * height, end = std::min(n, begin + height);
      gemm(static_cast<int64_t>(end - begin), static_cast<int64_t>(end), static_cast<int64_t>(x.rows), 1.0f,
           {x.data + begin, 1, static_cast<int64_t>(x.stride)}, rows_of(x), 1.0f, gram.row(begin),
           static_cast<int64_t>(n));
    }
  });
  mirror_lower(gram);
}

bool inverse_cholesky_upper(const Matrix& h, double damp, Matrix& upper) {
  const size_t n = h.rows;
  WHIT_CHECK(h.cols == n);
  // With J the reversal of order: J (h + damp I) J = L L^T, so h + damp I = R R^T with R = J L J upper triangular, and
  // its inverse is U^T U with U = R^-1 = J L^-1 J. One factorization and one triangular inverse, in double.
  std::vector<double> reversed(n * n), inverse(n * n, 0.0);
  for (size_t i = 0; i < n; ++i) {
    const float* row = h.row(n - 1 - i);
    for (size_t j = 0; j < n; ++j) reversed[i * n + j] = row[n - 1 - j];
    reversed[i * n + i] += damp;
    inverse[i * n + i] = 1.0;
  }
  upper = Matrix(n, n);
  if (n == 0) return true;
  const std::lock_guard lock(torch_room::room_mutex());
  const c10::InferenceMode no_autograd;
  const int64_t size = static_cast<int64_t>(n);
  const at::Tensor matrix = at::from_blob(reversed.data(), {size, size}, at::kDouble);
  const auto [lower, info] = at::linalg_cholesky_ex(matrix, /*upper=*/false, /*check_errors=*/false);
  if (info.item<int>() != 0) return false;
  const at::Tensor identity = at::from_blob(inverse.data(), {size, size}, at::kDouble);
  const at::Tensor solved =
      at::linalg_solve_triangular(lower, identity, /*upper=*/false, /*left=*/true, /*unitriangular=*/false)
          .contiguous();
  const double* l = solved.data_ptr<double>();
  bool finite = true;
  for (size_t i = 0; i < n; ++i) {
    const double* row = l + (n - 1 - i) * n;
    for (size_t j = i; j < n; ++j) {
      const float value = static_cast<float>(row[n - 1 - j]);
      finite = finite && std::isfinite(value);
      upper.row(i)[j] = value;
    }
    finite = finite && upper.row(i)[i] > 0.0f;
  }
  return finite;  // LAPACK lets NaN pass
}

void quadratic_forms(MatrixView d, const Matrix& h, std::span<double> out) {
  const size_t n = d.cols;
  WHIT_CHECK(h.rows == n && h.cols == n && out.size() == d.rows);
  constexpr size_t kRows = 128;
  run_parallel(d.rows, 16, [&](size_t begin, size_t end, int) {
    std::vector<float> product(std::min(kRows, end - begin) * n);
    for (size_t first = begin; first < end; first += kRows) {
      const size_t count = std::min(kRows, end - first);
      gemm(static_cast<int64_t>(count), static_cast<int64_t>(n), static_cast<int64_t>(n), 1.0f,
           {d.data + first * d.stride, static_cast<int64_t>(d.stride), 1}, {h.data.data(), static_cast<int64_t>(n), 1},
           0.0f, product.data(), static_cast<int64_t>(n));
      for (size_t i = 0; i < count; ++i) {
        const float* x = d.data + (first + i) * d.stride;
        const float* y = product.data() + i * n;
        double sum = 0;
        for (size_t j = 0; j < n; ++j) sum += static_cast<double>(x[j]) * y[j];
        out[first + i] = sum;
      }
    }
  });
}

}  // namespace whit
