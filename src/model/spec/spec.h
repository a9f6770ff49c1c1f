// A decoder as data. Both executors are built from this; a new family is a new table (families/), not new code.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "format/rotation.h"
#include "format/tensor.h"

namespace whit {

enum class NormKind { rms, layer };  // layer: the mean is taken away first, and there is a bias
enum class Activation { silu, relu, gelu, gelu_tanh };
enum class RotaryPairs { neighbours, halves };  // elements 2i and 2i + 1 of a head, or i and i + dimensions / 2
enum class PositionKind { rotary, learned };

struct RotarySpec {
  double theta = 10000.0;
  uint64_t dimensions = 0;  // rotated elements of a head, its first ones
  // Divisors of the base inverse frequencies theta^(-2i/d), [dimensions / 2]; empty: none. Every scaling ends here.
  std::vector<float> frequency_divisors;
  // longrope: those of contexts longer than original_context; empty: the same.
  std::vector<float> long_divisors;
  uint64_t original_context = 0;  // of longrope and dynamic NTK
  double attention_factor = 1.0;  // multiplies cos and sin
  // Dynamic NTK: in sessions longer than original_context theta grows with their length by this factor. 1: it does not.
  double dynamic_factor = 1.0;

  // Inverse frequencies after scaling, [dimensions / 2], for a session of so many positions.
  std::vector<double> inverse_frequencies(uint64_t context = 0) const;
};

// What differs from block to block.
struct BlockSpec {
  uint64_t window = 0;   // a position sees itself and window - 1 before it; 0: all
  size_t rotary = 0;     // index in ModelSpec::rotaries
  bool rotated = true;   // false: no positions here
  double attention_scale = 1;  // beside that of the model
};

struct ModelSpec {
  std::string family;  // "llama": the prefix of its GGUF keys
  std::string name;    // general.name, may be empty
  uint64_t layers = 0, width = 0, heads = 0, kv_heads = 0, head_size = 0, feed_forward = 0;
  uint64_t vocabulary = 0;  // rows of the embedding
  // Columns of embedding and output where they are not the width: project_in.weight [width, embedding_width] follows the
  // look-up, project_out.weight [embedding_width, width] the final norm. 0: the width.
  uint64_t embedding_width = 0;
  uint64_t context = 0;     // trained length
  NormKind norm = NormKind::rms;
  double norm_epsilon = 1e-5;
  bool norm_after = false;    // a norm follows each sum with the residual instead of opening the branch
  bool final_norm = true;     // between the last block and the output
  bool branch_norms = false;  // what a branch gives is normed before it is added: post_attention_norm, post_ffw_norm
  bool head_norms = false;    // rms norms of every query and key head before the rotation: attn_q_norm, attn_k_norm
  Activation activation = Activation::silu;
  bool gated = true;  // gate and up projections
  std::vector<std::string> biases;  // linears of a block that have one: "attn_q"
  PositionKind positions = PositionKind::rotary;
  uint64_t position_offset = 0;  // learned: the row of position_embd.weight that position 0 takes
  RotaryPairs pairs = RotaryPairs::neighbours;
  std::vector<RotarySpec> rotaries = {RotarySpec{}};
  std::vector<BlockSpec> blocks;  // empty: all alike, as BlockSpec is by itself
  double attention_scale = 0;     // of query key products; 0: 1 / sqrt(head_size)
  double embedding_scale = 1;     // of looked-up rows
  double logit_cap = 0;           // logits y become cap tanh(y / cap); 0: they stay y
  bool tied_output = false;       // the output matrix is the embedding
  // R of the width: between look-up and final norm the residual stream is R^T x, and the blocks' weights are made for that
  // (docs/design/rotation.md). Null: x itself.
  RotationPtr stream_rotation;

  BlockSpec block(uint64_t index) const { return blocks.empty() ? BlockSpec{} : blocks.at(index); }
  // Of a block; null: its queries and keys are not rotated.
  const RotarySpec* rotary_of(uint64_t index) const;
  double scale(uint64_t index) const;  // of attention, in a block
  // Positions that a session may have: the trained length, or as many times that as a dynamic scaling is made for.
  uint64_t longest_context() const;
  bool projects() const noexcept { return embedding_width != 0; }
  uint64_t embedded() const noexcept { return embedding_width != 0 ? embedding_width : width; }  // columns of the embedding
  // The matrix that makes logits, [vocabulary, embedded()].
  const char* output_name() const noexcept { return tied_output ? "token_embd.weight" : "output.weight"; }
  bool has_bias(std::string_view linear) const;
  // All weights of the model, a tied matrix once, norms included: the denominator of file_bits_per_weight.
  uint64_t weights() const;
};

// What is left to do with the products of hidden states and the output matrix, in place.
void cap_logits(const ModelSpec& spec, std::span<float> logits);

// The linears of a block that read the same input are one unit.
struct UnitSpec {
  std::string name;                  // "blk.3.attn_qkv.weight"
  std::string kind;                  // "attn_qkv" "attn_output" "ffn_gate_up" "ffn_up" "ffn_down" "token_embd" "output"
  int64_t block = -1;                // -1: outside the blocks
  std::vector<std::string> members;  // "blk.3.attn_q.weight", ...
  std::vector<uint64_t> member_rows;
  uint64_t rows = 0, cols = 0;
};

// Units in walking order: token_embd, blocks in order, output (absent when tied).
std::vector<UnitSpec> units_of(const ModelSpec& spec);

// A tensor that the description needs; a vector of n is {1, n}.
struct TensorSpec {
  std::string name;
  Shape shape;
};
// All of a block: linears and their biases, norms.
std::vector<TensorSpec> block_tensors(const ModelSpec& spec, uint64_t block);
// All outside of blocks: embedding, learned positions, final norm, output.
std::vector<TensorSpec> end_tensors(const ModelSpec& spec);

}  // namespace whit
