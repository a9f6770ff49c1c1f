// What an executor offers to whoever judges or serves a model: ids in, logit rows out, never all of them at once.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "model/spec/spec.h"

namespace whit {

// `position` counts from the start of the session; `logits` has spec().vocabulary entries and is valid during the call.
using RowVisitor = std::function<void(size_t position, std::span<const float> logits)>;

// One sequence with its cache. Used by one thread at a time.
class ScorerSession {
 public:
  virtual ~ScorerSession() = default;
  // Appends ids. Calls visitor for those of the new positions p with p >= first_row, in order. Pass
  // first_row = position() + ids.size() for none. Throws ErrorKind::usage when the context would overflow,
  // ErrorKind::input for an id outside the vocabulary.
  virtual void feed(std::span<const int32_t> ids, size_t first_row, const RowVisitor& visitor) = 0;
  virtual size_t position() const noexcept = 0;
  virtual void reset() noexcept = 0;  // back to position 0
  // Forgets the positions from `position` on (generation that is cut back).
  virtual void truncate(size_t position) = 0;
};

// What every session refuses, before anything changes: ids beyond its context or outside the vocabulary, and a cut to a
// later position than it is at.
void check_fed_ids(const ModelSpec& spec, std::span<const int32_t> ids, size_t position, size_t context);
void check_truncation(size_t position, size_t now);

// Beyond this, numbers on the way through a model are an overflow: squares and sums of them are still floats, so that every
// executor, instruction set and kind of activations finds the same ones.
inline constexpr float kLargestActivation = 0x1p50f;
// ErrorKind::numeric unless all are within that; NaN is not. `block` < 0: outside of the blocks.
void check_activations(std::span<const float> values, int64_t block, const char* what);

// The row of position_embd.weight at `position`; ErrorKind::usage past the last one.
uint64_t learned_row(const ModelSpec& spec, uint64_t position);

// What a model makes of a window of n ids, position by position: [n - 1] each.
struct WindowScore {
  std::vector<double> loss;        // -ln p(next id), nats
  std::vector<double> divergence;  // KL(base || model), nats
  std::vector<uint8_t> same_top;   // 1: both find the same id likeliest
};

class Scorer {
 public:
  virtual ~Scorer() = default;
  virtual const ModelSpec& spec() const noexcept = 0;
  virtual std::unique_ptr<ScorerSession> open(size_t context) const = 0;
  // Judges a window against `base` where that can be done without handing out logit rows (both on one device); false:
  // it cannot, open sessions instead.
  virtual bool score_window(std::span<const int32_t> /*ids*/, const Scorer& /*base*/, WindowScore& /*score*/) const {
    return false;
  }
  virtual std::string executor() const = 0;     // "runtime" or "torch"
  virtual std::string activations() const = 0;  // "fp32" or "int8"
};

}  // namespace whit
