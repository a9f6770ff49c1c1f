// Inside model/torch: what is done in another way on a CUDA device. This header includes LibTorch. cuda/ implements it in
// the preset cuda; in other builds no tensor is ever on such a device and nothing here is called.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstddef>
#include <functional>
#include <memory>
#include <vector>

#include "model/spec/spec.h"

namespace whit::torch_room {

// Where Tensor::from() puts values, and the type that blocks compute in there: float on the CPU, bfloat16 on CUDA.
at::Device learning_at_device();
at::ScalarType compute_type();
inline bool on_cuda(const at::Tensor& x) { return x.is_cuda(); }

// x / rms(x) * gain over the last dimension, on any device. Differentiable.
at::Tensor rms_norm(const at::Tensor& x, const at::Tensor& gain, double epsilon);

// The norm of a model's blocks and end, over the last dimension; bias is undefined for rms. Differentiable.
at::Tensor norm(NormKind kind, const at::Tensor& x, const at::Tensor& gain, const at::Tensor& bias, double epsilon);
// The rms norms of query and key heads: qkv [n, q + k + v] -> the same shape. Differentiable.
at::Tensor head_norms(const ModelSpec& spec, const at::Tensor& qkv, const at::Tensor& query_gain,
                      const at::Tensor& key_gain);
// [n, gate + up] -> f(gate) * up, or f of all where the model is not gated. Differentiable.
at::Tensor activated(const ModelSpec& spec, const at::Tensor& x);
// What cap_logits() does, and d capped / d y of it as a function of the capped ones (undefined: 1 everywhere).
at::Tensor capped(const ModelSpec& spec, const at::Tensor& logits);
at::Tensor cap_slope(const ModelSpec& spec, const at::Tensor& capped_logits);
// Pairs of the first elements of every head turn by their angles: x [sequences, positions, heads, head_size], cosine and
// sine [positions, 1, dimensions / 2].
at::Tensor turn_pairs(RotaryPairs pairs, const at::Tensor& x, const at::Tensor& cosine, const at::Tensor& sine);
// cos and sin of positions offset, ... of a session of `context` positions, [positions, 1, dimensions / 2] each.
struct Angles {
  at::Tensor cosine, sine;
};
Angles rotary_angles(const RotarySpec& rotary, int64_t offset, int64_t positions, uint64_t context);
// Keys that queries at offset, ... do not see, of `end` keys: [positions, end] of booleans. window 0: only later ones.
at::Tensor unseen_keys(int64_t offset, int64_t positions, int64_t end, uint64_t window, const at::Device& device);

// Rotary positions and causal attention of a block: qkv [sequences * length, q + k + v] -> [.., q]. Differentiable.
at::Tensor cuda_attention(const ModelSpec& spec, uint64_t block, const at::Tensor& qkv, size_t sequences, size_t length);
// softmax(q k^T scale) v without a mask: q [n, h, queries, size], k and v [n, h, keys, size] (any strides but the last).
at::Tensor cuda_decode_attention(const at::Tensor& q, const at::Tensor& k, const at::Tensor& v, double scale);
at::Tensor cuda_rms_norm(const at::Tensor& x, const at::Tensor& gain, double epsilon);
// silu(gate) * up of both [n, 2 width] in bfloat16, gate first. Differentiable.
at::Tensor cuda_silu_multiply(const at::Tensor& both);
// Rows in bfloat16: ratio [n] in float = |x - t|^2 / |t|^2 and, if wanted, pull [n, width] = scale (x - t) / |t|^2.
void cuda_relative_error(const at::Tensor& x, const at::Tensor& t, double scale, bool with_pull, at::Tensor& pull,
                         at::Tensor& ratio);
// a b with sums and result in float.
at::Tensor cuda_matmul_float(const at::Tensor& a, const at::Tensor& b);
// Of logits [n, v] in float: gradient [n, v] in bfloat16 = scale (softmax(student) - softmax(teacher)), and
// KL(teacher || student) per row, [n].
void cuda_kl(const at::Tensor& student, const at::Tensor& teacher, double scale, at::Tensor& gradient, at::Tensor& kl);
// One AdamW step (1711.05101) on all of a group; step counts from 1.
void cuda_adamw(const std::vector<at::Tensor>& values, const std::vector<at::Tensor>& gradients,
                const std::vector<at::Tensor>& means, const std::vector<at::Tensor>& squares, double rate,
                double beta1, double beta2, double epsilon, int64_t step);
// Everything that `body` starts on the device, to be started again as a whole: with the same addresses, so what it reads
// must be kept in place, and nothing in it may wait for the device.
struct Graph;
std::shared_ptr<Graph> record_graph(const std::function<void()>& body);  // does not run it
void replay_graph(Graph& graph);

// Square root of the sum of all squares.
double cuda_norm(const std::vector<at::Tensor>& gradients);

}  // namespace whit::torch_room
