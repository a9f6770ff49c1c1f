// A model's dense weights as leaves, and ids to learn from.
#pragma once

#include <cmath>
#include <filesystem>
#include <vector>

#include "model/torch/executor.h"
#include "model/torch/learner.h"

namespace whit {

// Dense weights of a model as leaves, some of them changed.
class Leaves final : public WeightSource {
 public:
  explicit Leaves(const Model& model, float noise = 0) : layers_(model.spec.layers) {
    for (uint64_t b = 0; b < layers_; ++b) {
      LearnedWeights weights;
      for (const auto& [name, matrix] : load_block(model, b)) weights.emplace(name, leaf(matrix, noise));
      blocks_.push_back(std::move(weights));
    }
    for (const StoredTensor& tensor : model.tensors) {
      if (tensor.name.starts_with("blk.") || tensor.name.starts_with("rope")) continue;
      Matrix matrix(tensor.dimensions == 1 ? 1 : tensor.shape.rows, tensor.shape.cols);
      unpack_rows({&tensor, 0, tensor.shape.rows}, 0, tensor.shape.rows, matrix.data);
      ends_.emplace(tensor.name, leaf(matrix, noise));
    }
  }
  LearnedWeights block(uint64_t index) const override { return blocks_[index]; }
  LearnedWeights ends() const override { return ends_; }
  std::vector<Tensor> leaves() const override {
    std::vector<Tensor> all;
    for (const LearnedWeights& weights : blocks_)
      for (const auto& [name, leaf] : weights) all.push_back(leaf);
    for (const auto& [name, leaf] : ends_) all.push_back(leaf);
    return all;
  }

 private:
  static Tensor leaf(Matrix matrix, float noise) {
    for (size_t i = 0; i < matrix.data.size(); ++i) matrix.data[i] *= 1 + noise * static_cast<float>(std::sin(0.7 * i));
    return Tensor::from(matrix).requires_grad();
  }
  uint64_t layers_;
  std::vector<LearnedWeights> blocks_;
  LearnedWeights ends_;
};

inline std::vector<int32_t> some_ids(size_t count) {
  std::vector<int32_t> ids;
  for (size_t i = 0; i < count; ++i) ids.push_back(static_cast<int32_t>(3 + i * 37 % 400));
  return ids;
}

}  // namespace whit
