#include "model/spec/basis.h"

#include <fmt/format.h>

#include <algorithm>

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

  void inputs(const std::string& name, const std::shared_ptr<const std::vector<float>>& gain) {
    visit(name, [&](StoredTensor& tensor, uint64_t, uint64_t) {
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

}  // namespace

ModelPtr turn_stream(const ModelPtr& model, const RotationPtr& rotation) {
  const ModelSpec& spec = model->spec;
  Change change(model, rotation, spec.width);
  if (spec.norm != NormKind::rms || spec.norm_after || spec.branch_norms)
    change.refuse("a residual stream is turned only between rms norms that open a branch",
                  spec.norm != NormKind::rms ? "layer norms" : "norms of what a branch gives");
  if (spec.positions == PositionKind::learned) change.refuse("learned positions are not turned", spec.family);
  change.need_no_bias({"attn_output", "ffn_down"});
  if (spec.stream_rotation) change.refuse("the stream of this model is rotated already", "");
  for (uint64_t block = 0; block < spec.layers; ++block) {
    const std::string prefix = fmt::format("blk.{}.", block);
    const auto fold = [&](const char* norm, std::initializer_list<const char*> readers) {
      const std::string name = prefix + norm + ".weight";
      const auto gain = std::make_shared<const std::vector<float>>(model->vector(name, spec.width));
      for (const char* reader : readers) change.inputs(prefix + reader + ".weight", gain);
      change.ones(name);
    };
    fold("attn_norm", {"attn_q", "attn_k", "attn_v"});
    if (spec.gated)
      fold("ffn_norm", {"ffn_gate", "ffn_up"});
    else
      fold("ffn_norm", {"ffn_up"});
    for (const char* writer : {"attn_output", "ffn_down"}) change.outputs(prefix + writer + ".weight");
  }
  change.model().spec.stream_rotation = rotation;
  return change.done("stream");
}

ModelPtr turn_values(const ModelPtr& model, const RotationPtr& rotation) {
  Change change(model, rotation, model->spec.head_size);
  change.need_no_bias({"attn_v"});
  for (uint64_t block = 0; block < model->spec.layers; ++block) {
    change.outputs(fmt::format("blk.{}.attn_v.weight", block));
    change.inputs(fmt::format("blk.{}.attn_output.weight", block), nullptr);
  }
  return change.done("values");
}

}  // namespace whit
