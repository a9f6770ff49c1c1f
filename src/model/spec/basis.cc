#include "model/spec/basis.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <map>
#include <tuple>

#include "base/error.h"
#include "format/format.h"

namespace whit {
namespace {

// What owns the bytes of a norm of ones.
struct Ones {
  std::vector<float> values;
  ModelPtr original;
};

class Change {
 public:
  Change(const ModelPtr& original, const RotationPtr& rotation, uint64_t size)
      : original_(original), rotation_(rotation), turned_(std::make_shared<Model>(*original)) {
    if (rotation->size() != size)
      refuse("the rotation has another size than what it turns", fmt::format("{}, wanted {}", rotation->size(), size));
    for (StoredTensor& tensor : turned_->tensors)
      if (tensor.name.starts_with("blk."))
        tensor.owner = std::make_shared<std::pair<ModelPtr, std::shared_ptr<const void>>>(original, tensor.owner);
  }

  // What writes into the basis adds nothing that was not turned.
  void need_no_bias(std::initializer_list<const char*> linears) const {
    for (const char* linear : linears)
      if (original_->spec.has_bias(linear)) refuse("the bias of a projection would have to be turned too", linear);
  }
  [[noreturn]] void refuse(const std::string& what, const std::string& found) const {
    throw Error(ErrorKind::usage, what, original_->path.string(), found, "rotate units one by one instead");
  }

  // Calls each(tensor, first row, rows) for member `name`.
  template <class Each>
  void visit(const std::string& name, const Each& each) {
    for (StoredTensor& tensor : turned_->tensors) {
      if (tensor.name == name && tensor.members.empty()) return each(tensor, uint64_t{0}, tensor.shape.rows);
      for (const Member& member : tensor.members)
        if (member.name == name) return each(tensor, member.begin, member.count);
    }
    refuse("the model lacks a tensor", name);
  }

  // Of linears that read the same input.
  void inputs(const std::vector<std::string>& names, const std::shared_ptr<const std::vector<float>>& gain) {
    for (const std::string& name : names)
      visit(name, [&](StoredTensor& tensor, uint64_t, uint64_t) {
        for (const Member& member : tensor.members)
          if (std::find(names.begin(), names.end(), member.name) == names.end())
            refuse("a stack of matrices holds one that reads another input", tensor.name + ": " + member.name);
        if (tensor.rotation.inputs == rotation_ && tensor.gain == gain) return;  // by another member of its stack
        if (tensor.rotation.inputs || tensor.gain) refuse("the inputs of this tensor are rotated already", tensor.name);
        tensor.rotation.inputs = rotation_;
        tensor.gain = gain;
      });
  }

  void outputs(const std::string& name) {
    visit(name, [&](StoredTensor& tensor, uint64_t begin, uint64_t rows) {
      std::vector<OutputRotation>& all = tensor.rotation.outputs;
      for (uint64_t row = begin; row < begin + rows; row += rotation_->size()) {
        for (const OutputRotation& other : all)
          if (other.begin < row + rotation_->size() && row < other.end())
            refuse("the outputs of this tensor are rotated already", tensor.name);
        all.push_back({row, rotation_});
      }
      std::sort(all.begin(), all.end(), [](const auto& a, const auto& b) { return a.begin < b.begin; });
    });
  }

  void ones(const std::string& name) {
    visit(name, [&](StoredTensor& tensor, uint64_t, uint64_t) {
      auto ones = std::make_shared<Ones>(Ones{std::vector<float>(tensor.shape.cols, 1.0f), original_});
      tensor.format = make_format("f32");
      tensor.parts = {std::as_bytes(std::span(ones->values))};
      tensor.owner = std::move(ones);
    });
  }

  Model& model() { return *turned_; }
  ModelPtr done(const std::string& what) {
    turned_->basis += fmt::format(" {} {} {}", what, rotation_->size(), rotation_->seed());
    return turned_;
  }

 private:
  ModelPtr original_;
  RotationPtr rotation_;
  std::shared_ptr<Model> turned_;
};

// Why the norms of a model keep its residual stream as it is; null: they do not.
const char* unturnable_norms(const ModelSpec& spec) {
  if (spec.norm != NormKind::rms) return "layer norms";
  return spec.norm_after || spec.branch_norms ? "norms of what a branch gives" : nullptr;
}

constexpr const char* kUnturnable = "a residual stream is turned only between rms norms that open a branch";

struct Branch {
  const char* norm;
  std::vector<const char*> readers;
  const char* writer;
};
std::vector<Branch> branches(const ModelSpec& spec) {
  return {{"attn_norm", {"attn_q", "attn_k", "attn_v"}, "attn_output"},
          {"ffn_norm", spec.gated ? std::vector{"ffn_gate", "ffn_up"} : std::vector{"ffn_up"}, "ffn_down"}};
}

// Of a norm, to be moved into the weights that read it. Beyond the limit what the norm gives could pass
// kLargestActivation in one basis and not in the other, so one file would run and the other would not.
std::shared_ptr<const std::vector<float>> gain_of(const Model& model, const std::string& norm) {
  constexpr float kLargestGain = 0x1p32f;
  auto gain = std::make_shared<const std::vector<float>>(model.vector(norm, model.spec.width));
  for (const float value : *gain)
    if (!(std::abs(value) <= kLargestGain))
      throw Error(ErrorKind::numeric, "the gain of a norm is too large to be moved into weights",
                  model.path.string() + ": " + norm, std::to_string(value),
                  "the weights are damaged, or were made with wrong scales");
  return gain;
}

}  // namespace

ModelPtr turn_stream(const ModelPtr& model, const RotationPtr& rotation) {
  const ModelSpec& spec = model->spec;
  Change change(model, rotation, spec.width);
  if (const char* norms = unturnable_norms(spec)) change.refuse(kUnturnable, norms);
  if (spec.positions == PositionKind::learned) change.refuse("learned positions are not turned", spec.family);
  change.need_no_bias({"attn_output", "ffn_down"});
  if (spec.stream_rotation) change.refuse("the stream of this model is rotated already", "");
  for (uint64_t block = 0; block < spec.layers; ++block) {
    const std::string prefix = fmt::format("blk.{}.", block);
    for (const Branch& branch : branches(spec)) {
      const std::string norm = prefix + branch.norm + ".weight";
      std::vector<std::string> readers;
      for (const char* reader : branch.readers) readers.push_back(prefix + reader + ".weight");
      change.inputs(readers, gain_of(*model, norm));
      change.ones(norm);
      change.outputs(prefix + branch.writer + ".weight");
    }
  }
  change.model().spec.stream_rotation = rotation;
  return change.done("stream");
}

ModelPtr turn_values(const ModelPtr& model, const RotationPtr& rotation) {
  Change change(model, rotation, model->spec.head_size);
  change.need_no_bias({"attn_v"});
  for (uint64_t block = 0; block < model->spec.layers; ++block) {
    change.outputs(fmt::format("blk.{}.attn_v.weight", block));
    change.inputs({fmt::format("blk.{}.attn_output.weight", block)}, nullptr);
  }
  return change.done("values");
}

ModelPtr turn_back_stream(const ModelPtr& model) {
  const ModelSpec& spec = model->spec;
  const RotationPtr& rotation = spec.stream_rotation;
  if (!rotation) return model;
  if (const char* norms = unturnable_norms(spec))
    throw Error(ErrorKind::input, kUnturnable, model->path.string() + ": whit.rotations", norms,
                "this file can be run and tuned, and not be written without its rotation");
  auto plain = std::make_shared<Model>(*model);
  plain->spec.stream_rotation = nullptr;
  plain->tensors.clear();
  std::map<std::string, std::pair<UnitRotation, std::shared_ptr<const std::vector<float>>>> changes;
  const auto ones = std::make_shared<const std::vector<float>>(spec.width, 1.0f);
  for (uint64_t block = 0; block < spec.layers; ++block) {
    const std::string prefix = fmt::format("blk.{}.", block);
    for (const Branch& branch : branches(spec)) {
      const std::string norm = prefix + branch.norm + ".weight", writer = prefix + branch.writer;
      for (const char* reader : branch.readers)
        changes[prefix + reader + ".weight"] = {{rotation, {}}, gain_of(*model, norm)};
      changes[writer + ".weight"] = {{nullptr, {{0, rotation}}}, nullptr};
      changes[writer + ".bias"] = {{rotation, {}}, nullptr};  // a row: (R b)^T = b^T R^T
      changes[norm] = {};
    }
  }
  const auto add = [&](const std::string& name, const StoredTensor& from, uint64_t begin, uint64_t rows) {
    StoredTensor tensor = from;
    tensor.name = name;
    tensor.members.clear();
    tensor.shape.rows = rows;
    tensor.rotation = {};
    tensor.gain = nullptr;
    tensor.inner = {model, &from};
    tensor.inner_begin = begin;
    if (const auto change = changes.find(name); change == changes.end()) {
      if (from.members.empty()) tensor = from;  // as it is
    } else if (name.ends_with("norm.weight")) {
      tensor = make_stored(name, std::make_shared<Packed>(pack_dense(make_format("f32"), tensor.shape, *ones)));
      tensor.dimensions = from.dimensions;
    } else {
      std::tie(tensor.rotation, tensor.gain) = change->second;
    }
    plain->tensors.push_back(std::move(tensor));
  };
  for (const StoredTensor& tensor : model->tensors) {
    if (tensor.members.empty()) add(tensor.name, tensor, 0, tensor.shape.rows);
    for (const Member& member : tensor.members) add(member.name, tensor, member.begin, member.count);
  }
  return plain;
}

}  // namespace whit
