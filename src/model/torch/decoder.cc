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

#include <algorithm>
#include <cmath>

#include "base/error.h"
#include "model/torch/device_ops.h"
#include "model/torch/executor.h"
#include "model/torch/rotation.h"
#include "model/torch/tensor_impl.h"
#include "model/torch/weights.h"

namespace whit::torch_room {

at::Tensor Decoder::Linear::operator()(const at::Tensor& x) const {
  const at::Tensor y = at::matmul(x, weight.t());
  return bias.defined() ? y + bias : y;
}

Decoder::Decoder(const Model& model, at::ScalarType type)
    : spec_(model.spec), type_(type), stream_type_(learning_at_device().is_cpu() ? at::kFloat : type) {
  const NoGrad guard;
  const auto copied = [](const Matrix& m, at::ScalarType to) {
    return at::from_blob(const_cast<float*>(m.data.data()),
                         {static_cast<int64_t>(m.rows), static_cast<int64_t>(m.cols)})
        .to(learning_at_device(), to, /*non_blocking=*/false, /*copy=*/true);
  };
  const auto constant = [&](const Matrix& m) { return copied(m, type_); };
  const auto gain = [&](const Matrix& m) { return copied(m, stream_type_); };
  embedding_ = constant(unpack(model, "token_embd.weight", {spec_.vocabulary, spec_.width}));
  norm_ = gain(unpack(model, "output_norm.weight", {1, spec_.width}));
  output_ = spec_.tied_output ? embedding_ : constant(unpack(model, "output.weight", {spec_.vocabulary, spec_.width}));
  if (spec_.stream_rotation) stream_ = unwrap(rotation_matrix(*spec_.stream_rotation)).to(learning_at_device(), stream_type_);
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
    blocks_.push_back({gain(weights.at(prefix + "attn_norm.weight")), gain(weights.at(prefix + "ffn_norm.weight")),
                       linear({"attn_q", "attn_k", "attn_v"}), linear({"attn_output"}),
                       spec_.gated ? linear({"ffn_gate", "ffn_up"}) : linear({"ffn_up"}), linear({"ffn_down"})});
  }
}

Decoder::Cache Decoder::open(int64_t sequences, int64_t context) const {
  Cache cache;
  cache.rows = sequences * static_cast<int64_t>(spec_.kv_heads);
  cache.context = context;
  const auto options = at::TensorOptions(type_).device(learning_at_device());
  for (size_t block = 0; block < blocks_.size(); ++block)
    for (auto* part : {&cache.keys, &cache.values})
      part->push_back(at::empty({cache.rows * context * static_cast<int64_t>(spec_.head_size)}, options));
  if (!learning_at_device().is_cpu()) cache.room = context;  // its kernel takes any strides
  return cache;
}

at::Tensor Decoder::part(const at::Tensor& flat, const Cache& cache) const {
  const auto size = static_cast<int64_t>(spec_.head_size);
  return flat.narrow(0, 0, cache.rows * cache.room * size).view({cache.rows, cache.room, size});
}

// Moves rows apart; what is new is 0, since softmax gives it the weight 0 and 0 times what happens to be there may be NaN.
void Decoder::make_room(Cache& cache, int64_t positions) const {
  constexpr int64_t kStep = 64;  // positions: a few moves, a few shapes of products
  if (positions <= cache.room) return;
  const int64_t before = cache.room, after = std::min(cache.context, (positions + kStep - 1) / kStep * kStep);
  for (auto* parts : {&cache.keys, &cache.values})
    for (at::Tensor& flat : *parts) {
      cache.room = before;
      const at::Tensor old = part(flat, cache).clone();
      cache.room = after;
      const at::Tensor wider = part(flat, cache);
      wider.narrow(1, 0, before).copy_(old);
      wider.narrow(1, before, after - before).zero_();
    }
}

at::Tensor Decoder::normed(const at::Tensor& x, const at::Tensor& gain) const {
  return rms_norm(x, gain, spec_.norm_epsilon).to(type_);
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
  WHIT_CHECK(end <= cache.context);
  make_room(cache, end);
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
  at::Tensor x = embedding_.index_select(0, ids.reshape({-1})).to(stream_type_);
  if (stream_.defined()) x = at::matmul(x, stream_);  // rows: (R^T x)^T = x^T R
  // [sequences, positions, h, size] -> [sequences * kv, h / kv * positions, size]
  const auto by_kv_head = [&](const at::Tensor& part) {
    const int64_t group = part.size(2) / kv;
    return part.unflatten(2, {kv, group}).permute({0, 2, 3, 1, 4}).reshape({sequences * kv, group * positions, size});
  };
  for (size_t index = 0; index < blocks_.size(); ++index) {
    const Block& block = blocks_[index];
    const at::Tensor all = block.qkv(normed(x, block.attention_norm))
                               .view({sequences, positions, heads + 2 * kv, size});
    const at::Tensor turned = rotated(all.narrow(2, 0, heads + kv), turn);
    const at::Tensor keys = part(cache.keys[index], cache), values = part(cache.values[index], cache);
    keys.narrow(1, offset, positions).copy_(by_kv_head(turned.narrow(2, heads, kv)));
    values.narrow(1, offset, positions).copy_(by_kv_head(all.narrow(2, heads + kv, kv)));
    const at::Tensor query = by_kv_head(turned.narrow(2, 0, heads));
    at::Tensor attended;  // [sequences * kv, h / kv * positions, size]
    if (on_cuda(query) && !hidden_from.defined()) {
      const auto split = [&](const at::Tensor& part) { return part.unflatten(0, {sequences, kv}); };
      attended = cuda_decode_attention(split(query), split(keys.narrow(1, 0, end)), split(values.narrow(1, 0, end)), scale);
    } else {
      at::Tensor scores = at::matmul(query * scale, keys.transpose(1, 2));  // of all that there is room for
      scores.narrow(2, end, cache.room - end).fill_(-INFINITY);
      if (hidden_from.defined())
        scores.narrow(2, 0, end)
            .unflatten(1, {heads / kv, positions})
            .masked_fill_(hidden_from, -INFINITY);
      attended = at::matmul(at::softmax(scores, -1), values);
    }
    attended = attended.reshape({sequences, kv, heads / kv, positions, size})
                   .permute({0, 3, 1, 2, 4})
                   .reshape({sequences * positions, heads * size});
    x = x + block.output(attended);
    const at::Tensor both = block.gate_up(normed(x, block.feed_forward_norm)).to(stream_type_);
    const at::Tensor active =
        spec_.gated ? at::silu(both.narrow(1, 0, hidden)) * both.narrow(1, hidden, hidden) : at::silu(both);
    x = x + block.down(active.to(type_));
  }
  cache.used = end;
  if (stream_.defined()) x = at::matmul(x, stream_.t());
  return normed(x, norm_);
}

at::Tensor Decoder::logits(const at::Tensor& hidden) const {
  const NoGrad guard;
  return on_cuda(hidden) ? cuda_matmul_float(hidden, output_.t()) : at::matmul(hidden, output_.t()).to(at::kFloat);
}

}  // namespace whit::torch_room
