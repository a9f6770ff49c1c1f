#include "pipeline/plan.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <set>

#include "data/tokenizer.h"
#include "format/row_stack.h"
#include "model/spec/export.h"

namespace whit {
namespace {

// The formats of a unit's members.
std::vector<RowStack::Part> member_formats(const FormatPtr& format, const UnitSpec& unit) {
  if (const auto stack = as_row_stack(format)) return stack->members();
  std::vector<RowStack::Part> members;
  for (const uint64_t rows : unit.member_rows) members.push_back({format, rows});
  return members;
}

// A member of a packed unit in ggml formats, where a row is a whole number of blocks.
std::shared_ptr<const Packed> slice_member(const Packed& packed, const std::vector<RowStack::Part>& members,
                                           size_t which) {
  auto slice = std::make_shared<Packed>();
  slice->format = members[which].format;
  slice->shape = {members[which].rows, packed.shape.cols};
  uint64_t begin = 0;
  for (size_t m = 0; m < which; ++m) begin += members[m].format->bytes({members[m].rows, packed.shape.cols});
  const auto* data = packed.parts.at(0).data() + begin;
  slice->parts.emplace_back(data, data + slice->format->bytes(slice->shape));
  return slice;
}

// The source tensor of a unit's only member, or one stored stack that holds exactly the unit.
const StoredTensor* whole_source(const Model& model, const UnitSpec& unit) {
  const TensorView first = model.find(unit.members[0]);
  if (!first || first.tensor->shape.rows != unit.rows) return nullptr;
  for (const std::string& member : unit.members)
    if (model.find(member).tensor != first.tensor) return nullptr;
  return first.tensor;
}

// The unit's bytes in the source are those of other weights.
bool in_other_basis(const Model& model, const UnitSpec& unit) {
  return !model.basis.empty() && std::any_of(unit.members.begin(), unit.members.end(), [&](const std::string& member) {
    const TensorView view = model.find(member);
    return view && (view.tensor->gain || view.tensor->rotation);
  });
}

}  // namespace

bool Plan::needs_statistics() const {
  return std::any_of(units.begin(), units.end(), [](const UnitPlan& unit) {
    if (unit.copied) return false;
    for (const UnitStep& step : unit.before)
      if (step.stage == Stage::transform)
        continue;  // turns what statistics there are
      else if (step.stage == Stage::importance ? make_importance(step.method, step.options)->needs_statistics()
                                               : make_pruner(step.method, step.options)->needs_statistics())
        return true;
    return make_quantizer(unit.method, unit.options)->needs_statistics();
  });
}

void apply_step(const UnitStep& step, TensorState& state, const MethodContext& context) {
  if (step.stage == Stage::transform)
    make_transform(step.method, step.options)->transform(state, context);
  else if (step.stage == Stage::importance)
    make_importance(step.method, step.options)->score(state, context);
  else
    make_pruner(step.method, step.options)->prune(state, context);
}

void check_masks(const UnitPlan& unit) {
  if (unit.copied) return;
  const auto text = [](const std::optional<NmPattern>& pattern) {
    return pattern ? fmt::format("{}:{}", pattern->n, pattern->m) : std::string("no N:M mask");
  };
  std::optional<NmPattern> made;
  bool scored = false;
  for (const UnitStep& step : unit.before) {
    scored = scored || step.stage == Stage::importance;
    if (step.stage != Stage::prune) continue;
    const auto pruner = make_pruner(step.method, step.options);
    if (pruner->needs_scores() && !scored)
      throw Error(ErrorKind::usage, step.method + " prunes by scores and no step makes them", unit.unit.name, "",
                  "put an importance step (magnitude, wanda, ria, ...) before");
    made = pruner->pattern();
  }
  if (const auto stored = unit.format->pattern(); stored && stored != made)
    throw Error(ErrorKind::usage, "the format stores a mask that no step makes", unit.unit.name,
                unit.format->label() + " after " + text(made), "give a prune step and the format the same n and m");
}

FormatPtr source_format(const Model& model, const UnitSpec& unit) {
  if (in_other_basis(model, unit)) return nullptr;
  std::vector<RowStack::Part> members;
  bool alike = true, ggml = true;
  for (const std::string& member : unit.members) {
    const TensorView view = model.find(member);
    if (!view || !view.tensor->format->storable()) return nullptr;
    members.push_back({view.tensor->format, view.rows});
    alike = alike && view.tensor->format->label() == members[0].format->label();
    ggml = ggml && view.tensor->format->is_ggml();
  }
  if (!alike && !ggml) return nullptr;
  const FormatPtr format = alike ? members[0].format : std::make_shared<const RowStack>(std::move(members));
  // A stack of ours is copied whole or not at all; ggml formats are cut row by row where nothing is rotated.
  const bool rotated = std::any_of(unit.members.begin(), unit.members.end(), [&](const std::string& member) {
    return static_cast<bool>(model.find(member).tensor->rotation);
  });
  if ((!format->is_ggml() || rotated) && !whole_source(model, unit)) return nullptr;
  return format;
}

UnitRotation source_rotation(const Model& model, const UnitSpec& unit) {
  const StoredTensor* whole = whole_source(model, unit);
  return whole ? whole->rotation : UnitRotation{};
}

Plan make_plan(const Model& model, const Recipe& recipe) {
  Plan plan;
  for (UnitSpec& unit : units_of(model.spec)) {
    UnitPlan entry;
    const FormatPtr source = source_format(model, unit);
    const std::vector<const Step*> steps = steps_for(recipe, unit);
    for (const Step* step : steps) {
      if (step->format) continue;
      const Stage stage = method_row(step->method).stage;
      if (stage == Stage::transform) {
        if (!entry.before.empty())
          throw Error(ErrorKind::usage, "scores and masks do not survive a transform", unit.name,
                      entry.before.back().method + " before " + step->method, "put the transform step first");
        entry.rotation = make_transform(step->method, step->options)->rotation(unit);
      }
      entry.before.push_back({stage, step->method, step->options});
    }
    if (!steps.empty()) {
      entry.format = steps.back()->format;
      entry.method = steps.back()->method;
      entry.options = steps.back()->options;
    } else {
      if (in_other_basis(model, unit))
        throw Error(ErrorKind::usage, "a tensor of a model in another basis needs a format", unit.name, "no step",
                    "a step with a format for it");
      entry.format = source ? source : make_format("f32");
      entry.widened = !source;
      entry.method = "rtn";
      entry.options = make_quantizer("rtn", Json::object())->options();
    }
    entry.copied = entry.before.empty() && source && source->label() == entry.format->label();
    if (entry.copied) entry.rotation = source_rotation(model, unit);
    const Shape shape{unit.rows, unit.cols};
    entry.format->check_shape(shape, unit.name);
    entry.bytes = entry.format->bytes(shape);
    entry.unit = std::move(unit);
    check_masks(entry);
    plan.units.push_back(std::move(entry));
  }
  std::set<const Step*> used;
  for (const UnitPlan& entry : plan.units)
    for (const Step* step : steps_for(recipe, entry.unit)) used.insert(step);
  for (const Step& step : recipe.steps) {
    if (step.tensors.empty() || used.count(&step)) continue;
    const bool matches = std::any_of(plan.units.begin(), plan.units.end(),
                                     [&](const UnitPlan& entry) { return step_matches(step, entry.unit); });
    if (matches)
      throw Error(ErrorKind::usage, "a step does nothing: later ones of its stage take all of its tensors",
                  step.method + ": tensors", step.tensors[0],
                  "of steps on one tensor the last counts: change their order");
    throw Error(ErrorKind::usage, "a step matches no tensor of this model", step.method + ": tensors", step.tensors[0],
                "whit inspect MODEL lists the tensors; linears and embeddings can be named");
  }
  return plan;
}

Json plan_json(const Plan& plan) {
  Json rows = Json::array();
  for (const UnitPlan& unit : plan.units)
    rows.push_back({{"tensor", unit.unit.name},
                    {"format", unit.format->label()},
                    {"bytes", unit.bytes},
                    {"predicted_loss", unit.predicted_loss >= 0 ? Json(unit.predicted_loss) : Json(nullptr)},
                    {"method", unit.copied ? "copy" : unit.method}});
  return rows;
}

namespace {

// Of an ordinary GGUF: what the family's files have in one tensor becomes one. Rows of ggml types, and vectors of F32,
// simply follow each other.
void join_tensors(std::vector<OutputTensor>& tensors, const std::vector<JoinedTensor>& joined) {
  for (const JoinedTensor& one : joined) {
    const auto named = [&](const std::string& name) {
      return std::find_if(tensors.begin(), tensors.end(), [&](const OutputTensor& t) { return t.name == name; });
    };
    OutputTensor whole = *named(one.parts.front());
    std::vector<OutputTensor> parts;
    for (const std::string& name : one.parts) {
      parts.push_back(*named(name));
      if (parts.size() > 1) {
        if (whole.dimensions == 1)
          whole.shape.cols += parts.back().shape.cols;
        else
          whole.shape.rows += parts.back().shape.rows;
      }
    }
    whole.name = one.name;
    whole.load = [parts, shape = whole.shape, format = whole.format] {
      auto packed = std::make_shared<Packed>(Packed{format, shape, {{}}});
      for (const OutputTensor& part : parts) {
        const auto from = part.load();
        packed->parts[0].insert(packed->parts[0].end(), from->parts.at(0).begin(), from->parts.at(0).end());
      }
      return packed;
    };
    // The whole may have a part's name (Phi-3's ffn_up): its parts go first.
    for (size_t i = 1; i < one.parts.size(); ++i) tensors.erase(named(one.parts[i]));
    *named(one.parts.front()) = std::move(whole);
  }
}

}  // namespace

OutputFrame::OutputFrame(const Model& model, Progress& progress) : model_(model), metadata_(model.metadata) {
  if (model.tokenizer_files.empty()) return;
  std::vector<std::string> notes;
  const KeyValues tokenizer = tokenizer_metadata(model.tokenizer_files, model.spec.vocabulary, &notes);
  for (const std::string& note : notes) progress.note(note);
  for (const KeyValue& item : tokenizer.all()) metadata_.set(item.key, item.value);
}

std::shared_ptr<const PackedTokenizer> OutputFrame::tokenizer() const {
  if (!tokenizer_) tokenizer_ = std::make_shared<const PackedTokenizer>(pack_tokenizer(metadata_));
  return tokenizer_;
}

ModelOutput plan_output(const OutputFrame& frame, const Plan& plan, std::string manifest, UnitLoader loader,
                        Vectors replaced) {
  ModelOutput output;
  output.metadata = frame.metadata();
  output.stream = frame.model().spec.stream_rotation;
  output.manifest = std::move(manifest);
  std::set<std::string> in_units;
  for (const UnitPlan& entry : plan.units) {
    for (const std::string& member : entry.unit.members) in_units.insert(member);
    if (!entry.format->is_ggml() || entry.rotation) {
      OutputTensor tensor{entry.unit.name,
                          {entry.unit.rows, entry.unit.cols},
                          2,
                          {},
                          entry.format,
                          [&entry, loader] { return loader(entry); },
                          entry.rotation};
      uint64_t begin = 0;
      if (entry.unit.members.size() > 1)
        for (size_t m = 0; m < entry.unit.members.size(); ++m) {
          tensor.members.push_back({entry.unit.members[m], begin, entry.unit.member_rows[m]});
          begin += entry.unit.member_rows[m];
        }
      output.tensors.push_back(std::move(tensor));
      continue;
    }
    const std::vector<RowStack::Part> members = member_formats(entry.format, entry.unit);
    for (size_t m = 0; m < members.size(); ++m)
      output.tensors.push_back({entry.unit.members[m],
                                {members[m].rows, entry.unit.cols},
                                2,
                                {},
                                members[m].format,
                                [&entry, loader, members, m] {
                                  return members.size() == 1 ? loader(entry) : slice_member(*loader(entry), members, m);
                                }});
  }
  // Norms, biases, rotary divisors: small vectors, kept in F32 (ggml runs them in no other type).
  const auto keep = [&](const std::string& name, const TensorView& view) {
    if (in_units.count(name)) return;
    const int dimensions = name.ends_with("norm.weight") || name.ends_with(".bias") ? 1 : view.tensor->dimensions;
    // Learned positions, projections around the embedding: as they are.
    if (dimensions == 2 && view.tensor->format->is_ggml() && !view.tensor->rotation) {
      output.tensors.push_back({name, view.shape(), 2, {}, view.tensor->format, [view] {
                                  return std::make_shared<const Packed>(copy_packed(view));
                                }});
      return;
    }
    output.tensors.push_back({name, view.shape(), dimensions, {}, make_format("f32"), [name, view, replaced] {
                                std::vector<float> values(view.shape().count());
                                if (const auto other = replaced.find(name); other != replaced.end())
                                  values = other->second;
                                else
                                  unpack_rows(view, 0, view.rows, values);
                                return std::make_shared<const Packed>(
                                    pack_dense(make_format("f32"), view.shape(), values));
                              }});
  };
  for (const StoredTensor& tensor : frame.model().tensors) {
    if (tensor.members.empty()) keep(tensor.name, {&tensor, 0, tensor.shape.rows});
    for (const Member& member : tensor.members) keep(member.name, {&tensor, member.begin, member.count});
  }
  if (output.is_ours())
    output.tokenizer = frame.tokenizer();
  else
    join_tensors(output.tensors, joined_tensors(frame.model().spec, folder_family(frame.model()), false));
  return output;
}

Recipe resolved_recipe(const Plan& plan, const Recipe& asked) {
  Recipe recipe;
  recipe.calibrate = asked.calibrate;
  recipe.tune = asked.tune;
  // Steps of one stage and file order stay in order: what all units do first stands first.
  const auto add = [&](const std::string& unit, const std::string& method, const FormatPtr& format,
                       const Json& options) {
    auto step = std::find_if(recipe.steps.begin(), recipe.steps.end(), [&](const Step& candidate) {
      return candidate.method == method && !candidate.format == !format &&
             (!format || candidate.format->label() == format->label()) && candidate.options == options;
    });
    if (step == recipe.steps.end()) {
      recipe.steps.push_back({method, {}, format, options, {}, {}, {}, 0});
      step = std::prev(recipe.steps.end());
    }
    step->tensors.push_back(unit);
  };
  if (const Step* step = basis_step(asked)) recipe.steps.push_back(*step);
  size_t longest = 0;
  for (const UnitPlan& entry : plan.units) longest = std::max(longest, entry.before.size());
  for (size_t position = 0; position < longest; ++position)
    for (const UnitPlan& entry : plan.units)
      if (position < entry.before.size())
        add(entry.unit.name, entry.before[position].method, nullptr, entry.before[position].options);
  for (const UnitPlan& entry : plan.units)
    if (!as_row_stack(entry.format))  // stays as it is because no step names it
      add(entry.unit.name, entry.method, entry.format, entry.options);
  for (const Step* step : {reconstruct_step(asked), tune_step(asked)})
    if (step) recipe.steps.push_back(*step);
  return recipe;
}

Packed copy_unit(const Model& model, const UnitSpec& unit) {
  if (const StoredTensor* whole = whole_source(model, unit)) return copy_packed({whole, 0, whole->shape.rows});
  Packed packed;
  packed.format = source_format(model, unit);
  packed.shape = {unit.rows, unit.cols};
  packed.parts.resize(1);
  for (const std::string& member : unit.members) {
    const Packed part = copy_packed(model.find(member));
    packed.parts[0].insert(packed.parts[0].end(), part.parts[0].begin(), part.parts[0].end());
  }
  return packed;
}

namespace {
// `rows`: of the tensor's, from `first` on.
void check_finite(const Model& model, const std::string& name, std::span<const float> rows, uint64_t cols, uint64_t first) {
  for (size_t i = 0; i < rows.size(); ++i)
    if (!std::isfinite(rows[i]))
      throw Error(ErrorKind::numeric, "a weight is not a finite number", model.path.string() + ": " + name,
                  fmt::format("{} at row {}, column {}", rows[i], first + i / cols, i % cols),
                  "the model is damaged: get it again");
}
}  // namespace

void check_finite(const Model& model) {
  for (const StoredTensor& tensor : model.tensors) {
    std::vector<float> row(tensor.shape.cols);
    for (uint64_t r = 0; r < tensor.shape.rows; ++r) {
      unpack_rows({&tensor, 0, tensor.shape.rows}, r, 1, row);
      check_finite(model, tensor.name, row, tensor.shape.cols, r);
    }
  }
}

TensorState load_unit(const Model& model, const UnitSpec& unit) {
  TensorState state;
  state.unit = unit;
  state.weights = Matrix(unit.rows, unit.cols);
  uint64_t begin = 0;
  for (size_t m = 0; m < unit.members.size(); ++m) {
    const TensorView view = model.need(unit.members[m], {unit.member_rows[m], unit.cols});
    const std::span<float> rows(state.weights.row(begin), unit.member_rows[m] * unit.cols);
    unpack_rows(view, 0, view.rows, rows);
    check_finite(model, unit.members[m], rows, unit.cols, 0);
    begin += unit.member_rows[m];
  }
  const FormatPtr source = source_format(model, unit);
  if (const auto affine = source ? as_affine(source) : nullptr;
      affine && !affine->has_columns() && !source_rotation(model, unit)) {
    state.source_grid = affine->unpack_codes(copy_unit(model, unit)).parameters;
    state.source_group = affine->group(unit.cols);
  }
  return state;
}

}  // namespace whit
