#include "pipeline/student.h"

#include <set>

#include "methods/parametrize/parametrizations.h"
#include "model/torch/executor.h"

namespace whit {
namespace {

int64_t block_of(const std::string& name) {
  return name.starts_with("blk.") ? std::stoll(name.substr(4, name.find('.', 4) - 4)) : -1;
}

}  // namespace

Matrix weights_to_store(const Model& original, const UnitPlan& unit) {
  Matrix weights = std::move(load_unit(original, unit.unit).weights);
  unit.rotation.rotate_inputs(weights.data.data(), weights.rows, weights.cols);
  unit.rotation.rotate_outputs(weights.data.data(), weights.cols, 0, weights.cols);
  return weights;
}

uint64_t learned_numbers(const UnitPlan& unit) {
  const uint64_t weights = unit.unit.rows * unit.unit.cols;
  return unit.format->name() == "lowrank_sign" ? std::min(8 * unit.bytes, 8 * weights) : weights;
}

Student::Student(const Model& model, const Plan& plan, const UnitStarter& start, const Vectors& vectors,
                 std::optional<uint64_t> only) {
  std::set<std::string> in_units;
  for (const UnitPlan& entry : plan.units) {
    in_units.insert(entry.unit.members.begin(), entry.unit.members.end());
    const UnitStart from = start(entry);
    if (from.fixed) {
      const StoredTensor stored = make_stored(entry.unit.name, from.packed);
      constants_.emplace(entry.unit.name, Tensor::from(unpack_dense({&stored, 0, from.packed->shape.rows})));
      constant_blocks_.emplace(entry.unit.name, entry.unit.block);
      continue;
    }
    const MatrixView weights = from.weights.data.empty() ? MatrixView() : MatrixView(from.weights);
    try {
      units_.push_back({entry.unit.name, entry.unit.block, entry.rotation,
                        make_parametrization(parametrization_rows(), *from.packed, {weights, from.latents})});
    } catch (const Error& error) {
      if (error.kind() != ErrorKind::usage) throw;
      throw Error(error.kind(), error.message(), entry.unit.name, error.found(), error.hint());
    }
  }
  for (const StoredTensor& tensor : model.tensors) {
    const bool stacked = std::any_of(tensor.members.begin(), tensor.members.end(),
                                     [&](const Member& member) { return in_units.contains(member.name); });
    if (stacked || in_units.contains(tensor.name)) continue;
    const int64_t block = block_of(tensor.name);
    if (only && block != static_cast<int64_t>(*only)) continue;
    Matrix values(1, tensor.shape.count());
    unpack_rows({&tensor, 0, tensor.shape.rows}, 0, tensor.shape.rows, values.data);
    if (const auto other = vectors.find(tensor.name); other != vectors.end()) values.data = other->second;
    WHIT_CHECK(values.data.size() == tensor.shape.count());
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

Encoded Student::encode(bool with_latents) const {
  const NoGrad guard;
  Encoded encoded;
  for (const Unit& unit : units_) {
    auto packed = std::make_shared<Packed>(unit.learned->encode());
    packed->rotation = unit.rotation;
    encoded.units.emplace(unit.name, std::move(packed));
    if (with_latents) encoded.latents.emplace(unit.name, unit.learned->latents());
  }
  for (const Norm& norm : norms_) encoded.vectors.emplace(norm.name, norm.now().values());
  return encoded;
}

std::vector<std::string> Student::fixed_units() const {
  std::vector<std::string> names;
  for (const Unit& unit : units_)
    if (unit.learned->parameters().empty()) names.push_back(unit.name);
  return names;
}

uint64_t Student::count() const {
  uint64_t sum = 0;
  for (const ParameterGroup& group : parameters())
    for (const Tensor& leaf : group.tensors) sum += static_cast<uint64_t>(leaf.count());
  return sum;
}

}  // namespace whit
