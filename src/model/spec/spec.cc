#include "model/spec/spec.h"

#include <fmt/format.h>

#include <cmath>

#include "base/error.h"

namespace whit {

std::vector<double> ModelSpec::inverse_frequencies() const {
  std::vector<double> inverse(rotary.dimensions / 2);
  WHIT_CHECK(rotary.frequency_divisors.empty() || rotary.frequency_divisors.size() == inverse.size());
  for (size_t i = 0; i < inverse.size(); ++i) {
    inverse[i] = std::pow(rotary.theta, -2.0 * static_cast<double>(i) / static_cast<double>(rotary.dimensions));
    if (!rotary.frequency_divisors.empty()) inverse[i] /= static_cast<double>(rotary.frequency_divisors[i]);
  }
  return inverse;
}

uint64_t ModelSpec::weights() const {
  uint64_t sum = width;       // output_norm
  sum += layers * 2 * width;  // attn_norm, ffn_norm
  for (const UnitSpec& unit : units_of(*this)) {
    sum += unit.rows * unit.cols;
    const bool attention = unit.kind.starts_with("attn_");
    if (unit.block >= 0 && (attention ? attention_bias : feed_forward_bias)) sum += unit.rows;
  }
  return sum;
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
  add(-1, "token_embd", {"token_embd"}, {spec.vocabulary}, spec.width);
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
  if (!spec.tied_output) add(-1, "output", {"output"}, {spec.vocabulary}, spec.width);
  return units;
}

}  // namespace whit
