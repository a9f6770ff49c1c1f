#include "model/torch/block.h"

#include <algorithm>

#include "base/error.h"
#include "model/torch/attention.h"
#include "model/torch/device.h"
#include "model/torch/gemm.h"

namespace whit {
namespace torch_room {

std::vector<BlockTensor> block_tensors(const ModelSpec& spec, uint64_t block) {
  const std::string prefix = "blk." + std::to_string(block) + ".";
  const uint64_t query = spec.heads * spec.head_size, key = spec.kv_heads * spec.head_size;
  std::vector<BlockTensor> tensors;
  const auto linear = [&](const std::string& name, uint64_t rows, uint64_t cols, bool bias) {
    tensors.push_back({prefix + name + ".weight", {rows, cols}});
    if (bias) tensors.push_back({prefix + name + ".bias", {1, rows}});
  };
  tensors.push_back({prefix + "attn_norm.weight", {1, spec.width}});
  linear("attn_q", query, spec.width, spec.attention_bias);
  linear("attn_k", key, spec.width, spec.attention_bias);
  linear("attn_v", key, spec.width, spec.attention_bias);
  linear("attn_output", spec.width, query, spec.attention_bias);
  tensors.push_back({prefix + "ffn_norm.weight", {1, spec.width}});
  if (spec.gated) linear("ffn_gate", spec.feed_forward, spec.width, spec.feed_forward_bias);
  linear("ffn_up", spec.feed_forward, spec.width, spec.feed_forward_bias);
  linear("ffn_down", spec.width, spec.feed_forward, spec.feed_forward_bias);
  return tensors;
}

size_t sequences_at_once(size_t length) noexcept { return std::max<size_t>(1, 1024 / std::max<size_t>(1, length)); }

BlockWeights::BlockWeights(const ModelSpec& spec, uint64_t block, const DenseWeights& weights) {
  for (const auto& [name, shape] : block_tensors(spec, block)) {
    const auto found = weights.find(name);
    if (found == weights.end()) throw Error(ErrorKind::input, "a tensor of the block is missing", name);
    const Matrix& m = found->second;
    if (m.rows != shape.rows || m.cols != shape.cols)
      throw Error(ErrorKind::input, "a tensor of the block has another shape than the model's description", name,
                  std::to_string(m.rows) + " x " + std::to_string(m.cols) + " instead of " +
                      std::to_string(shape.rows) + " x " + std::to_string(shape.cols));
  }
  const std::string prefix = "blk." + std::to_string(block) + ".";
  const auto find = [&](const std::string& name) -> const Matrix* {
    const auto found = weights.find(prefix + name);
    return found == weights.end() ? nullptr : &found->second;
  };
  const auto linear = [&](const std::string& name) {
    const Matrix* bias = find(name + ".bias");
    return Linear{find(name + ".weight"), bias ? bias->data.data() : nullptr};
  };
  attention_norm = find("attn_norm.weight")->data.data();
  feed_forward_norm = find("ffn_norm.weight")->data.data();
  query = linear("attn_q");
  key = linear("attn_k");
  value = linear("attn_v");
  output = linear("attn_output");
  if (spec.gated) gate = linear("ffn_gate");
  up = linear("ffn_up");
  down = linear("ffn_down");
}

uint64_t BlockRunner::bytes(const ModelSpec& spec, size_t tokens, size_t length) {
  const uint64_t query = spec.heads * spec.head_size, key = spec.kv_heads * spec.head_size;
  const uint64_t row = spec.width + 2 * query + 2 * key + (spec.gated ? 2 : 1) * spec.feed_forward;
  return sizeof(float) * (tokens * row + static_cast<uint64_t>(pool_threads()) * attention_scratch(length) +
                          length * spec.rotary.dimensions);
}

void BlockRunner::linear(const BlockWeights::Linear& layer, const float* x, size_t tokens, float beta,
                         float* out) const {
  const Matrix& w = *layer.weight;
  const int64_t rows = static_cast<int64_t>(w.rows), cols = static_cast<int64_t>(w.cols);
  parallel_gemm(static_cast<int64_t>(tokens), rows, cols, 1.0f, {x, cols, 1}, {w.data.data(), 1, cols}, beta, out,
                rows);
  if (layer.bias)
    for (size_t t = 0; t < tokens; ++t)
      for (size_t i = 0; i < w.rows; ++i) out[t * w.rows + i] += layer.bias[i];
}

void BlockRunner::run(const BlockWeights& weights, float* x, size_t sequences, size_t length, const InputHook& hook,
                      KeyValueCache* cache, size_t offset) {
  WHIT_CHECK(!cache || sequences == 1);
  const AttentionShape shape(spec_);
  const size_t tokens = sequences * length;
  const size_t width = spec_.width, hidden = spec_.feed_forward;
  const auto grow = [](std::vector<float>& buffer, size_t size) {
    if (buffer.size() < size) buffer.resize(size);
    return buffer.data();
  };
  const auto tell = [&](const char* kind, const float* rows, size_t cols) {
    if (hook) hook(kind, MatrixView(rows, tokens, cols, cols));
  };
  const auto norm = [&](const float* gain, float* out) {
    run_parallel(tokens, 16, [&](size_t begin, size_t end, int) {
      for (size_t t = begin; t < end; ++t) rms_norm(x + t * width, gain, width, spec_.norm_epsilon, out + t * width);
    });
  };

  float* normed = grow(normed_, tokens * width);
  norm(weights.attention_norm, normed);
  tell("attn_qkv", normed, width);

  float* query = grow(query_, tokens * shape.query_width());
  float* key;
  float* value;
  if (cache) {
    cache->keys.resize((offset + length) * shape.key_width());
    cache->values.resize((offset + length) * shape.key_width());
    key = cache->keys.data() + offset * shape.key_width();
    value = cache->values.data() + offset * shape.key_width();
  } else {
    key = grow(key_, tokens * shape.key_width());
    value = grow(value_, tokens * shape.key_width());
  }
  linear(weights.query, normed, tokens, 0.0f, query);
  linear(weights.key, normed, tokens, 0.0f, key);
  linear(weights.value, normed, tokens, 0.0f, value);
  rotary_.extend(offset + length);
  run_parallel(tokens, 16, [&](size_t begin, size_t end, int) {
    for (size_t t = begin; t < end; ++t) {
      const size_t position = offset + t % length;
      rotary_.rotate(query + t * shape.query_width(), shape.heads, shape.head_size, position);
      rotary_.rotate(key + t * shape.key_width(), shape.kv_heads, shape.head_size, position);
    }
  });

  float* attended = grow(attended_, tokens * shape.query_width());
  std::vector<AttentionSequence> work(sequences);
  for (size_t s = 0; s < sequences; ++s) {
    const size_t first = s * length;
    work[s] = {length,
               offset,
               query + first * shape.query_width(),
               cache ? cache->keys.data() : key + first * shape.key_width(),
               cache ? cache->values.data() : value + first * shape.key_width(),
               attended + first * shape.query_width()};
  }
  attention_forward(shape, work);
  tell("attn_output", attended, shape.query_width());
  linear(weights.output, attended, tokens, 1.0f, x);

  norm(weights.feed_forward_norm, normed);
  tell(spec_.gated ? "ffn_gate_up" : "ffn_up", normed, width);
  float* up = grow(up_, tokens * hidden);
  linear(weights.up, normed, tokens, 0.0f, up);
  float* gate = up;
  if (spec_.gated) {
    gate = grow(gate_, tokens * hidden);
    linear(weights.gate, normed, tokens, 0.0f, gate);
  }
  run_parallel(tokens, 16, [&](size_t begin, size_t end, int) {
    silu_multiply(gate + begin * hidden, spec_.gated ? up + begin * hidden : nullptr, (end - begin) * hidden);
  });
  tell("ffn_down", gate, hidden);
  linear(weights.down, gate, tokens, 1.0f, x);
}

}  // namespace torch_room

uint64_t block_scratch_bytes(const ModelSpec& spec, uint64_t length) {
  return torch_room::BlockRunner::bytes(spec, torch_room::sequences_at_once(length) * length, length);
}

void run_block(const ModelSpec& spec, uint64_t block, const DenseWeights& weights, Activations& activations,
               const InputHook& hook) {
  WHIT_CHECK(activations.values.rows == activations.sequences * activations.length);
  WHIT_CHECK(activations.values.cols == spec.width);
  const size_t length = activations.length;
  if (length == 0) return;
  if (learning_device() != "cpu" && spec.sliding_window == 0)
    return torch_room::run_block_on_device(spec, block, weights, activations, hook);
  const torch_room::BlockWeights parts(spec, block, weights);
  torch_room::BlockRunner runner(spec);
  const size_t at_once = torch_room::sequences_at_once(length);
  for (size_t first = 0; first < activations.sequences; first += at_once)
    runner.run(parts, activations.values.row(first * length), std::min(at_once, activations.sequences - first), length,
               hook);
}

}  // namespace whit
