#include "model/torch/tensor.h"

#include <ATen/TensorOperators.h>
#include <ATen/ops/abs.h>
#include <ATen/ops/cat.h>
#include <ATen/ops/clamp.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/exp.h>
#include <ATen/ops/from_blob.h>
#include <ATen/ops/full.h>
#include <ATen/ops/log.h>
#include <ATen/ops/log_softmax.h>
#include <ATen/ops/matmul.h>
#include <ATen/ops/ones_like.h>
#include <ATen/ops/round.h>
#include <ATen/ops/sigmoid.h>
#include <ATen/ops/silu.h>
#include <ATen/ops/softmax.h>
#include <ATen/ops/sqrt.h>
#include <ATen/ops/where.h>
#include <c10/core/GradMode.h>
#include <c10/util/Exception.h>

#include <algorithm>

#include "base/error.h"
#include "model/torch/device_ops.h"
#include "model/torch/tensor_impl.h"

namespace whit {

using torch_room::unwrap;
using torch_room::wrap;

namespace {

// LibTorch's own errors (shapes that do not fit, no history) are mistakes of the method that called.
template <class Body>
auto translated(Body&& body) {
  try {
    return body();
  } catch (const c10::Error& error) {
    throw Error(ErrorKind::internal, error.what_without_backtrace(), "LibTorch");
  }
}

at::Tensor copy_of(const float* data, at::IntArrayRef shape) {
  return at::from_blob(const_cast<float*>(data), shape)
      .to(torch_room::learning_at_device(), at::kFloat, /*non_blocking=*/false, /*copy=*/true);
}

}  // namespace

const Tensor::Impl& Tensor::impl() const {
  WHIT_CHECK(impl_ != nullptr);
  return *impl_;
}

Tensor Tensor::from(MatrixView values) {
  const int64_t rows = static_cast<int64_t>(values.rows), cols = static_cast<int64_t>(values.cols);
  return wrap(at::from_blob(const_cast<float*>(values.data), {rows, cols}, {static_cast<int64_t>(values.stride), 1})
                  .contiguous()
                  .to(torch_room::learning_at_device(), at::kFloat, /*non_blocking=*/false, /*copy=*/true));
}

Tensor Tensor::from(std::span<const float> values, std::vector<int64_t> shape) {
  int64_t count = 1;
  for (const int64_t size : shape) count *= size;
  WHIT_CHECK(count == static_cast<int64_t>(values.size()));
  return wrap(copy_of(values.data(), shape));
}

Tensor Tensor::full(std::vector<int64_t> shape, double value) {
  return wrap(at::full(shape, value, at::TensorOptions(at::kFloat).device(torch_room::learning_at_device())));
}

std::vector<int64_t> Tensor::shape() const { return unwrap(*this).sizes().vec(); }
int64_t Tensor::size(int64_t dimension) const {
  return translated([&] { return unwrap(*this).size(dimension); });
}
int64_t Tensor::count() const { return unwrap(*this).numel(); }

std::vector<float> Tensor::values() const {
  const at::Tensor host = unwrap(*this).detach().to(at::kCPU, at::kFloat).contiguous();
  const float* data = host.data_ptr<float>();
  return std::vector<float>(data, data + host.numel());
}

Matrix Tensor::matrix() const {
  const at::Tensor& value = unwrap(*this);
  Matrix m;
  m.cols = value.dim() == 0 ? 1 : static_cast<size_t>(value.size(-1));
  m.rows = m.cols == 0 ? 0 : static_cast<size_t>(value.numel()) / m.cols;
  m.data = values();
  return m;
}

double Tensor::item() const {
  WHIT_CHECK(count() == 1);
  return static_cast<double>(values()[0]);
}

Tensor& Tensor::requires_grad(bool wanted) {
  translated([&] { return unwrap(*this).set_requires_grad(wanted); });
  return *this;
}
bool Tensor::needs_grad() const { return unwrap(*this).requires_grad(); }
Tensor Tensor::detach() const { return wrap(unwrap(*this).detach()); }
void Tensor::backward() const {
  translated([&] {
    unwrap(*this).backward();
    return 0;
  });
}
void Tensor::backward(const Tensor& gradient) const {
  translated([&] {
    unwrap(*this).backward(unwrap(gradient));
    return 0;
  });
}
void Tensor::retain_grad() const {
  translated([&] {
    unwrap(*this).retain_grad();
    return 0;
  });
}
Tensor Tensor::grad() const {
  const at::Tensor& value = unwrap(*this).grad();
  return value.defined() ? wrap(value) : Tensor();
}
void Tensor::clear_grad() { unwrap(*this).mutable_grad() = at::Tensor(); }
void Tensor::assign(const Tensor& values) {
  const NoGrad guard;
  translated([&] {
    unwrap(*this).copy_(unwrap(values));
    return 0;
  });
}

NoGrad::NoGrad() : before_(c10::GradMode::is_enabled()) { c10::GradMode::set_enabled(false); }
NoGrad::~NoGrad() { c10::GradMode::set_enabled(before_); }

#define WHIT_BINARY(symbol)                                              \
  Tensor operator symbol(const Tensor& a, const Tensor& b) {             \
    return translated([&] { return wrap(unwrap(a) symbol unwrap(b)); }); \
  }                                                                      \
  Tensor operator symbol(const Tensor& a, double b) { return wrap(unwrap(a) symbol at::Scalar(b)); }
WHIT_BINARY(+)
WHIT_BINARY(-)
WHIT_BINARY(*)
WHIT_BINARY(/)
#undef WHIT_BINARY
Tensor operator+(double a, const Tensor& b) { return b + a; }
Tensor operator-(double a, const Tensor& b) { return wrap(at::Scalar(a) - unwrap(b)); }
Tensor operator*(double a, const Tensor& b) { return b * a; }
Tensor operator-(const Tensor& a) { return wrap(-unwrap(a)); }

Tensor exp(const Tensor& x) { return wrap(at::exp(unwrap(x))); }
Tensor log(const Tensor& x) { return wrap(at::log(unwrap(x))); }
Tensor abs(const Tensor& x) { return wrap(at::abs(unwrap(x))); }
Tensor sqrt(const Tensor& x) { return wrap(at::sqrt(unwrap(x))); }
Tensor square(const Tensor& x) { return wrap(unwrap(x) * unwrap(x)); }
Tensor sigmoid(const Tensor& x) { return wrap(at::sigmoid(unwrap(x))); }
Tensor silu(const Tensor& x) { return wrap(at::silu(unwrap(x))); }
Tensor clamp(const Tensor& x, double least, double most) { return wrap(at::clamp(unwrap(x), least, most)); }

// x + (f(x) - x) with the bracket outside of history; computed so that the forward value is exactly f(x).
Tensor round_ste(const Tensor& x) {
  const at::Tensor& value = unwrap(x);
  const at::Tensor rounded = at::round(value.detach());
  return wrap(value - value.detach() + rounded);
}
Tensor sign_ste(const Tensor& x) {
  const at::Tensor& value = unwrap(x);
  const at::Tensor fixed = value.detach();
  const at::Tensor ones = at::ones_like(fixed);
  return wrap(value - fixed + at::where(fixed >= 0, ones, -ones));
}

Tensor matmul(const Tensor& a, const Tensor& b) {
  return translated([&] { return wrap(at::matmul(unwrap(a), unwrap(b))); });
}
Tensor transpose(const Tensor& x) {
  return translated([&] { return wrap(unwrap(x).transpose(-2, -1)); });
}
Tensor reshape(const Tensor& x, std::vector<int64_t> shape) {
  return translated([&] { return wrap(unwrap(x).reshape(shape)); });
}
Tensor narrow(const Tensor& x, int64_t dimension, int64_t begin, int64_t count) {
  return translated([&] { return wrap(unwrap(x).narrow(dimension, begin, count)); });
}
Tensor concat(std::span<const Tensor> parts, int64_t dimension) {
  std::vector<at::Tensor> values;
  for (const Tensor& part : parts) values.push_back(unwrap(part));
  return translated([&] { return wrap(at::cat(values, dimension)); });
}
Tensor rows(const Tensor& x, std::span<const int64_t> indices) {
  const at::Tensor index =
      at::from_blob(const_cast<int64_t*>(indices.data()), {static_cast<int64_t>(indices.size())}, at::kLong)
          .to(unwrap(x).device(), /*non_blocking=*/false, /*copy=*/true);
  return translated([&] { return wrap(unwrap(x).index_select(0, index)); });
}

Tensor sum(const Tensor& x) { return wrap(unwrap(x).sum()); }
Tensor sum(const Tensor& x, int64_t dimension, bool keep) {
  return translated([&] { return wrap(unwrap(x).sum(at::IntArrayRef{dimension}, keep)); });
}
Tensor mean(const Tensor& x) { return wrap(unwrap(x).mean()); }
Tensor mean(const Tensor& x, int64_t dimension, bool keep) {
  return translated([&] { return wrap(unwrap(x).mean(at::IntArrayRef{dimension}, keep)); });
}
Tensor softmax(const Tensor& x, int64_t dimension) {
  return translated([&] { return wrap(at::softmax(unwrap(x), dimension)); });
}
Tensor log_softmax(const Tensor& x, int64_t dimension) {
  return translated([&] { return wrap(at::log_softmax(unwrap(x), dimension)); });
}

}  // namespace whit
