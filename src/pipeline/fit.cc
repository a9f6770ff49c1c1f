#include "pipeline/fit.h"

#include <fmt/format.h>

#include <algorithm>
#include <optional>

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
  const auto& formats = formats_of(allocate, unit);
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

std::vector<size_t> smallest_picks(std::span<const std::vector<Choice>> choices) {
  std::vector<size_t> picks;
  for (const std::vector<Choice>& of_unit : choices) {
    const auto least = std::min_element(of_unit.begin(), of_unit.end(),
                                        [](const Choice& a, const Choice& b) { return a.bytes < b.bytes; });
    picks.push_back(static_cast<size_t>(least - of_unit.begin()));
  }
  return picks;
}

double loss_of(std::span<const std::vector<Choice>> choices, const std::vector<size_t>& picks) {
  double loss = 0;
  for (size_t u = 0; u < picks.size(); ++u) loss += choices[u][picks[u]].loss;
  return loss;
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

std::vector<size_t> pick_within(const Step& allocate, std::span<const std::vector<Choice>> choices, uint64_t budget,
                                const std::function<uint64_t(const std::vector<size_t>& picks)>& file_bytes) {
  const auto weight_bytes = [&](const std::vector<size_t>& picks) {
    uint64_t sum = 0;
    for (size_t u = 0; u < picks.size(); ++u) sum += choices[u][picks[u]].bytes;
    return sum;
  };
  std::vector<size_t> best = smallest_picks(choices);
  const uint64_t least = file_bytes(best);
  if (least > budget) return {};
  const auto allocator = make_allocator(allocate.method, allocate.options);
  uint64_t overhead = least - weight_bytes(best);
  std::optional<double> best_loss;
  for (int round = 0; round < 6; ++round) {
    if (budget <= overhead) break;
    std::vector<size_t> picks = allocator->allocate(choices, budget - overhead);
    if (picks.empty()) break;
    const uint64_t bytes = file_bytes(picks);
    const uint64_t true_overhead = bytes - std::min(bytes, weight_bytes(picks));
    const double loss = loss_of(choices, picks);
    if (bytes <= budget && (!best_loss || loss < *best_loss)) {
      best = std::move(picks);
      best_loss = loss;
    }
    if (bytes <= budget && true_overhead >= overhead) break;
    overhead = bytes > budget ? std::max(true_overhead, overhead + (bytes - budget)) : true_overhead;
  }
  return best;
}

FitResult fit_plan(const OutputFrame& frame, const Step& allocate, const Recipe& recipe,
                   const Sensitivity& sensitivity, uint64_t budget, int threads) {
  const Model& model = frame.model();
  const std::vector<UnitSpec> units = units_of(model.spec);
  std::vector<UnitChoices> choices;
  std::vector<std::vector<Choice>> table;
  for (const UnitSpec& unit : units) {
    choices.push_back(choices_of(model, allocate, unit, sensitivity));
    table.push_back(choices.back().choices);
  }
  const auto file_bytes = [&](const std::vector<size_t>& picks) {
    const Plan plan = plan_of(units, choices, picks, model, allocate);
    return plan_file_bytes(frame, plan, make_manifest(model, plan, recipe, threads));
  };
  const std::vector<size_t> picks = pick_within(allocate, table, budget, file_bytes);
  if (picks.empty())
    throw Error(ErrorKind::budget, "the budget cannot be met", "--fit", fmt::format("{} bytes", budget),
                fmt::format("the smallest file that can be made of this model has {} bytes",
                            file_bytes(smallest_picks(table))));
  FitResult fit;
  fit.plan = plan_of(units, choices, picks, model, allocate);
  fit.predicted_loss = loss_of(table, picks);
  fit.lossless =
      std::all_of(fit.plan.units.begin(), fit.plan.units.end(), [](const UnitPlan& unit) { return unit.copied; });
  return fit;
}

}  // namespace whit
