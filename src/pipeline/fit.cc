#include "pipeline/fit.h"

#include <fmt/format.h>

#include <algorithm>

#include "base/checked.h"

namespace whit {
namespace {

constexpr uint64_t kAlignment = 64;  // of our files: every part is padded to it

uint64_t padded_bytes(const Format& format, Shape shape) {
  uint64_t sum = 0;
  for (const PartSpec& part : format.parts(shape)) sum += round_up(part.bytes, kAlignment);
  return sum;
}

// All formats that a unit may take, the source's own first where it can be copied.
struct UnitChoices {
  std::vector<FormatPtr> formats;
  std::vector<Choice> choices;
};

UnitChoices choices_of(const Model& model, const Step& allocate, const UnitSpec& unit, const Sensitivity& sensitivity) {
  UnitChoices result;
  const Shape shape{unit.rows, unit.cols};
  if (const FormatPtr source = source_format(model, unit)) {
    result.formats.push_back(source);
    result.choices.push_back({padded_bytes(*source, shape), 0.0});
  }
  const auto& formats = unit.block < 0 ? allocate.embedding_formats : allocate.formats;
  const auto& losses = sensitivity.units.at(unit.name).loss;
  for (size_t f = 0; f < formats.size(); ++f) {
    if (!result.formats.empty() && formats[f]->label() == result.formats[0]->label()) continue;
    result.formats.push_back(formats[f]);
    result.choices.push_back({padded_bytes(*formats[f], shape), losses[f]});
  }
  return result;
}

Plan plan_of(const std::vector<UnitSpec>& units, const std::vector<UnitChoices>& choices,
             const std::vector<size_t>& picks, const Model& model, const Step& allocate) {
  const Json options = make_quantizer(allocate.quantizer, Json::object())->options();
  const Json plain = make_quantizer("rtn", Json::object())->options();
  Plan plan;
  for (size_t u = 0; u < units.size(); ++u) {
    UnitPlan entry;
    entry.unit = units[u];
    entry.format = choices[u].formats[picks[u]];
    const FormatPtr source = source_format(model, units[u]);
    entry.copied = source && source->label() == entry.format->label();
    if (entry.copied) entry.rotation = source_rotation(model, units[u]);
    entry.method = entry.copied ? "rtn" : allocate.quantizer;
    entry.options = entry.copied ? plain : options;
    entry.bytes = entry.format->bytes({units[u].rows, units[u].cols});
    entry.predicted_loss = choices[u].choices[picks[u]].loss;
    plan.units.push_back(std::move(entry));
  }
  return plan;
}

}  // namespace

std::string make_manifest(const Model& model, const Plan& plan, const Recipe& recipe, int threads) {
  Json json;
  json["whit"] = 1;
  json["model"] = model.content_hash;
  json["machine"] = machine_key(threads);
  json["recipe"] = recipe_to_json(resolved_recipe(plan, recipe));
  return json.dump();
}

uint64_t plan_file_bytes(const OutputFrame& frame, const Plan& plan, const std::string& manifest) {
  return model_file_bytes(plan_output(frame, plan, manifest, {}));
}

FitResult fit_plan(const OutputFrame& frame, const Step& allocate, const Recipe& recipe,
                   const Sensitivity& sensitivity, uint64_t budget, int threads) {
  const Model& model = frame.model();
  const std::vector<UnitSpec> units = units_of(model.spec);
  std::vector<UnitChoices> choices;
  std::vector<std::vector<Choice>> table;
  std::vector<size_t> smallest;
  for (const UnitSpec& unit : units) {
    choices.push_back(choices_of(model, allocate, unit, sensitivity));
    table.push_back(choices.back().choices);
    const auto least = std::min_element(table.back().begin(), table.back().end(),
                                        [](const Choice& a, const Choice& b) { return a.bytes < b.bytes; });
    smallest.push_back(static_cast<size_t>(least - table.back().begin()));
  }
  const auto file_bytes = [&](const Plan& plan) {
    return plan_file_bytes(frame, plan, make_manifest(model, plan, recipe, threads));
  };
  const auto weight_bytes = [&](const std::vector<size_t>& picks) {
    uint64_t sum = 0;
    for (size_t u = 0; u < picks.size(); ++u) sum += table[u][picks[u]].bytes;
    return sum;
  };

  // Everything but the units' bytes (metadata, tokenizer, norms, manifest) depends a little on the plan, so the part of
  // the budget that is left for units is found by iteration.
  const Plan least_plan = plan_of(units, choices, smallest, model, allocate);
  const uint64_t least = file_bytes(least_plan);
  if (least > budget)
    throw Error(ErrorKind::budget, "the budget cannot be met", "--fit", fmt::format("{} bytes", budget),
                fmt::format("the smallest file that can be made of this model has {} bytes", least));
  const auto allocator = make_allocator(allocate.method, allocate.options);
  uint64_t overhead = least - weight_bytes(smallest);
  FitResult best;
  for (int round = 0; round < 6; ++round) {
    if (budget <= overhead) break;
    const std::vector<size_t> picks = allocator->allocate(table, budget - overhead);
    if (picks.empty()) break;
    Plan plan = plan_of(units, choices, picks, model, allocate);
    const uint64_t bytes = file_bytes(plan);
    const uint64_t true_overhead = bytes - std::min(bytes, weight_bytes(picks));
    double loss = 0;
    for (size_t u = 0; u < picks.size(); ++u) loss += table[u][picks[u]].loss;
    if (bytes <= budget && (best.plan.units.empty() || loss < best.predicted_loss)) {
      best.plan = std::move(plan);
      best.predicted_loss = loss;
    }
    if (bytes <= budget && true_overhead >= overhead) break;
    overhead = bytes > budget ? std::max(true_overhead, overhead + (bytes - budget)) : true_overhead;
  }
  if (best.plan.units.empty()) {
    best.plan = least_plan;
    for (size_t u = 0; u < smallest.size(); ++u) best.predicted_loss += table[u][smallest[u]].loss;
  }
  best.lossless =
      std::all_of(best.plan.units.begin(), best.plan.units.end(), [](const UnitPlan& unit) { return unit.copied; });
  return best;
}

}  // namespace whit
