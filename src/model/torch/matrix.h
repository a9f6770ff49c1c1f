// The narrow face of LibTorch for methods: host matrices and linear algebra on them, without any torch header.
// Everything here runs on the pool of LibTorch/OpenBLAS whose size set_torch_threads() fixed.
#pragma once

#include <cstddef>
#include <span>
#include <vector>

#include "base/error.h"

namespace whit {

// Row-major floats [rows, cols], owned.
struct Matrix {
  size_t rows = 0, cols = 0;
  std::vector<float> data;
  Matrix() = default;
  Matrix(size_t r, size_t c) : rows(r), cols(c), data(r * c) {}
  float* row(size_t i) noexcept { return data.data() + i * cols; }
  const float* row(size_t i) const noexcept { return data.data() + i * cols; }
};

// Row-major, rows `stride` floats apart.
struct MatrixView {
  const float* data = nullptr;
  size_t rows = 0, cols = 0, stride = 0;
  MatrixView() = default;
  MatrixView(const float* d, size_t r, size_t c, size_t s) : data(d), rows(r), cols(c), stride(s) {}
  MatrixView(const Matrix& m) : data(m.data.data()), rows(m.rows), cols(m.cols), stride(m.cols) {}
};

// Also sets OpenBLAS; at::get_num_threads() is 1 in Debian's build until somebody does.
void set_torch_threads(int threads);

// c[r0.., c0..] += alpha * a * b (b transposed when `transpose_b`); c is [a.rows, b.cols] with its own stride.
void multiply_add(float alpha, MatrixView a, MatrixView b, bool transpose_b, float* c, size_t c_stride);
// gram += x^T x, [cols, cols], symmetric, both triangles filled.
void add_gram(MatrixView x, Matrix& gram);
// Upper U with U^T U = (h + damp I)^-1, [n, n], computed in double. False when it is not positive definite.
bool inverse_cholesky_upper(const Matrix& h, double damp, Matrix& upper);
// trace(d h d^T) for d [rows, n], per row: out[rows].
void quadratic_forms(MatrixView d, const Matrix& h, std::span<double> out);

}  // namespace whit
