// A decoder block as a differentiable function of its weights. No torch header here.
#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <string>

#include "model/spec/spec.h"
#include "model/torch/tensor.h"

namespace whit {

// The weights of one block by tensor name, as DenseWeights, or a whole unit by its own name ("blk.3.attn_qkv.weight", its
// members under each other); any of them may carry history (Parametrization::materialize).
using LearnedWeights = std::map<std::string, Tensor>;

// Called with the input [tokens, cols] or the output [tokens, rows] of every unit ("attn_qkv", ...) before it is used.
using UnitTap = std::function<void(const std::string& kind, const Tensor& output)>;

// x: [sequences * length, width], sequences one after the other, each at positions 0, 1, ... -> the same shape. Computed
// in the type and on the device of x.
// Attention keeps no [length, length] array: its backward pass recomputes probabilities by blocks.
Tensor block_forward(const ModelSpec& spec, uint64_t block, const LearnedWeights& weights, const Tensor& x,
                     size_t sequences, const UnitTap& outputs = {}, const UnitTap& inputs = {});

// Bytes that the graph of a block keeps for so many tokens between forward and backward, the weights left out.
uint64_t block_graph_bytes(const ModelSpec& spec, uint64_t tokens);

}  // namespace whit
