// Inside model/torch: causal attention on rows of floats, by blocks of queries, so that no [tokens, tokens] array of
// all heads ever exists. No torch header here.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

#include "model/spec/spec.h"

namespace whit::torch_room {

struct AttentionShape {
  size_t heads, kv_heads, head_size;
  size_t window;  // 0: none; else a query sees itself and the window - 1 positions before it
  float scale;    // of query key products
  AttentionShape(const ModelSpec& spec, uint64_t block)
      : heads(spec.heads),
        kv_heads(spec.kv_heads),
        head_size(spec.head_size),
        window(spec.block(block).window),
        scale(static_cast<float>(spec.scale(block))) {}
  size_t query_width() const noexcept { return heads * head_size; }
  size_t key_width() const noexcept { return kv_heads * head_size; }
};

// `queries` rows at positions offset, offset + 1, ...; keys and values at positions 0 .. offset + queries - 1.
// Rows are packed: [queries, heads * head_size] and [offset + queries, kv_heads * head_size].
struct AttentionSequence {
  size_t queries = 0, offset = 0;
  const float* query = nullptr;
  const float* key = nullptr;
  const float* value = nullptr;
  float* output = nullptr;  // [queries, heads * head_size]
};
void attention_forward(const AttentionShape& shape, std::span<const AttentionSequence> sequences);

// From d loss / d output to d loss / d query, key, value (overwritten), everything else recomputed. offset is 0.
struct AttentionGradient {
  AttentionSequence forward;  // output is not used
  const float* output = nullptr;
  float* query = nullptr;
  float* key = nullptr;
  float* value = nullptr;
};
void attention_backward(const AttentionShape& shape, std::span<const AttentionGradient> sequences);

// Floats of scratch that one worker of attention_forward needs for sequences of `length` (attention_backward: twice
// that).
size_t attention_scratch(size_t length) noexcept;

}  // namespace whit::torch_room
