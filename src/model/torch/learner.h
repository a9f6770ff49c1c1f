// A whole model that learns from another one, or from text: one pass forward and backward over a batch. No torch header
// here.
//
// Blocks are run one after the other, each with a graph of its own; what passes between them is the gradient of a block's
// input. With `checkpoint` a block's graph is made anew from its input when the backward pass reaches it, so that one
// block's activations are held at a time; else all are, and no block runs twice. The output layer and its loss are fused
// and go over a few hundred positions at a time: no [tokens, vocabulary] array exists.
#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "model/spec/model.h"
#include "model/torch/learn.h"

namespace whit {

// The weights of the model that learns. What it returns may carry history; step() asks for a block once or (checkpoint)
// twice, the first time under NoGrad.
class WeightSource {
 public:
  virtual ~WeightSource() = default;
  // Of a block, by unit name ("blk.3.attn_qkv.weight") or tensor name.
  virtual LearnedWeights block(uint64_t index) const = 0;
  // "token_embd.weight", "output_norm.weight" and, where it is not tied, "output.weight".
  virtual LearnedWeights ends() const = 0;
  // The leaves behind all of them. The same objects as long as this lives.
  virtual std::vector<Tensor> leaves() const = 0;
};

struct LossParts {
  double main = 0;    // nats per position: KL(teacher || student), or cross-entropy of the next token
  double hidden = 0;  // mean over blocks and tokens of |h - h'|^2 / |h'|^2, h' the teacher's output of that block
  double positions = 0;
};

class Learner {
 public:
  // `teacher` null: cross-entropy on the text itself. Its weights are unpacked once and held, in bfloat16 on CUDA.
  Learner(const ModelSpec& spec, const Model* teacher, bool checkpoint);
  ~Learner();

  // Gives every leaf behind `student` the gradient of main + hidden * LossParts::hidden, added to the one that it has.
  // ids: [sequences, length]. On CUDA a step that is repeated with the same student, shape and `hidden`, from leaves
  // without gradients, is recorded once and replayed: some ten thousand small operations then cost no time to start.
  LossParts step(const WeightSource& student, std::span<const int32_t> ids, size_t sequences, double hidden);
  // The loss alone, no gradients.
  LossParts loss(const WeightSource& student, std::span<const int32_t> ids, size_t sequences);

  // Bytes held during step() besides parameters, their gradients and the optimizer: activations, the teacher, logits.
  // `embedding`: numbers of the arrays that the embedding is made of; factors may have more than the matrix.
  static uint64_t bytes(const ModelSpec& spec, bool teacher, bool checkpoint, size_t sequences, size_t length,
                        uint64_t embedding);

 private:
  struct State;
  std::unique_ptr<State> state_;
};

}  // namespace whit
