// Inside model/torch: a whole model on the learning device that goes on from a cache of keys and values, many sequences
// at a time; without history. This header includes LibTorch.
#pragma once

#include <ATen/core/Tensor.h>

#include <vector>

#include "model/spec/model.h"

namespace whit::torch_room {

class Decoder {
 public:
  // Unpacks the model; weights, keys and values and the factors of products are of `type`. The residual stream and its
  // norms are in float on the CPU, where a sum in bfloat16 is no faster.
  Decoder(const Model& model, at::ScalarType type);

  // Each part stands in memory for sequences * kv_heads * context * head_size numbers. What has been used of it is kept
  // dense, [sequences * kv_heads, room, head_size]: products of batches with gaps between them are copied first.
  struct Cache {
    std::vector<at::Tensor> keys, values;  // per block, flat
    int64_t rows = 0, context = 0;         // rows: sequences * kv_heads
    int64_t room = 0, used = 0;            // positions
  };
  Cache open(int64_t sequences, int64_t context) const;

  // May run inside a worker of the room's pool: no product goes over the pool.
  // ids [sequences, positions] stand at cache.used, ...; -> hidden states after the final norm, [sequences * positions,
  // width].
  at::Tensor forward(const at::Tensor& ids, Cache& cache) const;
  // [rows, width] -> [rows, vocabulary] in float.
  at::Tensor logits(const at::Tensor& hidden) const;
  const ModelSpec& spec() const noexcept { return spec_; }

 private:
  struct Linear {
    at::Tensor weight, bias;  // [outputs, inputs]; bias undefined: none
    at::Tensor operator()(const at::Tensor& x) const;
  };
  struct Norm {
    at::Tensor gain, bias;  // undefined where there is none
  };
  struct Block {
    Norm attention_norm, feed_forward_norm, attention_branch_norm, feed_forward_branch_norm, query_norm, key_norm;
    Linear qkv, output, gate_up, down;
  };
  at::Tensor part(const at::Tensor& flat, const Cache& cache) const;  // [rows, room, head_size]
  void make_room(Cache& cache, int64_t positions) const;
  at::Tensor normed(const Norm& by, const at::Tensor& x) const;  // of stream_type_

  ModelSpec spec_;
  at::ScalarType type_, stream_type_;
  at::Tensor embedding_, positions_, output_, project_in_, project_out_;
  Norm norm_;
  at::Tensor stream_;  // R of the residual stream; undefined where there is none
  std::vector<Block> blocks_;
};

}  // namespace whit::torch_room
