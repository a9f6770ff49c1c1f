#include "model/torch/tensor.h"

#include <ATen/Parallel.h>
#include <ATen/TensorOperators.h>
#include <ATen/ops/abs.h>
#include <ATen/ops/arange.h>
#include <ATen/ops/cat.h>
#include <ATen/ops/cholesky_solve.h>
#include <ATen/ops/clamp.h>
#include <ATen/ops/copysign.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/exp.h>
#include <ATen/ops/eye.h>
#include <ATen/ops/from_blob.h>
#include <ATen/ops/full.h>
#include <ATen/ops/linalg_cholesky_ex.h>
#include <ATen/ops/log.h>
#include <ATen/ops/log_softmax.h>
#include <ATen/ops/matmul.h>
#include <ATen/ops/ones.h>
#include <ATen/ops/round.h>
#include <ATen/ops/sigmoid.h>
#include <ATen/ops/silu.h>
#include <ATen/ops/softmax.h>
#include <ATen/ops/sqrt.h>
#include <c10/core/GradMode.h>
#include <c10/util/Exception.h>
#include <torch/csrc/autograd/custom_function.h>

#include <algorithm>
#include <mutex>
#include <optional>

#include "base/error.h"
#include "model/torch/device_ops.h"
#include "model/torch/gemm.h"
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

// One kernel forwards, none backwards: the gradient itself is handed on.
class SignSte : public torch::autograd::Function<SignSte> {
 public:
  static at::Tensor forward(torch::autograd::AutogradContext*, const at::Tensor& x) {
    return at::copysign(at::ones({}, x.options()), x);
  }
  static torch::autograd::variable_list backward(torch::autograd::AutogradContext*,
                                                 torch::autograd::variable_list gradients) {
    return gradients;
  }
};

class RoundSte : public torch::autograd::Function<RoundSte> {
 public:
  static at::Tensor forward(torch::autograd::AutogradContext*, const at::Tensor& x) { return at::round(x); }
  static torch::autograd::variable_list backward(torch::autograd::AutogradContext*,
                                                 torch::autograd::variable_list gradients) {
    return gradients;
  }
};

class CodeSte : public torch::autograd::Function<CodeSte> {
 public:
  static at::Tensor forward(torch::autograd::AutogradContext*, const at::Tensor& x, double least, double most) {
    return at::round(x).clamp_(least, most);
  }
  static torch::autograd::variable_list backward(torch::autograd::AutogradContext*,
                                                 torch::autograd::variable_list gradients) {
    return {gradients.at(0), at::Tensor(), at::Tensor()};
  }
};

// 1 for the n largest magnitudes along the last dimension of at most 32, exactly n. A magnitude's last 5 bits make room
// for its place, so that all keys of a group differ and one more maximum drops one more of them.
at::Tensor largest(const at::Tensor& x, int64_t n) {
  const int64_t m = x.size(-1);
  const at::Tensor place = at::arange(m - 1, -1, -1, x.options().dtype(at::kInt));
  at::Tensor keys = x.abs().view(at::kInt).bitwise_and(~31).bitwise_or(place), least;
  for (int64_t i = 0; i < n; ++i) {
    if (i > 0) keys = keys.masked_fill(keys == least, -1);
    least = keys.amax(-1, /*keepdim=*/true);
  }
  return (keys == least).logical_or(keys == -1).to(x.scalar_type());
}

class NmSignSte : public torch::autograd::Function<NmSignSte> {
 public:
  static at::Tensor forward(torch::autograd::AutogradContext*, const at::Tensor& x, int64_t n, int64_t m) {
    const int64_t rows = x.size(0), cols = x.size(1), whole = cols / m * m, rest = cols - whole;
    std::vector<at::Tensor> kept;
    if (whole > 0)
      kept.push_back(largest(x.narrow(1, 0, whole).reshape({rows, whole / m, m}), n).reshape({rows, whole}));
    if (rest > 0) kept.push_back(largest(x.narrow(1, whole, rest).contiguous(), (n * rest + m - 1) / m));
    return at::copysign(kept.size() == 1 ? kept[0] : at::cat(kept, 1), x);
  }
  static torch::autograd::variable_list backward(torch::autograd::AutogradContext*,
                                                 torch::autograd::variable_list gradients) {
    return {gradients.at(0), at::Tensor(), at::Tensor()};
  }
};

bool has_unit_stride(const at::Tensor& x) {
  return x.dim() == 2 && x.scalar_type() == at::kFloat && x.is_cpu() && (x.stride(0) == 1 || x.stride(1) == 1);
}

// Matrices on the CPU go over the room's pool: LibTorch's and BLAS's own threads wait for each other by spinning, which
// costs tenfold as soon as another program wants a core.
at::Tensor product(const at::Tensor& a, const at::Tensor& b) {
  if (!has_unit_stride(a) || !has_unit_stride(b) || a.size(1) != b.size(0)) return at::matmul(a, b);
  at::Tensor out = at::empty({a.size(0), b.size(1)}, a.options());
  torch_room::parallel_gemm(a.size(0), b.size(1), a.size(1), 1.0f, {a.data_ptr<float>(), a.stride(0), a.stride(1)},
                            {b.data_ptr<float>(), b.stride(0), b.stride(1)}, 0.0f, out.data_ptr<float>(), out.size(1));
  return out;
}

class Product : public torch::autograd::Function<Product> {
 public:
  static at::Tensor forward(torch::autograd::AutogradContext* context, const at::Tensor& a, const at::Tensor& b) {
    context->save_for_backward({a, b});
    return product(a, b);
  }
  static torch::autograd::variable_list backward(torch::autograd::AutogradContext* context,
                                                 torch::autograd::variable_list gradients) {
    const auto saved = context->get_saved_variables();
    const at::Tensor& up = gradients.at(0);
    at::Tensor a, b;
    if (context->needs_input_grad(0)) a = product(up, saved.at(1).t());
    if (context->needs_input_grad(1)) b = product(saved.at(0).t(), up);
    return {a, b};
  }
};

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

SerialOperations::SerialOperations() : before_(at::get_num_threads()) { at::set_num_threads(1); }
SerialOperations::~SerialOperations() { at::set_num_threads(before_); }

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

Tensor round_ste(const Tensor& x) { return wrap(RoundSte::apply(unwrap(x))); }
Tensor code_ste(const Tensor& x, double least, double most) {
  return wrap(CodeSte::apply(unwrap(x), least, most));
}
Tensor sign_ste(const Tensor& x) { return wrap(SignSte::apply(unwrap(x))); }
Tensor nm_sign_ste(const Tensor& x, int64_t n, int64_t m) {
  const at::Tensor& value = unwrap(x);
  WHIT_CHECK(value.dim() == 2 && value.scalar_type() == at::kFloat && 0 < n && n <= m && m <= 32);
  return wrap(NmSignSte::apply(value, n, m));
}

Tensor matmul(const Tensor& a, const Tensor& b) {
  return translated([&] {
    const at::Tensor &x = unwrap(a), &y = unwrap(b);
    return wrap(has_unit_stride(x) && has_unit_stride(y) ? Product::apply(x, y) : at::matmul(x, y));
  });
}
Tensor matmul_for_blocks(const Tensor& a, const Tensor& b) {
  const at::ScalarType type = torch_room::compute_type();
  if (type == at::kFloat) return matmul(a, b);
  return translated([&] { return wrap(at::matmul(unwrap(a).to(type), unwrap(b).to(type))); });
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
Indices::Indices(std::span<const int64_t> values)
    : values_(wrap(at::from_blob(const_cast<int64_t*>(values.data()), {static_cast<int64_t>(values.size())}, at::kLong)
                       .to(torch_room::learning_at_device(), at::kLong, /*non_blocking=*/false, /*copy=*/true))) {}
Tensor rows(const Tensor& x, const Indices& indices) {
  return translated([&] {
    const at::Tensor& index = unwrap(indices.values_);
    return wrap(unwrap(x).index_select(0, index.to(unwrap(x).device())));
  });
}
Tensor rows(const Tensor& x, std::span<const int64_t> indices) { return rows(x, Indices(indices)); }

Tensor diagonal(const Tensor& x) {
  return translated([&] { return wrap(unwrap(x).diagonal()); });
}
Tensor identity(int64_t n) { return wrap(at::eye(n, at::TensorOptions(at::kFloat).device(torch_room::learning_at_device()))); }
Tensor solve_spd(const Tensor& a, const Tensor& b, bool in_double) {
  const NoGrad guard;
  // BLAS on the CPU takes turns; on a device each thread has a stream of its own.
  std::unique_lock lock(torch_room::room_mutex(), std::defer_lock);
  std::optional<torch_room::SerialBlas> serial;
  if (!torch_room::on_cuda(unwrap(a))) {
    lock.lock();
    serial.emplace();
  }
  return translated([&] {
    const at::ScalarType type = in_double ? at::kDouble : at::kFloat;
    const auto [lower, info] = at::linalg_cholesky_ex(unwrap(a).detach().to(type));
    if (info.item<int>() != 0) return Tensor();
    return wrap(at::cholesky_solve(unwrap(b).detach().to(type), lower).to(at::kFloat));
  });
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
