#include "model/torch/decoder.h"

#include <ATen/TensorOperators.h>
#include <ATen/ops/cat.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/from_blob.h>
#include <ATen/ops/matmul.h>
#include <ATen/ops/softmax.h>

#include <cmath>
#include <map>

#include "base/error.h"
#include "model/torch/device_ops.h"
#include "model/torch/executor.h"
#include "model/torch/rotation.h"
#include "model/torch/tensor_impl.h"
#include "model/spec/scorer.h"
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
  embedding_ = constant(unpack(model, "token_embd.weight", {spec_.vocabulary, spec_.embedded()}));
  if (spec_.projects()) {
    project_in_ = constant(unpack(model, "project_in.weight", {spec_.width, spec_.embedding_width}));
    project_out_ = constant(unpack(model, "project_out.weight", {spec_.embedding_width, spec_.width}));
  }
  if (spec_.positions == PositionKind::learned)
    positions_ = constant(unpack(model, "position_embd.weight", {spec_.context + spec_.position_offset, spec_.width}));
  if (!spec_.norm_after) norm_.gain = constant(unpack(model, "output_norm.weight", {1, spec_.width}));
  if (!spec_.norm_after && spec_.norm == NormKind::layer)
    norm_.bias = constant(unpack(model, "output_norm.bias", {1, spec_.width}));
  output_ = spec_.tied_output ? embedding_ : constant(unpack(model, "output.weight", {spec_.vocabulary, spec_.embedded()}));
  if (spec_.stream_rotation) stream_ = unwrap(rotation_matrix(*spec_.stream_rotation)).to(learning_at_device(), type);
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
      const auto vector = [&](const char* kind) {
        const auto found = weights.find(prefix + name + kind);
        return found == weights.end() ? at::Tensor() : constant(found->second);
      };
      return Norm{vector(".weight"), vector(".bias")};
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
  cache.context = context;
  const auto options = at::TensorOptions(type_).device(learning_at_device());
  for (size_t block = 0; block < blocks_.size(); ++block)
    for (auto* part : {&cache.keys, &cache.values})
      part->push_back(at::empty({sequences * static_cast<int64_t>(spec_.kv_heads), context,
                                 static_cast<int64_t>(spec_.head_size)},
                                options));
  return cache;
}

at::Tensor Decoder::forward(const at::Tensor& ids, Cache& cache) const {
  const NoGrad guard;
  const int64_t sequences = ids.size(0), positions = ids.size(1), offset = cache.used, end = offset + positions;
  const auto heads = static_cast<int64_t>(spec_.heads), kv = static_cast<int64_t>(spec_.kv_heads),
             size = static_cast<int64_t>(spec_.head_size);
  WHIT_CHECK(end <= cache.keys.at(0).size(1));
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
  at::Tensor x = embedding_.index_select(0, ids.reshape({-1}));
  if (spec_.embedding_scale != 1) x = x * spec_.embedding_scale;
  if (project_in_.defined()) x = multiplied(x, project_in_.t());
  if (positions_.defined()) {
    (void)learned_row(spec_, static_cast<uint64_t>(end) - 1);
    const at::Tensor rows =
        positions_.narrow(0, static_cast<int64_t>(learned_row(spec_, static_cast<uint64_t>(offset))), positions);
    x = (x.view({sequences, positions, x.size(1)}) + rows).reshape({sequences * positions, x.size(1)});
  }
  if (stream_.defined()) x = multiplied(x, stream_);  // rows: (R^T x)^T = x^T R
  // [sequences, positions, h, size] -> [sequences * kv, h / kv * positions, size]
  const auto by_kv_head = [&](const at::Tensor& part) {
    const int64_t group = part.size(2) / kv;
    return part.unflatten(2, {kv, group}).permute({0, 2, 3, 1, 4}).reshape({sequences * kv, group * positions, size});
  };
  for (size_t index = 0; index < blocks_.size(); ++index) {
    const Block& block = blocks_[index];
    const auto open = [&](const Norm& by) { return spec_.norm_after ? x : normed(by, x); };
    const auto close = [&](const at::Tensor& out, const Norm& branch_norm, const Norm& after) {
      x = x + (spec_.branch_norms ? normed(branch_norm, out) : out);
      if (spec_.norm_after) x = normed(after, x);
    };
    at::Tensor rows = block.qkv(open(block.attention_norm));
    if (spec_.head_norms) rows = head_norms(spec_, rows, block.query_norm.gain, block.key_norm.gain);
    const at::Tensor all = rows.view({sequences, positions, heads + 2 * kv, size});
    at::Tensor turned = all.narrow(2, 0, heads + kv);
    if (spec_.rotary_of(index)) {
      const Angles& turn = angles.at(spec_.block(index).rotary);
      turned = turn_pairs(spec_.pairs, turned, turn.cosine, turn.sine);
    }
    cache.keys[index].narrow(1, offset, positions).copy_(by_kv_head(turned.narrow(2, heads, kv)));
    cache.values[index].narrow(1, offset, positions).copy_(by_kv_head(all.narrow(2, heads + kv, kv)));
    const at::Tensor query = by_kv_head(turned.narrow(2, 0, heads));
    const at::Tensor key = cache.keys[index].narrow(1, 0, end), value = cache.values[index].narrow(1, 0, end);
    const double scale = spec_.scale(index);
    const at::Tensor hidden_from = mask_of(spec_.block(index).window);
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
    close(block.output(attended), block.attention_branch_norm, block.attention_norm);
    close(block.down(activated(spec_, block.gate_up(open(block.feed_forward_norm)))), block.feed_forward_branch_norm,
          block.feed_forward_norm);
  }
  cache.used = end;
  if (stream_.defined()) x = multiplied(x, stream_.t());
  if (!spec_.norm_after) x = normed(norm_, x);
  return project_out_.defined() ? multiplied(x, project_out_.t()) : x;
}

at::Tensor Decoder::logits(const at::Tensor& hidden) const {
  const NoGrad guard;
  return on_cuda(hidden) ? cuda_matmul_float(hidden, output_.t()) : multiplied(hidden, output_.t()).to(at::kFloat);
}

}  // namespace whit::torch_room
