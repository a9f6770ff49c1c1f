// Differentiable tensors for methods that learn, without any torch header. A thin, value-like handle on a LibTorch
// tensor of 32-bit floats; copies share storage and history, as there. New values stand on the learning device
// (device.h).
//
//   Tensor scale = Tensor::from(matrix).requires_grad();
//   Tensor loss = mean(square(matmul(x, transpose(round_ste(w / scale) * scale)) - y));
//   loss.backward();
//   NoGrad guard;
//   scale.assign(scale - 0.01 * scale.grad());
#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <vector>

#include "model/torch/matrix.h"

namespace whit {

class Tensor {
 public:
  struct Impl;

  Tensor() noexcept = default;            // undefined
  static Tensor from(MatrixView values);  // copies; [rows, cols]
  static Tensor from(std::span<const float> values, std::vector<int64_t> shape);
  static Tensor full(std::vector<int64_t> shape, double value);

  explicit operator bool() const noexcept { return impl_ != nullptr; }
  std::vector<int64_t> shape() const;
  int64_t size(int64_t dimension) const;  // negative: from the end
  int64_t count() const;

  // Copies to the host. matrix(): [n] becomes 1 x n, more than two dimensions are folded into the rows.
  Matrix matrix() const;
  std::vector<float> values() const;
  double item() const;  // of one element

  Tensor& requires_grad(bool wanted = true);  // of a leaf
  bool needs_grad() const;
  Tensor detach() const;
  // From a scalar, or with d loss / d this. Adds to grad() of every leaf (and of tensors that called retain_grad()).
  void backward() const;
  void backward(const Tensor& gradient) const;
  void retain_grad() const;
  Tensor grad() const;  // undefined before backward()
  void clear_grad();
  // Overwrites the values in place, outside of history.
  void assign(const Tensor& values);

  const Impl& impl() const;  // inside model/torch
  explicit Tensor(std::shared_ptr<Impl> impl) noexcept : impl_(std::move(impl)) {}

 private:
  std::shared_ptr<Impl> impl_;
};

// While one lives, the calling thread records no history.
class NoGrad {
 public:
  NoGrad();
  ~NoGrad();
  NoGrad(const NoGrad&) = delete;
  NoGrad& operator=(const NoGrad&) = delete;

 private:
  bool before_;
};

// While one lives, what is not a product of matrices runs in the calling thread. For many small steps: LibTorch's
// threads wait for each other by spinning, and so take cores from the products between.
class SerialOperations {
 public:
  SerialOperations();
  ~SerialOperations();
  SerialOperations(const SerialOperations&) = delete;
  SerialOperations& operator=(const SerialOperations&) = delete;

 private:
  int before_;
};

// Element by element, with broadcasting.
Tensor operator+(const Tensor& a, const Tensor& b);
Tensor operator-(const Tensor& a, const Tensor& b);
Tensor operator*(const Tensor& a, const Tensor& b);
Tensor operator/(const Tensor& a, const Tensor& b);
Tensor operator+(const Tensor& a, double b);
Tensor operator-(const Tensor& a, double b);
Tensor operator*(const Tensor& a, double b);
Tensor operator/(const Tensor& a, double b);
Tensor operator+(double a, const Tensor& b);
Tensor operator-(double a, const Tensor& b);
Tensor operator*(double a, const Tensor& b);
Tensor operator-(const Tensor& a);
Tensor exp(const Tensor& x);
Tensor log(const Tensor& x);
Tensor abs(const Tensor& x);
Tensor sqrt(const Tensor& x);
Tensor square(const Tensor& x);
Tensor sigmoid(const Tensor& x);
Tensor silu(const Tensor& x);
// The gradient passes where least <= x <= most.
Tensor clamp(const Tensor& x, double least, double most);
// Straight-through: round to nearest (ties to even) or sign (of +0: +1) forwards, the identity backwards.
Tensor round_ste(const Tensor& x);
Tensor code_ste(const Tensor& x, double least, double most);  // rounded, then held between two whole numbers
Tensor sign_ste(const Tensor& x);
// The same for N:M signs of x [rows, cols]: the sign of the n largest magnitudes of every m consecutive columns (of a
// last group of r, ceil(n r / m); of equal ones the first), 0 elsewhere. Magnitudes that differ by less than 2^-18 are
// equal.
Tensor nm_sign_ste(const Tensor& x, int64_t n, int64_t m);

Tensor matmul(const Tensor& a, const Tensor& b);
// The same as blocks compute: on CUDA factors and result are rounded to bfloat16 (sums are not).
Tensor matmul_for_blocks(const Tensor& a, const Tensor& b);
Tensor transpose(const Tensor& x);  // the last two dimensions
Tensor reshape(const Tensor& x, std::vector<int64_t> shape);
Tensor narrow(const Tensor& x, int64_t dimension, int64_t begin, int64_t count);
Tensor concat(std::span<const Tensor> parts, int64_t dimension);
Tensor rows(const Tensor& x, std::span<const int64_t> indices);  // of the first dimension
// The same with indices that stay where tensors are instead of being copied at every call.
class Indices {
 public:
  Indices() = default;
  explicit Indices(std::span<const int64_t> values);

 private:
  friend Tensor rows(const Tensor& x, const Indices& indices);
  Tensor values_;
};
Tensor rows(const Tensor& x, const Indices& indices);
Tensor diagonal(const Tensor& x);                                // [n, n] -> [n]
Tensor identity(int64_t n);
// The x of a x = b for symmetric positive definite a [n, n], b [n, k], outside of history; undefined where a is not
// positive definite. In double for systems that are nearly singular, else in single precision.
Tensor solve_spd(const Tensor& a, const Tensor& b, bool in_double = false);

Tensor sum(const Tensor& x);
Tensor sum(const Tensor& x, int64_t dimension, bool keep);
Tensor mean(const Tensor& x);
Tensor mean(const Tensor& x, int64_t dimension, bool keep);
Tensor softmax(const Tensor& x, int64_t dimension);
Tensor log_softmax(const Tensor& x, int64_t dimension);

}  // namespace whit
