// What the learning side does in another way on a CUDA device; LibTorch 2 only.
#include "model/torch/device_ops.h"

#include <ATen/Context.h>
#include <ATen/TensorOperators.h>
#include <ATen/ops/_foreach_norm.h>
#include <ATen/ops/_fused_adamw.h>
#include <ATen/ops/arange.h>
#include <ATen/ops/cat.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/from_blob.h>
#include <ATen/ops/full.h>
#include <ATen/ops/full_like.h>
#include <ATen/ops/mm.h>
#include <ATen/ops/polar.h>
#include <ATen/ops/rms_norm.h>
#include <ATen/ops/scaled_dot_product_attention.h>
#include <ATen/ops/stack.h>
#include <ATen/ops/view_as_complex.h>
#include <ATen/ops/view_as_real.h>
#include <ATen/cuda/CUDAGraph.h>
#include <c10/cuda/CUDACachingAllocator.h>
#include <c10/cuda/CUDAFunctions.h>
#include <c10/cuda/CUDAGuard.h>
#include <c10/cuda/CUDAStream.h>
#include <cuda_runtime_api.h>

#include <cmath>
#include <mutex>

#include "base/error.h"
#include "model/torch/cuda/device.h"
#include "model/torch/cuda/kl.h"

namespace whit::torch_room {
namespace {

// cos + i sin of every position and pair, [length, 1, half]; made once per model and length.
at::Tensor rotary_table(const ModelSpec& spec, int64_t length) {
  static std::mutex mutex;
  static at::Tensor table;
  static std::vector<double> made_for;
  static double made_factor = 0;
  const std::vector<double> frequencies = spec.inverse_frequencies();
  const std::lock_guard lock(mutex);
  if (!table.defined() || table.size(0) < length || made_for != frequencies ||
      made_factor != spec.rotary.attention_factor) {
    const at::Tensor angles =
        at::arange(length, at::kDouble).unsqueeze(1) * at::from_blob(const_cast<double*>(frequencies.data()), {static_cast<int64_t>(frequencies.size())}, at::kDouble).unsqueeze(0);
    const at::Tensor scaled = at::polar(at::full_like(angles, spec.rotary.attention_factor), angles);
    table = scaled.to(at::kComplexFloat).unsqueeze(1).to(learning_at_device());
    made_for = frequencies;
    made_factor = spec.rotary.attention_factor;
  }
  return table.narrow(0, 0, length);
}

// Pairs (2i, 2i + 1) of the rotated part of every head: x [sequences, length, heads, head_size].
at::Tensor rotated(const ModelSpec& spec, const at::Tensor& x, const at::Tensor& table) {
  const int64_t size = x.size(-1), turned = static_cast<int64_t>(spec.rotary.dimensions);
  const at::Tensor part = turned == size ? x : x.narrow(-1, 0, turned);
  const at::Tensor pairs = at::view_as_complex(part.to(at::kFloat).contiguous().unflatten(-1, {turned / 2, 2}));
  const at::Tensor out = at::view_as_real(pairs * table).flatten(-2).to(x.scalar_type());
  return turned == size ? out : at::cat({out, x.narrow(-1, turned, size - turned)}, -1);
}

}  // namespace

bool cuda_is_there() { return c10::cuda::device_count() > 0; }

std::string cuda_name() {
  cudaDeviceProp properties;
  return cudaGetDeviceProperties(&properties, 0) == cudaSuccess ? properties.name : "cuda";
}

void cuda_synchronize() { c10::cuda::device_synchronize(); }

uint64_t cuda_peak_bytes() {
  const auto stats = c10::cuda::CUDACachingAllocator::getDeviceStats(0);
  return static_cast<uint64_t>(stats.allocated_bytes[0].peak);
}

at::Tensor cuda_attention(const ModelSpec& spec, const at::Tensor& qkv, size_t sequences, size_t length) {
  const auto s = static_cast<int64_t>(sequences), l = static_cast<int64_t>(length);
  const auto heads = static_cast<int64_t>(spec.heads), kv = static_cast<int64_t>(spec.kv_heads),
             size = static_cast<int64_t>(spec.head_size);
  if (spec.sliding_window != 0)
    throw Error(ErrorKind::usage, "a sliding window cannot be learned on CUDA yet", spec.family, "", "--device cpu");
  const at::Tensor table = rotary_table(spec, l);
  const at::Tensor all = qkv.view({s, l, heads + 2 * kv, size});
  const at::Tensor turned = rotated(spec, all.narrow(2, 0, heads + kv), table);
  const at::Tensor q = turned.narrow(2, 0, heads).transpose(1, 2), k = turned.narrow(2, heads, kv).transpose(1, 2);
  const at::Tensor v = all.narrow(2, heads + kv, kv).transpose(1, 2);
  const at::Tensor out = at::scaled_dot_product_attention(q, k, v, {}, 0.0, /*is_causal=*/true, std::nullopt,
                                                          /*enable_gqa=*/heads != kv);
  return out.transpose(1, 2).reshape({s * l, heads * size});
}

at::Tensor cuda_decode_attention(const at::Tensor& q, const at::Tensor& k, const at::Tensor& v, double scale) {
  // cuDNN would plan anew for every number of keys.
  auto& context = at::globalContext();
  const bool before = context.userEnabledCuDNNSDP();
  context.setSDPUseCuDNN(false);
  const at::Tensor out = at::scaled_dot_product_attention(q, k, v, {}, 0.0, /*is_causal=*/false, scale);
  context.setSDPUseCuDNN(before);
  return out;
}

at::Tensor cuda_rms_norm(const at::Tensor& x, const at::Tensor& gain, double epsilon) {
  return at::rms_norm(x, {x.size(-1)}, gain.to(x.scalar_type()), epsilon);
}

at::Tensor cuda_matmul_float(const at::Tensor& a, const at::Tensor& b) {
  return a.scalar_type() == at::kFloat ? at::mm(a, b) : at::mm(a, b, at::kFloat);
}

void cuda_kl(const at::Tensor& student, const at::Tensor& teacher, double scale, at::Tensor& gradient, at::Tensor& kl) {
  gradient = at::empty(student.sizes(), student.options().dtype(at::kBFloat16));
  kl = at::empty({student.size(0)}, student.options());
  const int error = launch_kl(student.data_ptr<float>(), teacher.data_ptr<float>(), static_cast<float>(scale),
                              gradient.data_ptr(), kl.data_ptr<float>(), student.size(0), student.size(1),
                              c10::cuda::getCurrentCUDAStream().stream());
  if (error != 0)
    throw Error(ErrorKind::internal, "a CUDA kernel could not be started", "kl",
                cudaGetErrorString(static_cast<cudaError_t>(error)));
}

void cuda_adamw(const std::vector<at::Tensor>& values, const std::vector<at::Tensor>& gradients,
                const std::vector<at::Tensor>& means, const std::vector<at::Tensor>& squares, double rate,
                double beta1, double beta2, double epsilon, int64_t step) {
  std::vector<at::Tensor> steps;
  const at::Tensor count = at::full({}, static_cast<double>(step), values.at(0).options());
  steps.assign(values.size(), count);
  at::_fused_adamw_(values, gradients, means, squares, {}, steps, rate, beta1, beta2, /*weight_decay=*/0.0, epsilon,
                    /*amsgrad=*/false, /*maximize=*/false);
}

struct Graph {
  at::cuda::CUDAGraph graph;
};

std::shared_ptr<Graph> record_graph(const std::function<void()>& body) {
  auto recorded = std::make_shared<Graph>();
  // The recording gets memory of its own; what earlier steps left in the cache would be there twice.
  c10::cuda::device_synchronize();
  c10::cuda::CUDACachingAllocator::emptyCache();
  {
    const c10::cuda::CUDAStreamGuard own(c10::cuda::getStreamFromPool());
    recorded->graph.capture_begin();
    body();
    recorded->graph.capture_end();
  }
  c10::cuda::device_synchronize();
  return recorded;
}

void replay_graph(Graph& graph) { graph.graph.replay(); }

double cuda_norm(const std::vector<at::Tensor>& gradients) {
  const std::vector<at::Tensor> norms = at::_foreach_norm(gradients, 2);
  return at::stack(norms).norm().item<double>();
}

}  // namespace whit::torch_room
