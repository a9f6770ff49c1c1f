// A decoder as data. Both executors are built from this; a new family is a new table, not new code.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "format/rotation.h"

namespace whit {

enum class NormKind { rms };            // later rows: layer (with bias), rms_plus_one
enum class Activation { silu };         // later: relu, gelu_tanh
enum class RotaryPairs { neighbours };  // GGUF order of llama: elements 2i and 2i+1; later: halves
enum class PositionKind { rotary };

struct RotarySpec {
  double theta = 10000.0;
  uint64_t dimensions = 0;  // rotated elements of a head
  RotaryPairs pairs = RotaryPairs::neighbours;
  // Divisors of the base inverse frequencies theta^(-2i/d), [dimensions / 2]; empty: none. llama3 and linear scaling
  // end here.
  std::vector<float> frequency_divisors;
  double attention_factor = 1.0;  // multiplies cos and sin
};

struct ModelSpec {
  std::string family;  // "llama": the prefix of its GGUF keys
  std::string name;    // general.name, may be empty
  uint64_t layers = 0, width = 0, heads = 0, kv_heads = 0, head_size = 0, feed_forward = 0;
  uint64_t vocabulary = 0;  // rows of the embedding
  uint64_t context = 0;     // trained length
  NormKind norm = NormKind::rms;
  double norm_epsilon = 1e-5;
  Activation activation = Activation::silu;
  bool gated = true;  // gate and up projections
  bool attention_bias = false, feed_forward_bias = false;
  PositionKind positions = PositionKind::rotary;
  RotarySpec rotary;
  uint64_t sliding_window = 0;  // 0: none
  bool tied_output = false;     // the output matrix is the embedding
  // R of the width: between look-up and final norm the residual stream is R^T x, and the blocks' weights are made for that
  // (docs/design/rotation.md). Null: x itself.
  RotationPtr stream_rotation;

  // inverse frequencies after scaling, [dimensions / 2], as double
  std::vector<double> inverse_frequencies() const;
  // All weights of the model, a tied matrix once, norms included: the denominator of file_bits_per_weight.
  uint64_t weights() const;
};

// The linears of a block that read the same input are one unit.
struct UnitSpec {
  std::string name;                  // "blk.3.attn_qkv.weight"
  std::string kind;                  // "attn_qkv" "attn_output" "ffn_gate_up" "ffn_down" "token_embd" "output"
  int64_t block = -1;                // -1: outside the blocks
  std::vector<std::string> members;  // "blk.3.attn_q.weight", ...
  std::vector<uint64_t> member_rows;
  uint64_t rows = 0, cols = 0;
};

// Units in walking order: token_embd, blocks in order, output (absent when tied).
std::vector<UnitSpec> units_of(const ModelSpec& spec);

}  // namespace whit
