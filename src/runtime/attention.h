// The key and value cache of a session, and attention over it.
#pragma once

#include <vector>

#include "base/threads.h"
#include "model/spec/spec.h"
#include "runtime/buffer.h"
#include "runtime/cpu/kernels.h"

namespace whit {

class Attention {
 public:
  Attention(const ModelSpec& spec, const cpu::Kernels& kernels, ThreadPool& pool, size_t context);

  // Keys and values (already rotated) of one position: [kv_heads * head_size] each.
  void store(size_t layer, size_t position, const float* keys, const float* values);
  // Queries of positions first .. first + tokens - 1, rows of `stride` floats; out likewise. Keys up to each position
  // count.
  void attend(size_t layer, size_t first, size_t tokens, const float* queries, size_t stride, float* out,
              size_t out_stride);

 private:
  struct Worker {
    Buffer<float> queries, scores, out;
  };
  void item(Worker& worker, size_t layer, size_t first, size_t head, size_t begin, size_t end, const float* queries,
            size_t stride, float* out, size_t out_stride);
  // Keys of a head lie in panels of kPanel positions, [panel][head_size][kPanel]; values as [position][value_stride_].
  float* keys_of(size_t layer, size_t head) const {
    return keys_.data() + (layer * kv_heads_ + head) * context_ * head_size_;
  }
  float* values_of(size_t layer, size_t head) const {
    return values_.data() + (layer * kv_heads_ + head) * context_ * value_stride_;
  }

  const cpu::Kernels& kernels_;
  ThreadPool& pool_;
  size_t heads_, kv_heads_, head_size_;
  std::vector<size_t> windows_;  // of every block
  std::vector<float> scales_;     // of query key products, of every block
  size_t context_;       // a multiple of kPanel
  size_t value_stride_;  // head_size padded to kPanel
  size_t query_tokens_;  // tokens of one item
  Buffer<float> keys_, values_;
  std::vector<Worker> workers_;
};

}  // namespace whit
