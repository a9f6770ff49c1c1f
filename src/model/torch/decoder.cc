#include "model/torch/decoder.h"

#include <ATen/TensorOperators.h>
#include <ATen/ops/cat.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/from_blob.h>
#include <ATen/ops/matmul.h>
#include <ATen/ops/softmax.h>

#include <algorithm>
#include <cmath>
#include <map>

#include "base/error.h"
#include "model/spec/scorer.h"
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
  const auto vector = [&](const Matrix& m) { return copied(m, stream_type_); };
  embedding_ = constant(unpack(model, "token_embd.weight", {spec_.vocabulary, spec_.embedded()}));
  if (spec_.projects()) {
    project_in_ = constant(unpack(model, "project_in.weight", {spec_.width, spec_.embedding_width}));
    project_out_ = constant(unpack(model, "project_out.weight", {spec_.embedding_width, spec_.width}));
  }
  if (spec_.positions == PositionKind::learned)
    positions_ = vector(unpack(model, "position_embd.weight", {spec_.context + spec_.position_offset, spec_.width}));
  if (spec_.final_norm) norm_.gain = vector(unpack(model, "output_norm.weight", {1, spec_.width}));
  if (spec_.final_norm && spec_.norm == NormKind::layer)
    norm_.bias = vector(unpack(model, "output_norm.bias", {1, spec_.width}));
  output_ = spec_.tied_output ? embedding_ : constant(unpack(model, "output.weight", {spec_.vocabulary, spec_.embedded()}));
  if (spec_.stream_rotation) stream_ = unwrap(rotation_matrix(*spec_.stream_rotation)).to(learning_at_device(), stream_type_);
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
    const auto norm = [&](const char* name) {
      const auto part = [&](const char* kind) {
        const auto found = weights.find(prefix + name + kind);
        return found == weights.end() ? at::Tensor() : vector(found->second);
      };
      return Norm{part(".weight"), part(".bias")};
    };
    blocks_.push_back({norm("attn_norm"), norm("ffn_norm"), norm("post_attention_norm"), norm("post_ffw_norm"),
                       norm("attn_q_norm"), norm("attn_k_norm"), linear({"attn_q", "attn_k", "attn_v"}),
                       linear({"attn_output"}), spec_.gated ? linear({"ffn_gate", "ffn_up"}) : linear({"ffn_up"}),
                       linear({"ffn_down"})});
  }
}

at::Tensor Decoder::normed(const Norm& by, const at::Tensor& x) const {
  return norm(spec_.norm, x, by.gain, by.bias, spec_.norm_epsilon);
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

at::Tensor Decoder::forward(const at::Tensor& ids, Cache& cache) const {
  const NoGrad guard;
  const int64_t sequences = ids.size(0), positions = ids.size(1), offset = cache.used, end = offset + positions;
  const auto heads = static_cast<int64_t>(spec_.heads), kv = static_cast<int64_t>(spec_.kv_heads),
             size = static_cast<int64_t>(spec_.head_size);
  WHIT_CHECK(end <= cache.context);
  make_room(cache, end);
  // A single position sees all that is there, unless some of it has left the window. By window and by rotary base once.
  std::map<uint64_t, at::Tensor> masks;
  const auto mask_of = [&](uint64_t window) -> at::Tensor {
    if (positions == 1 && (window == 0 || static_cast<uint64_t>(end) <= window)) return {};
    at::Tensor& mask = masks[window];
    if (!mask.defined()) mask = unseen_keys(offset, positions, end, window, ids.device());
    return mask;
  };
  std::vector<Angles> angles;
  if (spec_.positions == PositionKind::rotary)
    for (const RotarySpec& rotary : spec_.rotaries)
      angles.push_back(rotary_angles(rotary, offset, positions, static_cast<uint64_t>(cache.context)));
  at::Tensor x = embedding_.index_select(0, ids.reshape({-1})).to(stream_type_);
  if (spec_.embedding_scale != 1) x = x * spec_.embedding_scale;
  if (project_in_.defined()) x = at::matmul(x.to(type_), project_in_.t()).to(stream_type_);
  if (positions_.defined()) {
    (void)learned_row(spec_, static_cast<uint64_t>(end) - 1);
    const at::Tensor rows =
        positions_.narrow(0, static_cast<int64_t>(learned_row(spec_, static_cast<uint64_t>(offset))), positions);
    x = (x.view({sequences, positions, x.size(1)}) + rows).reshape({sequences * positions, x.size(1)});
  }
  if (stream_.defined()) x = at::matmul(x, stream_);  // rows: (R^T x)^T = x^T R
  // [sequences, positions, h, size] -> [sequences * kv, h / kv * positions, size]
  const auto by_kv_head = [&](const at::Tensor& part) {
    const int64_t group = part.size(2) / kv;
    return part.unflatten(2, {kv, group}).permute({0, 2, 3, 1, 4}).reshape({sequences * kv, group * positions, size});
  };
  for (size_t index = 0; index < blocks_.size(); ++index) {
    const Block& block = blocks_[index];
    const auto open = [&](const Norm& by) { return spec_.norm_after ? x : normed(by, x); };
    const auto close = [&](const at::Tensor& out, const Norm& branch_norm, const Norm& after) {
      x = x + (spec_.branch_norms ? normed(branch_norm, out.to(stream_type_)) : out);
      if (spec_.norm_after) x = normed(after, x);
    };
    at::Tensor rows = block.qkv(open(block.attention_norm).to(type_));
    if (spec_.head_norms)
      rows = head_norms(spec_, rows.to(stream_type_), block.query_norm.gain, block.key_norm.gain).to(type_);
    const at::Tensor all = rows.view({sequences, positions, heads + 2 * kv, size});
    at::Tensor turned = all.narrow(2, 0, heads + kv);
    if (spec_.rotary_of(index)) {
      const Angles& turn = angles.at(spec_.block(index).rotary);
      turned = turn_pairs(spec_.pairs, turned, turn.cosine, turn.sine);
    }
    const at::Tensor keys = part(cache.keys[index], cache), values = part(cache.values[index], cache);
    keys.narrow(1, offset, positions).copy_(by_kv_head(turned.narrow(2, heads, kv)));
    values.narrow(1, offset, positions).copy_(by_kv_head(all.narrow(2, heads + kv, kv)));
    const at::Tensor query = by_kv_head(turned.narrow(2, 0, heads));
    const double scale = spec_.scale(index);
    const at::Tensor hidden_from = mask_of(spec_.block(index).window);
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
    close(block.output(attended), block.attention_branch_norm, block.attention_norm);
    const at::Tensor both = block.gate_up(open(block.feed_forward_norm).to(type_)).to(stream_type_);
    close(block.down(activated(spec_, both).to(type_)), block.feed_forward_branch_norm, block.feed_forward_norm);
  }
  cache.used = end;
  if (stream_.defined()) x = at::matmul(x, stream_.t());
  if (spec_.final_norm) x = normed(norm_, x);
  x = x.to(type_);
  return project_out_.defined() ? at::matmul(x, project_out_.t()) : x;
}

at::Tensor Decoder::logits(const at::Tensor& hidden) const {
  const NoGrad guard;
  return capped(
      spec_, on_cuda(hidden) ? cuda_matmul_float(hidden, output_.t()) : at::matmul(hidden, output_.t()).to(at::kFloat));
}

}  // namespace whit::torch_room
