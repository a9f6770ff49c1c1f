#include "model/spec/spec.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>

#include "base/error.h"

namespace whit {

std::vector<double> RotarySpec::inverse_frequencies(uint64_t context) const {
  const std::vector<float>& divisors =
      !long_divisors.empty() && context > original_context ? long_divisors : frequency_divisors;
  std::vector<double> inverse(dimensions / 2);
  const auto d = static_cast<double>(dimensions);
  double base = theta;
  if (dynamic_factor != 1 && context > original_context && dimensions > 2) {
    const double longer = static_cast<double>(context) / static_cast<double>(original_context);
    base *= std::pow(dynamic_factor * longer - (dynamic_factor - 1), d / (d - 2));
  }
  WHIT_CHECK(divisors.empty() || divisors.size() == inverse.size());
  for (size_t i = 0; i < inverse.size(); ++i) {
    inverse[i] = std::pow(base, -2.0 * static_cast<double>(i) / d);
    if (!divisors.empty()) inverse[i] /= static_cast<double>(divisors[i]);
  }
  return inverse;
}

const RotarySpec* ModelSpec::rotary_of(uint64_t index) const {
  const BlockSpec one = block(index);
  return positions == PositionKind::rotary && one.rotated ? &rotaries.at(one.rotary) : nullptr;
}

double ModelSpec::scale(uint64_t index) const {
  return block(index).attention_scale *
         (attention_scale != 0 ? attention_scale : 1 / std::sqrt(static_cast<double>(head_size)));
}

uint64_t ModelSpec::longest_context() const {
  const bool stretched = positions == PositionKind::rotary && rotaries.at(0).dynamic_factor > 1;
  // Not more than 2^31: a file may say any factor.
  return stretched ? static_cast<uint64_t>(std::min(static_cast<double>(context) * rotaries[0].dynamic_factor, 0x1p31))
                   : context;
}

bool ModelSpec::has_bias(std::string_view linear) const {
  return std::find(biases.begin(), biases.end(), linear) != biases.end();
}

uint64_t ModelSpec::weights() const {
  uint64_t sum = 0;
  for (const TensorSpec& tensor : end_tensors(*this)) sum += tensor.shape.count();
  if (layers == 0) return sum;
  for (const TensorSpec& tensor : block_tensors(*this, 0)) sum += layers * tensor.shape.count();  // all blocks are alike
  return sum;
}

void cap_logits(const ModelSpec& spec, std::span<float> logits) {
  if (spec.logit_cap == 0) return;
  const auto cap = static_cast<float>(spec.logit_cap);
  for (float& y : logits) y = cap * std::tanh(y / cap);
}

std::vector<UnitSpec> units_of(const ModelSpec& spec) {
  std::vector<UnitSpec> units;
  const auto add = [&](int64_t block, std::string kind, std::vector<std::string> members, std::vector<uint64_t> rows,
                       uint64_t cols) {
    const std::string prefix = block < 0 ? "" : fmt::format("blk.{}.", block);
    UnitSpec unit;
    unit.name = fmt::format("{}{}.weight", prefix, kind);
    unit.kind = std::move(kind);
    unit.block = block;
    for (const std::string& member : members) unit.members.push_back(fmt::format("{}{}.weight", prefix, member));
    for (const uint64_t count : rows) unit.rows += count;
    unit.member_rows = std::move(rows);
    unit.cols = cols;
    units.push_back(std::move(unit));
  };
  const uint64_t query = spec.heads * spec.head_size, key = spec.kv_heads * spec.head_size;
  add(-1, "token_embd", {"token_embd"}, {spec.vocabulary}, spec.embedded());
  for (uint64_t n = 0; n < spec.layers; ++n) {
    const int64_t block = static_cast<int64_t>(n);
    add(block, "attn_qkv", {"attn_q", "attn_k", "attn_v"}, {query, key, key}, spec.width);
    add(block, "attn_output", {"attn_output"}, {spec.width}, query);
    if (spec.gated)
      add(block, "ffn_gate_up", {"ffn_gate", "ffn_up"}, {spec.feed_forward, spec.feed_forward}, spec.width);
    else
      add(block, "ffn_up", {"ffn_up"}, {spec.feed_forward}, spec.width);
    add(block, "ffn_down", {"ffn_down"}, {spec.width}, spec.feed_forward);
  }
  if (!spec.tied_output) add(-1, "output", {"output"}, {spec.vocabulary}, spec.embedded());
  return units;
}

std::vector<TensorSpec> block_tensors(const ModelSpec& spec, uint64_t block) {
  const std::string prefix = fmt::format("blk.{}.", block);
  const uint64_t query = spec.heads * spec.head_size, key = spec.kv_heads * spec.head_size;
  std::vector<TensorSpec> tensors;
  const auto linear = [&](const char* name, uint64_t rows, uint64_t cols) {
    tensors.push_back({fmt::format("{}{}.weight", prefix, name), {rows, cols}});
    if (spec.has_bias(name)) tensors.push_back({fmt::format("{}{}.bias", prefix, name), {1, rows}});
  };
  const auto norm = [&](const char* name, uint64_t size, NormKind kind) {
    tensors.push_back({fmt::format("{}{}.weight", prefix, name), {1, size}});
    if (kind == NormKind::layer) tensors.push_back({fmt::format("{}{}.bias", prefix, name), {1, size}});
  };
  norm("attn_norm", spec.width, spec.norm);
  linear("attn_q", query, spec.width);
  linear("attn_k", key, spec.width);
  linear("attn_v", key, spec.width);
  if (spec.head_norms)
    for (const char* name : {"attn_q_norm", "attn_k_norm"}) norm(name, spec.head_size, NormKind::rms);
  linear("attn_output", spec.width, query);
  if (spec.branch_norms) norm("post_attention_norm", spec.width, spec.norm);
  norm("ffn_norm", spec.width, spec.norm);
  if (spec.gated) linear("ffn_gate", spec.feed_forward, spec.width);
  linear("ffn_up", spec.feed_forward, spec.width);
  linear("ffn_down", spec.width, spec.feed_forward);
  if (spec.branch_norms) norm("post_ffw_norm", spec.width, spec.norm);
  return tensors;
}

std::vector<TensorSpec> end_tensors(const ModelSpec& spec) {
  std::vector<TensorSpec> tensors = {{"token_embd.weight", {spec.vocabulary, spec.embedded()}}};
  if (spec.projects()) {
    tensors.push_back({"project_in.weight", {spec.width, spec.embedding_width}});
    tensors.push_back({"project_out.weight", {spec.embedding_width, spec.width}});
  }
  if (spec.positions == PositionKind::learned)
    tensors.push_back({"position_embd.weight", {spec.context + spec.position_offset, spec.width}});
  if (spec.final_norm) {
    tensors.push_back({"output_norm.weight", {1, spec.width}});
    if (spec.norm == NormKind::layer) tensors.push_back({"output_norm.bias", {1, spec.width}});
  }
  if (!spec.tied_output) tensors.push_back({"output.weight", {spec.vocabulary, spec.embedded()}});
  return tensors;
}

}  // namespace whit
