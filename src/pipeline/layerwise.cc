#include "pipeline/layerwise.h"

#include <fmt/format.h>

#include <algorithm>
#include <filesystem>
#include <map>

#include "base/hash.h"
#include "calibrate/statistics.h"
#include "methods/math/layerwise.h"
#include "model/torch/executor.h"
#include "pipeline/fisher.h"
#include "pipeline/memory_plan.h"
#include "pipeline/pause.h"
#include "pipeline/sensitivity.h"

namespace whit {
namespace {

// The prune step that asks, or null.
template <class Unit>  // UnitPlan, const or not
auto asking(Unit& unit) -> decltype(unit.before.data()) {
  if (unit.copied) return nullptr;
  for (auto& step : unit.before)
    if (step.stage == Stage::prune && step.options.value("layerwise", "uniform") != "uniform") return &step;
  return nullptr;
}

UnitStep score_step(const UnitPlan& unit) {
  for (const UnitStep& step : unit.before)
    if (step.stage == Stage::importance) return step;
  return {Stage::importance, "wanda", make_importance("wanda", Json::object())->options()};
}

LayerwiseOptions options_of(const UnitStep& step) {
  LayerwiseOptions options;
  Json own = Json::object();
  for (const OptionDescription& option : describe_options<LayerwiseOptions>())
    own[option.name] = step.options.at(option.name);
  read_options(options, own, step.method);
  return options;
}

// Units that ask alike share one allotment: same method, options and scores.
std::string group_of(const UnitPlan& unit) {
  const UnitStep* prune = asking(unit);
  const UnitStep score = score_step(unit);
  return prune->method + prune->options.dump() + score.method + score.options.dump();
}

// block -> what it shows, of one group of units.
using Blocks = std::map<int64_t, BlockScores>;

Json to_json(const std::map<std::string, Blocks>& groups) {
  Json json = Json::object();
  for (const auto& [group, blocks] : groups)
    for (const auto& [block, scores] : blocks)
      json[group].push_back({block, scores.outlier_share, scores.weight_norm, scores.kept, scores.loss});
  return json;
}

std::map<std::string, Blocks> from_json(const Json& json) {
  std::map<std::string, Blocks> groups;
  for (const auto& [group, blocks] : json.items())
    for (const Json& entry : blocks)
      groups[group][entry.at(0).get<int64_t>()] = {entry.at(1).get<double>(), entry.at(2).get<double>(),
                                                   entry.at(3).get<std::vector<uint64_t>>(),
                                                   entry.at(4).get<std::vector<double>>()};
  return groups;
}

class Measurement {
 public:
  Measurement(const LayerwiseContext& context, const Plan& plan) : context_(context), plan_(plan) {}

  std::string key() const {
    Hasher hasher;
    hasher.add("layerwise 1").add(context_.model.weights_hash()).add(context_.windows.hash);
    hasher.add(machine_key(context_.pool.threads()));
    for (const UnitPlan& unit : plan_.units)
      if (asking(unit)) hasher.add(unit.unit.name).add(group_of(unit));
    return hasher.hex();
  }

  std::map<std::string, Blocks> run() {
    const std::string key = this->key();
    if (const auto stored = context_.cache.load(key)) return from_json(stored->json);
    if (needs_fisher(plan_))
      fisher_ = measure_fisher(context_.model, few_windows(), 1, context_.pool, context_.progress).rows;
    const ModelSpec& spec = context_.model.spec;
    context_.progress.begin("layer-wise N:M: blocks", static_cast<double>(spec.layers));
    Activations activations = embed_windows(context_.model, context_.windows);
    for (uint64_t block = 0; block < spec.layers; ++block) {
      Grams grams;
      run_block(spec, block, load_block(context_.model, block), activations, grams.hook());
      measure_block(static_cast<int64_t>(block), grams);
      context_.progress.advance(1);
      pause_point(context_.progress);
    }
    context_.progress.end();
    context_.cache.store(key, {to_json(groups_), {}});
    return std::move(groups_);
  }

 private:
  // Of the calibration windows as many as sensitivities are measured on elsewhere.
  CalibrationWindows few_windows() const {
    CalibrationWindows few = context_.windows;
    const uint64_t count = probe_tokens(few.context) / few.context;
    if (few.windows.size() > count) few.windows.resize(count);
    return few;
  }

  void measure_block(int64_t block, Grams& grams) {
    std::map<std::string, std::vector<Matrix>> scores;
    std::map<std::string, double> threshold;
    for (const UnitPlan& unit : plan_.units) {
      if (unit.unit.block != block || !asking(unit)) continue;
      const std::string group = group_of(unit);
      TensorState state = load_unit(context_.model, unit.unit);
      state.statistics = std::make_shared<const UnitStatistics>(grams.mean(unit.unit.kind));
      apply_step(score_step(unit), state, {context_.pool, 0});
      std::vector<float> mean_squares(state.weights.cols), cost(state.weights.rows, 1.0f);
      for (size_t j = 0; j < mean_squares.size(); ++j) mean_squares[j] = state.statistics->gram.row(j)[j];
      // 1/2 F_r per squared error of output r: nats (sensitivity.h).
      if (const auto fisher = fisher_.find(unit.unit.name); fisher != fisher_.end())
        for (size_t r = 0; r < cost.size(); ++r) cost[r] = 0.5f * fisher->second.at(r);
      const auto m = asking(unit)->options.at("m").get<unsigned>();
      add_unit(state.weights, state.scores, mean_squares, cost, m, context_.pool, groups_[group][block]);
      const LayerwiseOptions options = options_of(*asking(unit));
      if (options.layerwise != "owl") continue;  // outliers are counted over the whole block: its scores are held
      scores[group].push_back(std::move(state.scores));
      threshold[group] = options.owl_threshold;
    }
    for (const auto& [group, matrices] : scores)
      groups_[group][block].outlier_share = outlier_share(matrices, threshold.at(group));
  }

  const LayerwiseContext& context_;
  const Plan& plan_;
  std::map<std::string, std::vector<float>> fisher_;
  std::map<std::string, Blocks> groups_;
};

}  // namespace

bool needs_layerwise(const Plan& plan) {
  return std::any_of(plan.units.begin(), plan.units.end(),
                     [](const UnitPlan& unit) { return asking(unit) != nullptr; });
}

bool needs_fisher(const Plan& plan) {
  return std::any_of(plan.units.begin(), plan.units.end(), [](const UnitPlan& unit) {
    const UnitStep* step = asking(unit);
    return step && step->options.at("layerwise") == "exact";
  });
}

bool layerwise_is_known(const LayerwiseContext& context, const Plan& plan) {
  return std::filesystem::exists(context.cache.path(Measurement(context, plan).key()));
}

void resolve_layerwise(const LayerwiseContext& context, Plan& plan) {
  for (const UnitPlan& unit : plan.units)
    if (asking(unit) && unit.unit.block < 0)
      throw Error(ErrorKind::usage, "layer-wise N:M is shared by the blocks, and this unit is in none", unit.unit.name,
                  asking(unit)->method, "a step of its own for it, or tensors = \"blk.*\"");
  const auto groups = Measurement(context, plan).run();
  std::map<std::string, std::map<int64_t, unsigned>> kept;
  for (UnitPlan& unit : plan.units) {
    UnitStep* step = asking(unit);
    if (!step) continue;
    const std::string group = group_of(unit);
    if (!kept.count(group)) {
      const Blocks& blocks = groups.at(group);
      std::vector<BlockScores> scores;
      for (const auto& [block, of_block] : blocks) scores.push_back(of_block);
      const NmPattern target{step->options.at("n").get<unsigned>(), step->options.at("m").get<unsigned>()};
      const std::vector<unsigned> n = layerwise_kept(options_of(*step), target, scores);
      std::string list;
      size_t next = 0;
      for (const auto& [block, of_block] : blocks) {
        list += fmt::format(" {}", n[next]);
        kept[group][block] = n[next++];
      }
      context.progress.note(fmt::format("{}, weights kept of {} in each block:{}",
                                        step->options.at("layerwise").get<std::string>(), target.m, list));
    }
    step->options["n"] = kept.at(group).at(unit.unit.block);
    step->options["layerwise"] = "uniform";
    if (unit.format->pattern()) {
      Json options = unit.format->options();
      options["n"] = step->options["n"];
      unit.format = make_format(unit.format->name(), options);
      unit.bytes = unit.format->bytes({unit.unit.rows, unit.unit.cols});
    }
  }
}

}  // namespace whit
