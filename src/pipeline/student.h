// A compressed model as leaves: every unit through the parametrization of its format, norms as factors on what they were.
#pragma once

#include <functional>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "model/torch/learner.h"
#include "model/torch/parametrization.h"
#include "model/torch/rotation.h"
#include "pipeline/plan.h"

namespace whit {

// How a unit starts: its bytes, and latents where its quantizer left some.
struct UnitStart {
  std::shared_ptr<const Packed> packed;
  std::vector<Matrix> latents;
};
using UnitStarter = std::function<UnitStart(const UnitPlan&)>;

// What a student turns into.
struct Encoded {
  std::map<std::string, std::shared_ptr<const Packed>> units;  // by unit name
  std::map<std::string, std::vector<float>> vectors;           // norms, by tensor name
};

class Student final : public WeightSource {
 public:
  // `original`: what the units were made from; its weights give codes a start inside their steps. Null: the middle.
  // ErrorKind::usage names a unit whose format cannot be learned.
  Student(const Model& model, const Plan& plan, const UnitStarter& start, const Model* original);

  LearnedWeights block(uint64_t index) const override;
  LearnedWeights ends() const override;
  std::vector<Tensor> leaves() const override;
  std::vector<ParameterGroup> parameters() const;
  Encoded encode() const;
  // Numbers that are learned.
  uint64_t count() const;

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
