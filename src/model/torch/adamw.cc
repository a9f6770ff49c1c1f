#include "model/torch/adamw.h"

#include <ATen/TensorOperators.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/zeros_like.h>

#include <cmath>
#include <map>

#include "base/error.h"
#include "model/torch/device_ops.h"
#include "model/torch/gemm.h"
#include "model/torch/tensor_impl.h"

namespace whit {
namespace {

using torch_room::on_cuda;
using torch_room::run_parallel;
using torch_room::unwrap;
using torch_room::wrap;

constexpr size_t kPiece = 65536;  // elements that are summed by themselves, so that the sum does not depend on threads

double sum_of_squares(const at::Tensor& gradient) {
  const at::Tensor values = gradient.contiguous();
  const float* data = values.data_ptr<float>();
  const auto count = static_cast<size_t>(values.numel());
  const size_t pieces = (count + kPiece - 1) / kPiece;
  std::vector<double> sums(pieces);
  run_parallel(pieces, 1, [&](size_t begin, size_t end, int) {
    for (size_t p = begin; p < end; ++p) {
      double sum = 0;
      for (size_t i = p * kPiece; i < std::min(count, (p + 1) * kPiece); ++i)
        sum += static_cast<double>(data[i]) * data[i];
      sums[p] = sum;
    }
  });
  double sum = 0;
  for (const double piece : sums) sum += piece;
  return sum;
}

struct StepSizes {
  float rate, beta1, beta2, correction, epsilon, scale;
};

// In one sweep: m = b1 m + (1 - b1) g, v = b2 v + (1 - b2) g^2, x -= rate m / (sqrt(v) correction + epsilon).
void sweep(const at::Tensor& value, const at::Tensor& gradient, const at::Tensor& mean, const at::Tensor& square,
           const StepSizes& s) {
  const at::Tensor given = gradient.contiguous();
  WHIT_CHECK(value.is_contiguous());
  float* x = value.data_ptr<float>();
  const float* g = given.data_ptr<float>();
  float* m = mean.data_ptr<float>();
  float* v = square.data_ptr<float>();
  run_parallel(static_cast<size_t>(value.numel()), 1024, [&](size_t begin, size_t end, int) {
    for (size_t i = begin; i < end; ++i) {
      const float d = g[i] * s.scale;
      m[i] = s.beta1 * m[i] + (1 - s.beta1) * d;
      v[i] = s.beta2 * v[i] + (1 - s.beta2) * d * d;
      x[i] -= s.rate * m[i] / (std::sqrt(v[i]) * s.correction + s.epsilon);
    }
  });
}

}  // namespace

void AdamW::add(std::span<const Tensor> leaves, double rate) {
  for (const Tensor& leaf : leaves) {
    WHIT_CHECK(leaf.needs_grad());
    const at::Tensor& value = unwrap(leaf);
    leaves_.push_back({leaf, wrap(at::zeros_like(value)), wrap(at::zeros_like(value)), rate});
  }
}

void AdamW::scale_rates(double by) {
  for (Leaf& leaf : leaves_) leaf.rate *= by;
}

double AdamW::step(double factor) {
  const NoGrad guard;
  struct Group {
    std::vector<at::Tensor> values, gradients, means, squares;
  };
  std::map<double, Group> groups;
  for (const Leaf& leaf : leaves_) {
    const at::Tensor& gradient = unwrap(leaf.value).grad();
    if (!gradient.defined()) continue;
    Group& group = groups[leaf.rate];
    group.values.push_back(unwrap(leaf.value));
    group.gradients.push_back(gradient);
    group.means.push_back(unwrap(leaf.mean));
    group.squares.push_back(unwrap(leaf.square));
  }
  if (groups.empty()) return 0;
  const bool cuda = on_cuda(groups.begin()->second.values[0]);
  double norm = 0;
  if (cuda) {
    std::vector<at::Tensor> all;
    for (const auto& [rate, group] : groups) all.insert(all.end(), group.gradients.begin(), group.gradients.end());
    norm = torch_room::cuda_norm(all);
  } else {
    for (const auto& [rate, group] : groups)
      for (const at::Tensor& gradient : group.gradients) norm += sum_of_squares(gradient);
    norm = std::sqrt(norm);
  }
  if (!std::isfinite(norm)) return norm;
  ++steps_;
  const double scale = norm > options_.clip ? options_.clip / norm : 1.0;
  for (auto& [rate, group] : groups) {
    if (cuda) {
      if (scale < 1)
        for (at::Tensor& gradient : group.gradients) gradient.mul_(scale);
      torch_room::cuda_adamw(group.values, group.gradients, group.means, group.squares, rate * factor, options_.beta1,
                             options_.beta2, options_.epsilon, static_cast<int64_t>(steps_));
      continue;
    }
    const double n = static_cast<double>(steps_);
    const StepSizes sizes{static_cast<float>(rate * factor / (1 - std::pow(options_.beta1, n))),
                          static_cast<float>(options_.beta1),
                          static_cast<float>(options_.beta2),
                          static_cast<float>(1 / std::sqrt(1 - std::pow(options_.beta2, n))),
                          static_cast<float>(options_.epsilon),
                          static_cast<float>(scale)};
    for (size_t i = 0; i < group.values.size(); ++i)
      sweep(group.values[i], group.gradients[i], group.means[i], group.squares[i], sizes);
  }
  for (Leaf& leaf : leaves_) leaf.value.clear_grad();
  return norm;
}

void AdamW::visit_state(const std::function<void(std::span<const float>)>& visit) const {
  for (const Leaf& leaf : leaves_)
    for (const Tensor* part : {&leaf.value, &leaf.mean, &leaf.square}) visit(part->values());
}

std::vector<uint64_t> AdamW::state_counts() const {
  std::vector<uint64_t> counts;
  for (const Leaf& leaf : leaves_) counts.insert(counts.end(), 3, static_cast<uint64_t>(leaf.value.count()));
  return counts;
}

void AdamW::restore(std::span<const std::span<const float>> state, uint64_t steps) {
  WHIT_CHECK(state.size() == state_size());
  size_t at = 0;
  for (Leaf& leaf : leaves_)
    for (Tensor* part : {&leaf.value, &leaf.mean, &leaf.square}) part->assign(Tensor::from(state[at++], part->shape()));
  steps_ = steps;
}

}  // namespace whit
