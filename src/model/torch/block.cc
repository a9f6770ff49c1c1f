#include "model/torch/block.h"

#include <algorithm>

#include "base/error.h"
#include "model/torch/attention.h"
#include "model/torch/device.h"
#include "model/torch/gemm.h"

namespace whit {
namespace torch_room {

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
  const auto norm = [&](const std::string& name) {
    const Matrix *gain = find(name + ".weight"), *bias = find(name + ".bias");
    return Norm{gain ? gain->data.data() : nullptr, bias ? bias->data.data() : nullptr};
  };
  attention_norm = norm("attn_norm");
  feed_forward_norm = norm("ffn_norm");
  attention_branch_norm = norm("post_attention_norm");
  feed_forward_branch_norm = norm("post_ffw_norm");
  query_norm = norm("attn_q_norm");
  key_norm = norm("attn_k_norm");
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
  const uint64_t row =
      (spec.branch_norms ? 2 : 1) * spec.width + 2 * query + 2 * key + (spec.gated ? 2 : 1) * spec.feed_forward;
  return sizeof(float) * (tokens * row + static_cast<uint64_t>(pool_threads()) * attention_scratch(length) +
                          length * spec.rotaries.size() * spec.head_size);
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

BlockRunner::BlockRunner(const ModelSpec& spec, size_t context) : spec_(spec) {
  for (const RotarySpec& rotary : spec.rotaries) rotaries_.emplace_back(rotary, spec.pairs, context);
}

void BlockRunner::run(uint64_t block, const BlockWeights& weights, float* x, size_t sequences, size_t length,
                      const InputHook& hook, KeyValueCache* cache, size_t offset) {
  WHIT_CHECK(!cache || sequences == 1);
  const AttentionShape shape(spec_, block);
  const size_t tokens = sequences * length;
  const size_t width = spec_.width, hidden = spec_.feed_forward;
  const auto grow = [](std::vector<float>& buffer, size_t size) {
    if (buffer.size() < size) buffer.resize(size);
    return buffer.data();
  };
  const auto tell = [&](const char* kind, const float* rows, size_t cols) {
    if (hook) hook(kind, MatrixView(rows, tokens, cols, cols));
  };
  const auto normalize = [&](const BlockWeights::Norm& by, const float* from, float* out) {
    run_parallel(tokens, 16, [&](size_t begin, size_t end, int) {
      for (size_t t = begin; t < end; ++t)
        norm(spec_.norm, from + t * width, by.gain, by.bias, width, spec_.norm_epsilon, out + t * width);
    });
  };
  const auto check = [&](const float* values, size_t cols, const char* what) {
    check_activations({values, tokens * cols}, static_cast<int64_t>(block), what);
  };
  float* normed = grow(normed_, tokens * width);
  // What a branch reads; what becomes of its output.
  const auto open = [&](const BlockWeights::Norm& by) {
    if (spec_.norm_after)
      std::copy_n(x, tokens * width, normed);
    else
      normalize(by, x, normed);
    check(normed, width, "norm");
  };
  const auto close = [&](const BlockWeights::Linear& layer, const float* from, const BlockWeights::Norm& branch_norm,
                         const BlockWeights::Norm& after) {
    if (spec_.branch_norms) {
      float* branch = grow(branch_, tokens * width);
      linear(layer, from, tokens, 0.0f, branch);
      check(branch, width, "branch");
      normalize(branch_norm, branch, branch);
      for (size_t i = 0; i < tokens * width; ++i) x[i] += branch[i];
    } else {
      linear(layer, from, tokens, 1.0f, x);
    }
    check(x, width, "sum");
    if (spec_.norm_after) normalize(after, x, x);
  };

  open(weights.attention_norm);
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
  check(query, shape.query_width(), "attn_qkv");
  check(key, shape.key_width(), "attn_qkv");
  check(value, shape.key_width(), "attn_qkv");
  const bool rotated = spec_.rotary_of(block) != nullptr;
  RotaryTable& rotary = rotaries_[spec_.block(block).rotary];
  if (rotated) rotary.extend(offset + length);
  if (rotated || spec_.head_norms)
    run_parallel(tokens, 16, [&](size_t begin, size_t end, int) {
      for (size_t t = begin; t < end; ++t)
        for (const bool is_query : {true, false}) {
          const size_t heads = is_query ? shape.heads : shape.kv_heads;
          float* row = is_query ? query + t * shape.query_width() : key + t * shape.key_width();
          const BlockWeights::Norm& by = is_query ? weights.query_norm : weights.key_norm;
          for (size_t h = 0; spec_.head_norms && h < heads; ++h)
            rms_norm(row + h * shape.head_size, by.gain, shape.head_size, spec_.norm_epsilon,
                     row + h * shape.head_size);
          if (rotated) rotary.rotate(row, heads, shape.head_size, offset + t % length);
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
  close(weights.output, attended, weights.attention_branch_norm, weights.attention_norm);

  open(weights.feed_forward_norm);
  tell(spec_.gated ? "ffn_gate_up" : "ffn_up", normed, width);
  float* up = grow(up_, tokens * hidden);
  linear(weights.up, normed, tokens, 0.0f, up);
  float* gate = up;
  if (spec_.gated) {
    gate = grow(gate_, tokens * hidden);
    linear(weights.gate, normed, tokens, 0.0f, gate);
    check(gate, hidden, "ffn_up");
  }
  check(up, hidden, "ffn_up");
  run_parallel(tokens, 16, [&](size_t begin, size_t end, int) {
    activate(spec_.activation, gate + begin * hidden, spec_.gated ? up + begin * hidden : nullptr,
             (end - begin) * hidden);
  });
  check(gate, hidden, "ffn_down");
  tell("ffn_down", gate, hidden);
  close(weights.down, gate, weights.feed_forward_branch_norm, weights.feed_forward_norm);
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
  if (learning_device() != "cpu")
    return torch_room::run_block_on_device(spec, block, weights, activations, hook);
  const torch_room::BlockWeights parts(spec, block, weights);
  torch_room::BlockRunner runner(spec, length);
  const size_t at_once = torch_room::sequences_at_once(length);
  for (size_t first = 0; first < activations.sequences; first += at_once)
    runner.run(block, parts, activations.values.row(first * length), std::min(at_once, activations.sequences - first), length,
               hook);
}

}  // namespace whit
