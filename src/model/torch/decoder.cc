#include "model/torch/decoder.h"

#include <ATen/TensorOperators.h>
#include <ATen/ops/arange.h>
#include <ATen/ops/cat.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/from_blob.h>
#include <ATen/ops/matmul.h>
#include <ATen/ops/silu.h>
#include <ATen/ops/softmax.h>
#include <ATen/ops/stack.h>

#include <cmath>

#include "base/error.h"
#include "model/torch/device_ops.h"
#include "model/torch/executor.h"
#include "model/torch/rotation.h"
#include "model/torch/tensor_impl.h"
#include "model/torch/weights.h"

namespace whit::torch_room {

at::Tensor Decoder::Linear::operator()(const at::Tensor& x) const {
  const at::Tensor y = multiplied(x, weight.t());
  return bias.defined() ? y + bias : y;
}

Decoder::Decoder(const Model& model, at::ScalarType type) : spec_(model.spec), type_(type) {
  const NoGrad guard;
  const auto constant = [&](const Matrix& m) {
    return at::from_blob(const_cast<float*>(m.data.data()),
                         {static_cast<int64_t>(m.rows), static_cast<int64_t>(m.cols)})
        .to(learning_at_device(), type, /*non_blocking=*/false, /*copy=*/true);
  };
  embedding_ = constant(unpack(model, "token_embd.weight", {spec_.vocabulary, spec_.width}));
  norm_ = constant(unpack(model, "output_norm.weight", {1, spec_.width}));
  output_ = spec_.tied_output ? embedding_ : constant(unpack(model, "output.weight", {spec_.vocabulary, spec_.width}));
  if (spec_.stream_rotation) stream_ = unwrap(rotation_matrix(*spec_.stream_rotation)).to(learning_at_device(), type);
  std::vector<double> frequencies = spec_.inverse_frequencies();
  frequencies_ = at::from_blob(frequencies.data(), {static_cast<int64_t>(frequencies.size())}, at::kDouble).clone();
  for (uint64_t index = 0; index < spec_.layers; ++index) {
    const DenseWeights weights = load_block(model, index);
    const std::string prefix = "blk." + std::to_string(index) + ".";
    const auto linear = [&](std::initializer_list<const char*> members) {
      std::vector<at::Tensor> matrices, biases;
      for (const char* member : members) {
        matrices.push_back(constant(weights.at(prefix + member + ".weight")));
        const auto bias = weights.find(prefix + member + ".bias");
        if (bias != weights.end()) biases.push_back(constant(bias->second).reshape({-1}));
      }
      return Linear{at::cat(matrices, 0), biases.empty() ? at::Tensor() : at::cat(biases, 0)};
    };
    blocks_.push_back({constant(weights.at(prefix + "attn_norm.weight")), constant(weights.at(prefix + "ffn_norm.weight")),
                       linear({"attn_q", "attn_k", "attn_v"}), linear({"attn_output"}),
                       spec_.gated ? linear({"ffn_gate", "ffn_up"}) : linear({"ffn_up"}), linear({"ffn_down"})});
  }
}

Decoder::Cache Decoder::open(int64_t sequences, int64_t context) const {
  Cache cache;
  const auto options = at::TensorOptions(type_).device(learning_at_device());
  for (size_t block = 0; block < blocks_.size(); ++block)
    for (auto* part : {&cache.keys, &cache.values})
      part->push_back(at::empty({sequences * static_cast<int64_t>(spec_.kv_heads), context,
                                 static_cast<int64_t>(spec_.head_size)},
                                options));
  return cache;
}

// cos and sin of position * frequency, [positions, 1, dimensions / 2] each.
Decoder::Angles Decoder::angles(int64_t offset, int64_t positions) const {
  const at::Tensor angles = (at::arange(offset, offset + positions, at::kDouble).unsqueeze(1) * frequencies_).unsqueeze(1);
  const auto on_device = [&](const at::Tensor& values) {
    return (values * spec_.rotary.attention_factor).to(at::kFloat).to(learning_at_device());
  };
  return {on_device(angles.cos()), on_device(angles.sin())};
}

// x [sequences, positions, heads, head_size]: the pairs (2i, 2i + 1) turn by their angles.
at::Tensor Decoder::rotated(const at::Tensor& x, const Angles& angles) const {
  const int64_t size = x.size(-1), turned = static_cast<int64_t>(spec_.rotary.dimensions);
  const at::Tensor pairs = x.narrow(-1, 0, turned).to(at::kFloat).unflatten(-1, {turned / 2, 2});
  const at::Tensor a = pairs.select(-1, 0), b = pairs.select(-1, 1);
  const at::Tensor out =
      at::stack({a * angles.cosine - b * angles.sine, a * angles.sine + b * angles.cosine}, -1).flatten(-2).to(x.scalar_type());
  return turned == size ? out : at::cat({out, x.narrow(-1, turned, size - turned)}, -1);
}

at::Tensor Decoder::forward(const at::Tensor& ids, Cache& cache) const {
  const NoGrad guard;
  const int64_t sequences = ids.size(0), positions = ids.size(1), offset = cache.used, end = offset + positions;
  const auto heads = static_cast<int64_t>(spec_.heads), kv = static_cast<int64_t>(spec_.kv_heads),
             size = static_cast<int64_t>(spec_.head_size), hidden = static_cast<int64_t>(spec_.feed_forward);
  WHIT_CHECK(end <= cache.keys.at(0).size(1));
  const double scale = 1 / std::sqrt(static_cast<double>(size));
  // Position p sees itself, what is before it, and not what has left the window; a single position sees all that is there.
  at::Tensor hidden_from;
  const auto window = static_cast<int64_t>(spec_.sliding_window);
  if (positions > 1 || (window > 0 && end > window)) {
    const at::Tensor query = at::arange(offset, end).unsqueeze(1), key = at::arange(end).unsqueeze(0);
    at::Tensor outside = key > query;
    if (window > 0) outside = outside.logical_or(key <= query - window);
    hidden_from = outside.to(ids.device());
  }
  const Angles turn = angles(offset, positions);
  at::Tensor x = embedding_.index_select(0, ids.reshape({-1}));
  if (stream_.defined()) x = multiplied(x, stream_);  // rows: (R^T x)^T = x^T R
  // [sequences, positions, h, size] -> [sequences * kv, h / kv * positions, size]
  const auto by_kv_head = [&](const at::Tensor& part) {
    const int64_t group = part.size(2) / kv;
    return part.unflatten(2, {kv, group}).permute({0, 2, 3, 1, 4}).reshape({sequences * kv, group * positions, size});
  };
  for (size_t index = 0; index < blocks_.size(); ++index) {
    const Block& block = blocks_[index];
    const at::Tensor all = block.qkv(rms_norm(x, block.attention_norm, spec_.norm_epsilon))
                               .view({sequences, positions, heads + 2 * kv, size});
    const at::Tensor turned = rotated(all.narrow(2, 0, heads + kv), turn);
    cache.keys[index].narrow(1, offset, positions).copy_(by_kv_head(turned.narrow(2, heads, kv)));
    cache.values[index].narrow(1, offset, positions).copy_(by_kv_head(all.narrow(2, heads + kv, kv)));
    const at::Tensor query = by_kv_head(turned.narrow(2, 0, heads));
    const at::Tensor key = cache.keys[index].narrow(1, 0, end), value = cache.values[index].narrow(1, 0, end);
    at::Tensor attended;  // [sequences * kv, h / kv * positions, size]
    if (on_cuda(query) && !hidden_from.defined()) {
      const auto split = [&](const at::Tensor& part) { return part.unflatten(0, {sequences, kv}); };
      attended = cuda_decode_attention(split(query), split(key), split(value), scale);
    } else {
      at::Tensor scores = at::matmul(query * scale, key.transpose(1, 2));
      if (hidden_from.defined())
        scores.view({sequences * kv, heads / kv, positions, end}).masked_fill_(hidden_from, -INFINITY);
      attended = at::matmul(at::softmax(scores, -1), value);
    }
    attended = attended.reshape({sequences, kv, heads / kv, positions, size})
                   .permute({0, 3, 1, 2, 4})
                   .reshape({sequences * positions, heads * size});
    x = x + block.output(attended);
    const at::Tensor both = block.gate_up(rms_norm(x, block.feed_forward_norm, spec_.norm_epsilon));
    x = x + block.down(spec_.gated ? at::silu(both.narrow(1, 0, hidden)) * both.narrow(1, hidden, hidden)
                                   : at::silu(both));
  }
  cache.used = end;
  if (stream_.defined()) x = multiplied(x, stream_.t());
  return rms_norm(x, norm_, spec_.norm_epsilon);
}

at::Tensor Decoder::logits(const at::Tensor& hidden) const {
  const NoGrad guard;
  return on_cuda(hidden) ? cuda_matmul_float(hidden, output_.t()) : multiplied(hidden, output_.t()).to(at::kFloat);
}

}  // namespace whit::torch_room
