// What the learning side does in another way on a CUDA device; LibTorch 2 only.
#include "model/torch/device_ops.h"

#include <ATen/Context.h>
#include <ATen/TensorOperators.h>
#include <ATen/ops/_foreach_norm.h>
#include <ATen/ops/_fused_adamw.h>
#include <ATen/ops/_scaled_dot_product_flash_attention.h>
#include <ATen/ops/_scaled_dot_product_flash_attention_backward.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/empty_like.h>
#include <ATen/ops/full.h>
#include <ATen/ops/linalg_cholesky_ex.h>
#include <ATen/ops/mm.h>
#include <ATen/ops/rms_norm.h>
#include <ATen/ops/scaled_dot_product_attention.h>
#include <ATen/ops/stack.h>
#include <ATen/cuda/CUDAGraph.h>
#include <c10/cuda/CUDACachingAllocator.h>
#include <c10/cuda/CUDAFunctions.h>
#include <c10/cuda/CUDAGuard.h>
#include <c10/cuda/CUDAStream.h>
#include <cuda_runtime_api.h>
#include <torch/csrc/autograd/custom_function.h>

#include <algorithm>
#include <atomic>
#include <cmath>
#include <exception>
#include <map>
#include <mutex>
#include <thread>

#include "base/error.h"
#include "model/torch/cuda/device.h"
#include "model/torch/cuda/elementwise.h"
#include "model/torch/cuda/kl.h"

namespace whit::torch_room {
namespace {

// (cos, sin) of every position and pair of a block, [length, half, 2]; made once per base and length, since a recorded
// step must find it where it was. No rotation: half is 0.
at::Tensor rotary_table(const ModelSpec& spec, uint64_t block, int64_t length) {
  struct Made {
    std::vector<double> frequencies;
    double factor;
    int64_t length;
    at::Tensor table;
  };
  static std::mutex mutex;
  static std::vector<Made> all;
  const RotarySpec* rotary = spec.rotary_of(block);
  const std::vector<double> frequencies =
      rotary ? rotary->inverse_frequencies(static_cast<uint64_t>(length)) : std::vector<double>();
  const double factor = rotary ? rotary->attention_factor : 1.0;
  const std::lock_guard lock(mutex);
  for (const Made& made : all)
    if (made.length == length && made.factor == factor && made.frequencies == frequencies) return made.table;
  at::Tensor table;
  if (rotary) {
    const Angles angles = rotary_angles(*rotary, 0, length, static_cast<uint64_t>(length));
    table = at::stack({angles.cosine.squeeze(1), angles.sine.squeeze(1)}, -1).contiguous();
  } else {
    table = at::empty({length, 0, 2}, at::TensorOptions(at::kFloat).device(learning_at_device()));
  }
  all.push_back({frequencies, factor, length, table});
  return table;
}

// unseen_keys() turned around, [length, length], made once like the table above.
at::Tensor window_mask(uint64_t window, int64_t length, const at::Device& device) {
  static std::mutex mutex;
  static std::map<std::pair<uint64_t, int64_t>, at::Tensor> all;
  const std::lock_guard lock(mutex);
  at::Tensor& mask = all[{window, length}];
  if (!mask.defined()) mask = unseen_keys(0, length, length, window, device).logical_not();
  return mask;
}

void* stream_now() { return c10::cuda::getCurrentCUDAStream().stream(); }

void started(int error, const char* kernel) {
  if (error != 0)
    throw Error(ErrorKind::internal, "a CUDA kernel could not be started", kernel,
                cudaGetErrorString(static_cast<cudaError_t>(error)));
}

class SiluMultiply : public torch::autograd::Function<SiluMultiply> {
 public:
  static at::Tensor forward(torch::autograd::AutogradContext* context, const at::Tensor& gate_and_up) {
    const at::Tensor both = gate_and_up.contiguous();
    context->save_for_backward({both});
    at::Tensor out = at::empty({both.size(0), both.size(1) / 2}, both.options());
    started(launch_silu_multiply(both.data_ptr(), out.data_ptr(), both.size(0), out.size(1), stream_now()), "silu");
    return out;
  }
  static torch::autograd::variable_list backward(torch::autograd::AutogradContext* context,
                                                 torch::autograd::variable_list gradients) {
    const at::Tensor both = context->get_saved_variables().at(0), given = gradients.at(0).contiguous();
    at::Tensor gradient = at::empty_like(both);
    started(launch_silu_multiply_backward(both.data_ptr(), given.data_ptr(), gradient.data_ptr(), both.size(0),
                                          given.size(1), stream_now()),
            "silu, backwards");
    return {gradient};
  }
};

// Rotary positions and flash attention (2307.08691, LibTorch's) on whole rows of q, k and v.
class FlashAttention : public torch::autograd::Function<FlashAttention> {
 public:
  static at::Tensor forward(torch::autograd::AutogradContext* context, const at::Tensor& rows, const at::Tensor& angles,
                            int64_t length, int64_t heads, int64_t kv, bool halves, double scale) {
    const at::Tensor qkv = rows.contiguous();
    const int64_t size = qkv.size(1) / (heads + 2 * kv), s = qkv.size(0) / length;
    const RotaryShape shape{qkv.size(0), length, heads, kv, size, angles.size(-2), halves};
    at::Tensor turned = at::empty_like(qkv);
    const auto at_head = [&](int64_t head) { return static_cast<const char*>(qkv.data_ptr()) + 2 * head * size; };
    started(launch_rotary(at_head(0), qkv.size(1), at_head(heads), qkv.size(1), at_head(heads + kv), qkv.size(1),
                          angles.data_ptr<float>(), false, turned.data_ptr(), shape, stream_now()),
            "rotary");
    const at::Tensor all = turned.view({s, length, heads + 2 * kv, size});
    const auto [q, k, v] = parts(all, heads, kv);
    auto [out, sums, cq, ck, mq, mk, seed, offset, mask] =
        at::_scaled_dot_product_flash_attention(q, k, v, 0.0, /*is_causal=*/true, /*return_debug_mask=*/false, scale);
    context->save_for_backward({turned, angles, out, sums, seed, offset});
    context->saved_data["length"] = length;
    context->saved_data["heads"] = heads;
    context->saved_data["kv"] = kv;
    context->saved_data["halves"] = halves;
    context->saved_data["scale"] = scale;
    return out.transpose(1, 2).reshape({s * length, heads * size});
  }

  static torch::autograd::variable_list backward(torch::autograd::AutogradContext* context,
                                                 torch::autograd::variable_list gradients) {
    const auto saved = context->get_saved_variables();
    const at::Tensor &turned = saved.at(0), &angles = saved.at(1);
    const int64_t length = context->saved_data["length"].toInt(), heads = context->saved_data["heads"].toInt(),
                  kv = context->saved_data["kv"].toInt();
    const int64_t size = turned.size(1) / (heads + 2 * kv), s = turned.size(0) / length;
    const auto [q, k, v] = parts(turned.view({s, length, heads + 2 * kv, size}), heads, kv);
    const at::Tensor given = gradients.at(0).contiguous().view({s, length, heads, size}).transpose(1, 2);
    const auto [dq, dk, dv] = at::_scaled_dot_product_flash_attention_backward(
        given, q, k, v, saved.at(2), saved.at(3), at::Tensor(), at::Tensor(), length, length, 0.0,
        /*is_causal=*/true, saved.at(4), saved.at(5), context->saved_data["scale"].toDouble());
    const auto flat = [&](const at::Tensor& x) { return x.transpose(1, 2).contiguous(); };
    const at::Tensor a = flat(dq), b = flat(dk), c = flat(dv);
    at::Tensor gradient = at::empty_like(turned);
    const RotaryShape shape{turned.size(0), length, heads, kv, size, angles.size(-2), context->saved_data["halves"].toBool()};
    started(launch_rotary(a.data_ptr(), heads * size, b.data_ptr(), kv * size, c.data_ptr(), kv * size,
                          angles.data_ptr<float>(), true, gradient.data_ptr(), shape, stream_now()),
            "rotary, backwards");
    return {gradient, at::Tensor(), at::Tensor(), at::Tensor(), at::Tensor(), at::Tensor(), at::Tensor()};
  }

 private:
  static std::tuple<at::Tensor, at::Tensor, at::Tensor> parts(const at::Tensor& all, int64_t heads, int64_t kv) {
    return {all.narrow(2, 0, heads).transpose(1, 2), all.narrow(2, heads, kv).transpose(1, 2),
            all.narrow(2, heads + kv, kv).transpose(1, 2)};
  }
};

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

at::Tensor cuda_attention(const ModelSpec& spec, uint64_t block, const at::Tensor& qkv, size_t sequences,
                          size_t length) {
  const auto s = static_cast<int64_t>(sequences), l = static_cast<int64_t>(length);
  const auto heads = static_cast<int64_t>(spec.heads), kv = static_cast<int64_t>(spec.kv_heads),
             size = static_cast<int64_t>(spec.head_size);
  const at::Tensor table = rotary_table(spec, block, l);
  const uint64_t window = spec.block(block).window;
  const bool windowed = window != 0 && window < length;
  // What LibTorch's flash kernel takes without padding; it knows no window.
  if (qkv.scalar_type() == at::kBFloat16 && size % 8 == 0 && size <= 256 && !windowed)
    return FlashAttention::apply(qkv, table, l, heads, kv, spec.pairs == RotaryPairs::halves, spec.scale(block));
  const at::Tensor all = qkv.view({s, l, heads + 2 * kv, size});
  at::Tensor turned = all.narrow(2, 0, heads + kv);
  if (table.size(1) > 0)
    turned = turn_pairs(spec.pairs, turned, table.select(-1, 0).unsqueeze(1), table.select(-1, 1).unsqueeze(1));
  const at::Tensor q = turned.narrow(2, 0, heads).transpose(1, 2), k = turned.narrow(2, heads, kv).transpose(1, 2);
  const at::Tensor v = all.narrow(2, heads + kv, kv).transpose(1, 2);
  std::optional<at::Tensor> seen;
  if (windowed) seen = window_mask(window, l, qkv.device());
  const at::Tensor out = at::scaled_dot_product_attention(q, k, v, seen, 0.0, /*is_causal=*/!windowed, spec.scale(block),
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

at::Tensor cuda_silu_multiply(const at::Tensor& both) {
  WHIT_CHECK(both.scalar_type() == at::kBFloat16);
  return SiluMultiply::apply(both);
}

void cuda_relative_error(const at::Tensor& x, const at::Tensor& t, double scale, bool with_pull, at::Tensor& pull,
                         at::Tensor& ratio) {
  WHIT_CHECK(x.scalar_type() == at::kBFloat16 && t.scalar_type() == at::kBFloat16 && x.sizes() == t.sizes());
  const at::Tensor a = x.contiguous(), b = t.contiguous();
  ratio = at::empty({x.size(0)}, x.options().dtype(at::kFloat));
  if (with_pull) pull = at::empty_like(a);
  started(launch_relative_error(a.data_ptr(), b.data_ptr(), static_cast<float>(scale),
                                with_pull ? pull.data_ptr() : nullptr, ratio.data_ptr<float>(), x.size(0), x.size(1),
                                stream_now()),
          "relative error");
}

at::Tensor cuda_matmul_float(const at::Tensor& a, const at::Tensor& b) {
  return a.scalar_type() == at::kFloat ? at::mm(a, b) : at::mm(a, b, at::kFloat);
}

void cuda_kl(const at::Tensor& student, const at::Tensor& teacher, double scale, at::Tensor& gradient, at::Tensor& kl) {
  gradient = at::empty(student.sizes(), student.options().dtype(at::kBFloat16));
  kl = at::empty({student.size(0)}, student.options());
  started(launch_kl(student.data_ptr<float>(), teacher.data_ptr<float>(), static_cast<float>(scale),
                    gradient.data_ptr(), kl.data_ptr<float>(), student.size(0), student.size(1), stream_now()),
          "kl");
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

void cuda_side_by_side(size_t count, size_t threads, const std::function<void(size_t)>& body) {
  // The first call of the library of linear algebra loads it, which must not happen in two threads at once.
  (void)at::linalg_cholesky_ex(at::full({1, 1}, 1.0, at::TensorOptions(at::kFloat).device(learning_at_device())));
  std::atomic<size_t> next{0};
  std::mutex mutex;
  std::exception_ptr failure;
  std::vector<std::thread> workers;
  for (size_t w = 0; w < std::min(threads, count); ++w)
    workers.emplace_back([&] {
      const c10::cuda::CUDAStreamGuard own(c10::cuda::getStreamFromPool());
      try {
        for (size_t i = next++; i < count; i = next++) body(i);
      } catch (...) {
        next = count;
        const std::lock_guard lock(mutex);
        if (!failure) failure = std::current_exception();
      }
    });
  for (std::thread& worker : workers) worker.join();
  if (failure) std::rethrow_exception(failure);
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
