// Inside model/torch: one decoder block on rows of floats, without gradients. Shared by calibration and by the scorer.
#pragma once

#include <span>
#include <string>
#include <vector>

#include "model/torch/executor.h"
#include "model/torch/kernels.h"

namespace whit::torch_room {

// The matrices of a block by role, found in a DenseWeights and checked against the spec (ErrorKind::input names the one
// that is missing or has another shape). Points into the map.
struct BlockWeights {
  struct Linear {
    const Matrix* weight = nullptr;
    const float* bias = nullptr;
  };
  struct Norm {
    const float* gain = nullptr;
    const float* bias = nullptr;
  };
  Norm attention_norm, feed_forward_norm, attention_branch_norm, feed_forward_branch_norm, query_norm, key_norm;
  Linear query, key, value, output, gate, up, down;  // gate is empty where the spec is not gated

  BlockWeights(const ModelSpec& spec, uint64_t block, const DenseWeights& weights);
};

// run_block() where learning happens on another device than the CPU.
void run_block_on_device(const ModelSpec& spec, uint64_t block, const DenseWeights& weights, Activations& activations,
                         const InputHook& hook);

// Sequences that are run at a time: about 1024 tokens (enough for full speed of the matrix products), at least one.
size_t sequences_at_once(size_t length) noexcept;

// Keys and values of a session, one pair a layer, [capacity, kv width].
struct KeyValueCache {
  std::vector<float> keys, values;
};

// Buffers for at most `tokens` rows; reused from block to block.
class BlockRunner {
 public:
  // For sequences of up to `context` positions.
  BlockRunner(const ModelSpec& spec, size_t context);

  // x: [sequences * length, width], in place. Without a cache, sequences start at position 0. With one there is a
  // single sequence whose rows stand at positions offset, ...; its keys and values are appended to the cache.
  void run(uint64_t block, const BlockWeights& weights, float* x, size_t sequences, size_t length, const InputHook& hook,
           KeyValueCache* cache = nullptr, size_t offset = 0);

  static uint64_t bytes(const ModelSpec& spec, size_t tokens, size_t length);

 private:
  void linear(const BlockWeights::Linear& layer, const float* x, size_t tokens, float beta, float* out) const;

  const ModelSpec& spec_;
  std::vector<RotaryTable> rotaries_;
  std::vector<float> normed_, query_, key_, value_, attended_, gate_, up_, branch_;
};

}  // namespace whit::torch_room
