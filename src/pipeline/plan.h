// A plan: every unit of the model with the format and the method that a recipe gives it, and what the file will weigh.
#pragma once

#include <filesystem>
#include <functional>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "base/error.h"
#include "base/progress.h"
#include "format/container.h"
#include "model/spec/model.h"
#include "pipeline/recipe.h"

namespace whit {

// A step on a unit before it is quantized.
struct UnitStep {
  Stage stage;
  std::string method;
  Json options;
};

struct UnitPlan {
  UnitSpec unit;
  std::vector<UnitStep> before;  // in order
  UnitRotation rotation;         // of what will be stored: a transform's, or the source's where it is copied
  FormatPtr format;
  std::string method;
  Json options;
  bool copied = false;         // all members are stored in this very format: their bytes are taken as they are
  bool widened = false;        // no step takes it, and we do not write its format: F32
  uint64_t bytes = 0;          // stored, without padding
  double predicted_loss = -1;  // nats of KL that this unit is expected to add; below 0: not predicted
};

struct Plan {
  std::vector<UnitPlan> units;  // in walking order
  bool needs_statistics() const;
};

// [{tensor, format, bytes, predicted_loss, method}]
Json plan_json(const Plan& plan);

// Runs a transform, importance or prune step on a unit.
void apply_step(const UnitStep& step, TensorState& state, const MethodContext& context);

// Applies the steps. A unit that no step matches keeps its source format, or becomes F32 where we do not write that.
Plan make_plan(const Model& model, const Recipe& recipe);

// ErrorKind::usage where steps and format of a unit cannot meet: a pruner without scores, a format that stores an N:M mask and
// a pruner that makes another or none.
void check_masks(const UnitPlan& unit);

// The format that all members of the unit share in the source; where they have ggml formats of their own, a RowStack
// (format/row_stack.h). Null: none that we write.
FormatPtr source_format(const Model& model, const UnitSpec& unit);

// What the unit's bytes in the source are rotated by.
UnitRotation source_rotation(const Model& model, const UnitSpec& unit);

// Values of norms, by tensor name.
using Vectors = std::map<std::string, std::vector<float>>;

// One unit's bytes under a plan; called when the file is written, unit by unit.
using UnitLoader = std::function<std::shared_ptr<const Packed>(const UnitPlan&)>;

// What every file made of a model has beside its tensors. Packing the tokenizer takes a second, and the size of a file
// is asked for many times, so it is done once, when a file needs it.
class OutputFrame {
 public:
  OutputFrame(const Model& model, Progress& progress);  // adds the tokenizer.* keys of a folder, and says their notes
  const Model& model() const noexcept { return model_; }
  const KeyValues& metadata() const noexcept { return metadata_; }
  std::shared_ptr<const PackedTokenizer> tokenizer() const;  // packed at the first call

 private:
  const Model& model_;
  KeyValues metadata_;
  mutable std::shared_ptr<const PackedTokenizer> tokenizer_;
};

// The file of a plan: units (own formats as stacks, ggml formats member by member), then everything else of the source.
// `replaced`: other values for some of the vectors.
ModelOutput plan_output(const OutputFrame& frame, const Plan& plan, std::string manifest, UnitLoader loader,
                        Vectors replaced = {});

// The recipe with one step per distinct (method, format, options), units named exactly, and the reconstruct and tune steps
// that were asked for: what the manifest keeps.
Recipe resolved_recipe(const Plan& plan, const Recipe& asked);

// The unit's bytes in its source format, members stacked. Only for units with a source_format().
Packed copy_unit(const Model& model, const UnitSpec& unit);

// Dense weights [rows, cols] of a unit and, where the source is affine, its grid. NaN or Inf is ErrorKind::numeric.
TensorState load_unit(const Model& model, const UnitSpec& unit);
// Reads all that the model stores. ErrorKind::numeric naming the first tensor with NaN or Inf and where it stands there.
void check_finite(const Model& model);

// work(). A weight that is no number shows first somewhere else, in what was computed of it; so the model is looked
// through when that happens.
template <class Work>
auto naming_damage(const std::filesystem::path& model, const Work& work) {
  try {
    return work();
  } catch (const Error& error) {
    if (error.kind() == ErrorKind::numeric) check_finite(*load_model(model));
    throw;
  }
}

}  // namespace whit
