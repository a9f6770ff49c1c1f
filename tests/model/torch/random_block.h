// Small random blocks of every kind that a ModelSpec can say, and a plain double-precision block to hold ours against.
#pragma once

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
  plain.rotary.dimensions = 6;
  std::vector<BlockCase> cases = {{"plain", plain}};
  ModelSpec spec = plain;
  spec.kv_heads = 2;
  cases.push_back({"grouped", spec});
  spec.kv_heads = 1;
  spec.head_size = 8;  // heads * head_size != width
  spec.rotary.dimensions = 4;
  spec.rotary.theta = 500.0;
  spec.rotary.attention_factor = 1.25;
  cases.push_back({"partly rotated", spec});
  spec = plain;
  spec.sliding_window = 5;
  cases.push_back({"window", spec});
  spec = plain;
  spec.attention_bias = spec.feed_forward_bias = true;
  cases.push_back({"biases", spec});
  spec = plain;
  spec.gated = false;
  cases.push_back({"not gated", spec});
  return cases;
}

inline DenseWeights random_block(const ModelSpec& spec, uint64_t block, uint64_t seed) {
  Rng rng(seed);
  DenseWeights weights;
  const auto add = [&](const std::string& name, uint64_t rows, uint64_t cols, double mean, double spread) {
    Matrix m(rows, cols);
    for (float& v : m.data) v = static_cast<float>(mean + spread * rng.normal());
    weights.emplace("blk." + std::to_string(block) + "." + name, std::move(m));
  };
  const uint64_t query = spec.heads * spec.head_size, key = spec.kv_heads * spec.head_size;
  const auto linear = [&](const std::string& name, uint64_t rows, uint64_t cols, bool bias) {
    add(name + ".weight", rows, cols, 0.0, 1.0 / std::sqrt(static_cast<double>(cols)));
    if (bias) add(name + ".bias", 1, rows, 0.0, 0.3);
  };
  add("attn_norm.weight", 1, spec.width, 1.0, 0.2);
  add("ffn_norm.weight", 1, spec.width, 1.0, 0.2);
  linear("attn_q", query, spec.width, spec.attention_bias);
  linear("attn_k", key, spec.width, spec.attention_bias);
  linear("attn_v", key, spec.width, spec.attention_bias);
  linear("attn_output", spec.width, query, spec.attention_bias);
  if (spec.gated) linear("ffn_gate", spec.feed_forward, spec.width, spec.feed_forward_bias);
  linear("ffn_up", spec.feed_forward, spec.width, spec.feed_forward_bias);
  linear("ffn_down", spec.width, spec.feed_forward, spec.feed_forward_bias);
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
  const auto norm = [&](const Rows& in, const std::string& name) {
    Rows out(in.size());
    for (size_t t = 0; t < length; ++t) {
      double mean = 0;
      for (size_t i = 0; i < width; ++i) mean += in[t * width + i] * in[t * width + i] / static_cast<double>(width);
      for (size_t i = 0; i < width; ++i)
        out[t * width + i] =
            in[t * width + i] / std::sqrt(mean + spec.norm_epsilon) * tensor(name + ".weight")->data[i];
    }
    return out;
  };
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
  const std::vector<double> frequencies = spec.inverse_frequencies();
  const auto rotate = [&](Rows& rows, size_t heads) {
    for (size_t t = 0; t < length; ++t)
      for (size_t h = 0; h < heads; ++h)
        for (size_t i = 0; i < frequencies.size(); ++i) {
          double* pair = rows.data() + (t * heads + h) * spec.head_size + 2 * i;
          const double angle = static_cast<double>(t) * frequencies[i];
          const double c = std::cos(angle) * spec.rotary.attention_factor;
          const double s = std::sin(angle) * spec.rotary.attention_factor;
          const double even = pair[0], odd = pair[1];
          pair[0] = even * c - odd * s;
          pair[1] = even * s + odd * c;
        }
  };
  const Rows normed = norm(x, "attn_norm");
  Rows q = linear(normed, "attn_q"), k = linear(normed, "attn_k");
  const Rows v = linear(normed, "attn_v");
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
        if (spec.sliding_window != 0 && t - j >= spec.sliding_window) continue;
        double score = 0;
        for (size_t i = 0; i < d; ++i) score += q[(t * spec.heads + h) * d + i] * k[(j * spec.kv_heads + kv) * d + i];
        p[j] = std::exp(score / std::sqrt(static_cast<double>(d)));
        total += p[j];
      }
      for (size_t j = 0; j <= t; ++j)
        for (size_t i = 0; i < d; ++i)
          attended[(t * spec.heads + h) * d + i] += p[j] / total * v[(j * spec.kv_heads + kv) * d + i];
    }
  const Rows output = linear(attended, "attn_output");
  for (size_t i = 0; i < x.size(); ++i) x[i] += output[i];
  const Rows second = norm(x, "ffn_norm");
  Rows hidden = linear(second, "ffn_up");
  if (spec.gated) {
    const Rows gate = linear(second, "ffn_gate");
    for (size_t i = 0; i < hidden.size(); ++i) hidden[i] *= gate[i] / (1.0 + std::exp(-gate[i]));
  } else {
    for (double& h : hidden) h = h / (1.0 + std::exp(-h));
  }
  const Rows down = linear(hidden, "ffn_down");
  for (size_t i = 0; i < x.size(); ++i) x[i] += down[i];
  return x;
}

}  // namespace whit
