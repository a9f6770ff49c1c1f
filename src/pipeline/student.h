// A compressed model, or one block of it, as leaves: every unit through the parametrization of its format, norms as
// factors on what they were.
#pragma once

#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "model/torch/learner.h"
#include "model/torch/parametrization.h"
#include "model/torch/rotation.h"
#include "pipeline/plan.h"

namespace whit {

// How a unit starts: its bytes, latents where its quantizer or an earlier training left some, and what was to be stored
// (in the basis in which it is stored; empty: the middle of every step).
struct UnitStart {
  std::shared_ptr<const Packed> packed;
  std::vector<Matrix> latents;
  Matrix weights;
  bool fixed = false;  // it is not learned
};
using UnitStarter = std::function<UnitStart(const UnitPlan&)>;

// The original's weights of a unit in the basis in which it is stored: UnitStart::weights.
Matrix weights_to_store(const Model& original, const UnitPlan& unit);

// What a student turns into.
struct Encoded {
  std::map<std::string, std::shared_ptr<const Packed>> units;  // by unit name
  Vectors vectors;                                             // norms
  std::map<std::string, std::vector<Matrix>> latents;          // of units, where they were asked for
};

// Numbers that are learned of a unit, scales left out: latents of factored formats are as many as their sign bits,
// other formats learn a number a weight.
uint64_t learned_numbers(const UnitPlan& unit);

// While one lives and few numbers are learned, what is not a product of matrices runs in the calling thread
// (SerialOperations): such operations are so short that sharing them among threads costs more than it brings.
class SerialWhereFew {
 public:
  explicit SerialWhereFew(uint64_t numbers) {
    if (numbers < uint64_t{1} << 20) serial_.emplace();
  }

 private:
  std::optional<SerialOperations> serial_;
};

class Student final : public WeightSource {
 public:
  // `vectors`: where norms start that are no longer the model's. `only`: the units of the plan are one block's, and of
  // the rest of the model only that block's tensors are held. ErrorKind::usage names a unit whose format cannot be
  // learned.
  Student(const Model& model, const Plan& plan, const UnitStarter& start, const Vectors& vectors = {},
          std::optional<uint64_t> only = {});

  LearnedWeights block(uint64_t index) const override;
  LearnedWeights ends() const override;
  std::vector<Tensor> leaves() const override;
  std::vector<ParameterGroup> parameters() const;
  Encoded encode(bool with_latents = false) const;
  // Numbers that are learned.
  uint64_t count() const;
  // Units of which nothing is learned.
  std::vector<std::string> fixed_units() const;

 private:
  struct Unit {
    std::string name;
    int64_t block;
    UnitRotation rotation;  // the basis in which it is stored and learned
    std::unique_ptr<Parametrization> learned;
  };
  struct Norm {
    std::string name;
    int64_t block;
    Tensor value, exponent;  // value * exp(exponent)
    Tensor now() const { return value * exp(exponent); }
  };
  LearnedWeights weights_of(int64_t block) const;
  std::vector<Unit> units_;
  mutable Unrotator unrotate_;
  std::vector<Norm> norms_;
  std::map<std::string, Tensor> constants_;  // biases and the like, as they are
  std::map<std::string, int64_t> constant_blocks_;
};

}  // namespace whit
