// Small random blocks of every kind that a ModelSpec can say, and a plain double-precision block to hold ours against.
#pragma once

#include <algorithm>
#include <cmath>
#include <string>
#include <vector>

#include "base/rng.h"
#include "model/torch/executor.h"

namespace whit {

struct BlockCase {
  std::string name;
  ModelSpec spec;
};

inline std::vector<BlockCase> block_cases() {
  ModelSpec plain;
  plain.layers = 2;
  plain.width = 24;
  plain.heads = 4;
  plain.kv_heads = 4;
  plain.head_size = 6;
  plain.feed_forward = 40;
  plain.vocabulary = 32;
  plain.context = 512;
  plain.rotaries[0].dimensions = 6;
  std::vector<BlockCase> cases = {{"plain", plain}};
  ModelSpec spec = plain;
  spec.kv_heads = 2;
  cases.push_back({"grouped", spec});
  spec.kv_heads = 1;
  spec.head_size = 8;  // heads * head_size != width
  spec.rotaries[0].dimensions = 4;
  spec.rotaries[0].theta = 500.0;
  spec.rotaries[0].attention_factor = 1.25;
  cases.push_back({"partly rotated", spec});
  spec.pairs = RotaryPairs::halves;
  spec.head_norms = true;
  cases.push_back({"halves and norms of heads", spec});
  spec = plain;
  spec.blocks.resize(2);
  for (BlockSpec& block : spec.blocks) block.window = 5;
  spec.attention_scale = 0.3;
  cases.push_back({"window", spec});
  spec.rotaries.push_back(spec.rotaries[0]);
  spec.rotaries[1].theta = 100.0;
  for (BlockSpec& block : spec.blocks) block.rotary = 1;
  spec.branch_norms = true;
  spec.activation = Activation::gelu_tanh;
  cases.push_back({"window with its own rotary base and norms of branches", spec});
  spec = plain;
  spec.biases = {"attn_q", "attn_k", "attn_v", "attn_output", "ffn_gate", "ffn_up", "ffn_down"};
  cases.push_back({"biases", spec});
  spec.biases = {"attn_q", "attn_k", "attn_v"};
  spec.blocks.resize(2);
  for (BlockSpec& block : spec.blocks) block.rotated = false;
  cases.push_back({"some biases and not rotated", spec});
  spec = plain;
  spec.gated = false;
  cases.push_back({"not gated", spec});
  spec.activation = Activation::relu;
  cases.push_back({"relu", spec});
  spec.norm = NormKind::layer;
  spec.activation = Activation::gelu_tanh;
  spec.positions = PositionKind::learned;
  spec.biases = {"attn_q", "attn_k", "attn_v", "attn_output", "ffn_up", "ffn_down"};
  cases.push_back({"layer norms", spec});
  spec.norm_after = true;
  spec.activation = Activation::gelu;
  cases.push_back({"layer norms after the sums", spec});
  return cases;
}

inline DenseWeights random_block(const ModelSpec& spec, uint64_t block, uint64_t seed) {
  Rng rng(seed);
  DenseWeights weights;
  for (const auto& [name, shape] : block_tensors(spec, block)) {
    const bool norm = name.ends_with("norm.weight"), bias = name.ends_with(".bias");
    const double mean = norm ? 1.0 : 0.0;
    const double spread = norm ? 0.2 : bias ? 0.3 : 1.0 / std::sqrt(static_cast<double>(shape.cols));
    Matrix m(shape.rows, shape.cols);
    for (float& v : m.data) v = static_cast<float>(mean + spread * rng.normal());
    weights.emplace(name, std::move(m));
  }
  return weights;
}

inline Activations random_activations(size_t sequences, size_t length, size_t width, uint64_t seed) {
  Rng rng(seed);
  Activations a{sequences, length, Matrix(sequences * length, width)};
  for (float& v : a.values.data) v = static_cast<float>(rng.normal());
  return a;
}

// One sequence through one block, straight from the formulas. x: [length, width].
inline std::vector<double> reference_block(const ModelSpec& spec, uint64_t block, const DenseWeights& weights,
                                           std::vector<double> x) {
  using Rows = std::vector<double>;
  const size_t width = spec.width, length = x.size() / width;
  const auto tensor = [&](const std::string& name) { return &weights.at("blk." + std::to_string(block) + "." + name); };
  // Rows of `size` numbers, normed each.
  const auto norm_of = [&](const Rows& in, const std::string& name, size_t size, NormKind kind) {
    Rows out(in.size());
    const double n = static_cast<double>(size);
    for (size_t at = 0; at < in.size(); at += size) {
      double mean = 0, square = 0;
      for (size_t i = 0; kind == NormKind::layer && i < size; ++i) mean += in[at + i] / n;
      for (size_t i = 0; i < size; ++i) square += (in[at + i] - mean) * (in[at + i] - mean) / n;
      for (size_t i = 0; i < size; ++i)
        out[at + i] = (in[at + i] - mean) / std::sqrt(square + spec.norm_epsilon) * tensor(name + ".weight")->data[i] +
                      (kind == NormKind::layer ? tensor(name + ".bias")->data[i] : 0.0f);
    }
    return out;
  };
  const auto norm = [&](const Rows& in, const std::string& name) { return norm_of(in, name, width, spec.norm); };
  const auto linear = [&](const Rows& in, const std::string& name) {
    const Matrix& w = *tensor(name + ".weight");
    const auto bias = weights.find("blk." + std::to_string(block) + "." + name + ".bias");
    Rows out(length * w.rows);
    for (size_t t = 0; t < length; ++t)
      for (size_t o = 0; o < w.rows; ++o) {
        double sum = bias == weights.end() ? 0.0 : bias->second.data[o];
        for (size_t i = 0; i < w.cols; ++i) sum += in[t * w.cols + i] * w.row(o)[i];
        out[t * w.rows + o] = sum;
      }
    return out;
  };
  const RotarySpec* rotary = spec.rotary_of(block);
  const std::vector<double> frequencies = rotary ? rotary->inverse_frequencies() : std::vector<double>();
  const auto rotate = [&](Rows& rows, size_t heads) {
    for (size_t t = 0; t < length; ++t)
      for (size_t h = 0; h < heads; ++h)
        for (size_t i = 0; i < frequencies.size(); ++i) {
          double* head = rows.data() + (t * heads + h) * spec.head_size;
          const bool halves = spec.pairs == RotaryPairs::halves;
          double &first = head[halves ? i : 2 * i], &second = head[halves ? i + frequencies.size() : 2 * i + 1];
          const double angle = static_cast<double>(t) * frequencies[i];
          const double c = std::cos(angle) * rotary->attention_factor;
          const double s = std::sin(angle) * rotary->attention_factor;
          const double a = first, b = second;
          first = a * c - b * s;
          second = a * s + b * c;
        }
  };
  const Rows normed = spec.norm_after ? x : norm(x, "attn_norm");
  Rows q = linear(normed, "attn_q"), k = linear(normed, "attn_k");
  const Rows v = linear(normed, "attn_v");
  if (spec.head_norms) {
    q = norm_of(q, "attn_q_norm", spec.head_size, NormKind::rms);
    k = norm_of(k, "attn_k_norm", spec.head_size, NormKind::rms);
  }
  rotate(q, spec.heads);
  rotate(k, spec.kv_heads);
  const size_t d = spec.head_size;
  Rows attended(length * spec.heads * d, 0.0);
  for (size_t h = 0; h < spec.heads; ++h)
    for (size_t t = 0; t < length; ++t) {
      const size_t kv = h / (spec.heads / spec.kv_heads);
      Rows p(t + 1, 0.0);
      double total = 0;
      for (size_t j = 0; j <= t; ++j) {
        if (const size_t window = spec.block(block).window; window != 0 && t - j >= window) continue;
        double score = 0;
        for (size_t i = 0; i < d; ++i) score += q[(t * spec.heads + h) * d + i] * k[(j * spec.kv_heads + kv) * d + i];
        p[j] = std::exp(score * (spec.attention_scale != 0 ? spec.attention_scale : 1 / std::sqrt(static_cast<double>(d))));
        total += p[j];
      }
      for (size_t j = 0; j <= t; ++j)
        for (size_t i = 0; i < d; ++i)
          attended[(t * spec.heads + h) * d + i] += p[j] / total * v[(j * spec.kv_heads + kv) * d + i];
    }
  const auto close = [&](Rows out, const std::string& branch_norm, const std::string& after) {
    if (spec.branch_norms) out = norm(out, branch_norm);
    for (size_t i = 0; i < x.size(); ++i) x[i] += out[i];
    if (spec.norm_after) x = norm(x, after);
  };
  close(linear(attended, "attn_output"), "post_attention_norm", "attn_norm");
  const Rows second = spec.norm_after ? x : norm(x, "ffn_norm");
  const auto activation = [&](double v) {
    switch (spec.activation) {
      case Activation::silu: return v / (1.0 + std::exp(-v));
      case Activation::relu: return std::max(v, 0.0);
      case Activation::gelu: return 0.5 * v * (1.0 + std::erf(v / std::sqrt(2.0)));
      case Activation::gelu_tanh:
        return 0.5 * v * (1.0 + std::tanh(std::sqrt(2.0 / 3.14159265358979323846) * (v + 0.044715 * v * v * v)));
    }
    return v;
  };
  Rows hidden = linear(second, "ffn_up");
  if (spec.gated) {
    const Rows gate = linear(second, "ffn_gate");
    for (size_t i = 0; i < hidden.size(); ++i) hidden[i] *= activation(gate[i]);
  } else {
    for (double& h : hidden) h = activation(h);
  }
  close(linear(hidden, "ffn_down"), "post_ffw_norm", "ffn_norm");
  return x;
}

}  // namespace whit
