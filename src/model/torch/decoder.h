// Inside model/torch: a whole model on the learning device that goes on from a cache of keys and values, many sequences
// at a time; without history. This header includes LibTorch.
#pragma once

#include <ATen/core/Tensor.h>

#include <vector>

#include "model/spec/model.h"

namespace whit::torch_room {

class Decoder {
 public:
  // Unpacks the model; weights and activations are of `type`.
  Decoder(const Model& model, at::ScalarType type);

  struct Cache {
    std::vector<at::Tensor> keys, values;  // per block [sequences * kv_heads, context, head_size]
    int64_t used = 0, context = 0;         // positions
  };
  Cache open(int64_t sequences, int64_t context) const;

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
  at::Tensor normed(const Norm& by, const at::Tensor& x) const;

  ModelSpec spec_;
  at::ScalarType type_;
  at::Tensor embedding_, positions_, output_, project_in_, project_out_;
  Norm norm_;
  at::Tensor stream_;  // R of the residual stream; undefined where there is none
  std::vector<Block> blocks_;
};

}  // namespace whit::torch_room
