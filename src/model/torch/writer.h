// Text that a model writes itself, many sequences at a time: what `--data self` calibrates and trains on. No torch header
// here.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <span>
#include <vector>

#include "model/spec/model.h"

namespace whit {

class TextWriter {
 public:
  // Unpacks the model and holds it on the learning device.
  explicit TextWriter(const Model& model);
  ~TextWriter();

  // Sequences that one call of write() should be given.
  size_t at_once(size_t length) const;
  // Bytes that a writer needs on the CPU for that many sequences: weights, keys and values, logits.
  static uint64_t bytes(const ModelSpec& spec, size_t length);
  // Goes on from every start (at least one id each, all shorter than `length`) by sampling at temperature 1 until each
  // sequence has `length` ids: [starts, length]. The same seed gives the same ids on the same device. `token` is called
  // after each position and may throw to stop.
  std::vector<int32_t> write(std::span<const std::vector<int32_t>> starts, size_t length, uint64_t seed,
                             const std::function<void()>& token = {});

 private:
  struct State;
  std::unique_ptr<State> state_;
};

}  // namespace whit
