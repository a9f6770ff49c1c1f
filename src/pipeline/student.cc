#include "pipeline/student.h"

#include <set>

#include "methods/parametrize/parametrizations.h"

namespace whit {
namespace {

int64_t block_of(const std::string& name) {
  return name.starts_with("blk.") ? std::stoll(name.substr(4, name.find('.', 4) - 4)) : -1;
}

}  // namespace

Student::Student(const Model& model, const Plan& plan, const UnitStarter& start, const Model* original) {
  std::set<std::string> in_units;
  for (const UnitPlan& entry : plan.units) {
    in_units.insert(entry.unit.members.begin(), entry.unit.members.end());
    const UnitStart from = start(entry);
    Matrix weights;
    if (original) {
      weights = load_unit(*original, entry.unit).weights;
      entry.rotation.rotate_inputs(weights.data.data(), weights.rows, weights.cols);
      entry.rotation.rotate_outputs(weights.data.data(), weights.cols, 0, weights.cols);
    }
    units_.push_back({entry.unit.name, entry.unit.block, entry.rotation,
                      make_parametrization(parametrization_rows(), *from.packed,
                                           {original ? MatrixView(weights) : MatrixView(), from.latents})});
  }
  for (const StoredTensor& tensor : model.tensors) {
    const bool stacked = std::any_of(tensor.members.begin(), tensor.members.end(),
                                     [&](const Member& member) { return in_units.contains(member.name); });
    if (stacked || in_units.contains(tensor.name)) continue;
    Matrix values(1, tensor.shape.count());
    unpack_rows({&tensor, 0, tensor.shape.rows}, 0, tensor.shape.rows, values.data);
    const int64_t block = block_of(tensor.name);
    if (tensor.name.ends_with("norm.weight")) {
      norms_.push_back({tensor.name, block, Tensor::from(values),
                        Tensor::full({1, static_cast<int64_t>(values.cols)}, 0).requires_grad()});
    } else {
      constants_.emplace(tensor.name, Tensor::from(values));
      constant_blocks_.emplace(tensor.name, block);
    }
  }
}

LearnedWeights Student::weights_of(int64_t block) const {
  LearnedWeights weights;
  for (const Unit& unit : units_)
    if (unit.block == block) weights.emplace(unit.name, unrotate_(unit.learned->materialize(), unit.rotation));
  for (const Norm& norm : norms_)
    if (norm.block == block) weights.emplace(norm.name, norm.now());
  for (const auto& [name, value] : constants_)
    if (constant_blocks_.at(name) == block) weights.emplace(name, value);
  return weights;
}

LearnedWeights Student::block(uint64_t index) const { return weights_of(static_cast<int64_t>(index)); }
LearnedWeights Student::ends() const { return weights_of(-1); }

std::vector<ParameterGroup> Student::parameters() const {
  std::vector<ParameterGroup> all;
  for (const Unit& unit : units_)
    for (ParameterGroup group : unit.learned->parameters()) {
      group.unit = unit.name;
      group.embedding = unit.block < 0;
      all.push_back(std::move(group));
    }
  for (const Norm& norm : norms_) all.push_back({"scales", {norm.exponent}, norm.name, false});
  return all;
}

std::vector<Tensor> Student::leaves() const {
  std::vector<Tensor> all;
  for (const ParameterGroup& group : parameters()) all.insert(all.end(), group.tensors.begin(), group.tensors.end());
  return all;
}

Encoded Student::encode() const {
  const NoGrad guard;
  Encoded encoded;
  for (const Unit& unit : units_) {
    auto packed = std::make_shared<Packed>(unit.learned->encode());
    packed->rotation = unit.rotation;
    encoded.units.emplace(unit.name, std::move(packed));
  }
  for (const Norm& norm : norms_) encoded.vectors.emplace(norm.name, norm.now().values());
  return encoded;
}

uint64_t Student::count() const {
  uint64_t sum = 0;
  for (const ParameterGroup& group : parameters())
    for (const Tensor& leaf : group.tensors) sum += static_cast<uint64_t>(leaf.count());
  return sum;
}

}  // namespace whit
