#include "pipeline/estimate.h"

#include <algorithm>
#include <chrono>
#include <functional>

#include "base/rng.h"
#include "calibrate/statistics.h"
#include "model/torch/executor.h"
#include "pipeline/fisher.h"
#include "pipeline/memory_plan.h"
#include "pipeline/sensitivity.h"

namespace whit {
namespace {

constexpr uint64_t kRows = 192;  // of a unit, rounded once for each format where sensitivities are measured
constexpr uint64_t kEndRows = 2048;
constexpr uint64_t kMostRows = 1024;  // of a unit that is rounded to see how long that takes

double seconds(const std::function<void()>& work) {
  const auto start = std::chrono::steady_clock::now();
  work();
  return std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
}

TensorState first_rows(const Model& model, const UnitSpec& unit, uint64_t rows) {
  TensorState state = load_unit(model, unit);
  state.source_grid.reset();
  state.unit.rows = state.weights.rows = std::min<uint64_t>(rows, unit.rows);
  state.weights.data.resize(state.weights.rows * state.weights.cols);
  return state;
}

}  // namespace

Estimate::Estimate(const Model& model, const CalibrateOptions& calibrate, ThreadPool& pool)
    : model_(model), calibrate_(calibrate), pool_(pool) {
  const ModelSpec& spec = model.spec;
  const auto context = static_cast<size_t>(calibrate.context);
  std::vector<int32_t> ids;
  Rng rng(1);
  for (size_t i = 0; i < context; ++i) ids.push_back(static_cast<int32_t>(rng.below(spec.vocabulary)));
  Activations window{1, context, embed(model, ids, context)};
  DenseWeights weights;
  load_ = seconds([&] { weights = load_block(model, 0); });
  // The first pass sets libraries up.
  Activations first = window;
  run_block(spec, 0, weights, first, {});
  Grams grams;
  Activations observed = window;
  observed_ = seconds([&] { run_block(spec, 0, weights, observed, grams.hook()); }) / static_cast<double>(context);
  forward_ = seconds([&] { run_block(spec, 0, weights, window, {}); }) / static_cast<double>(context);
  for (const UnitSpec& unit : units_of(spec))
    if (unit.block == 0) statistics_[unit.kind] = std::make_shared<const UnitStatistics>(grams.mean(unit.kind));
  const Matrix hidden = final_norm(model, window.values);
  const MatrixView few{hidden.data.data(), std::min<size_t>(64, hidden.rows), hidden.cols, hidden.cols};
  SilentProgress silent;
  const OutputRows output = original_output(model);
  pair_ = seconds([&] { mean_kl(spec, few, output, few, output, pool, silent); }) / static_cast<double>(few.rows);
  Grams of_output;
  of_output.add("output", hidden);
  statistics_[""] = std::make_shared<const UnitStatistics>(of_output.mean("output"));
}

double Estimate::all_blocks(double tokens, double seconds_per_token) const {
  return static_cast<double>(model_.spec.layers) * (load_ + tokens * seconds_per_token);
}

std::shared_ptr<const UnitStatistics> Estimate::statistics_of(const UnitSpec& unit) const {
  return statistics_.at(unit.block < 0 ? "" : unit.kind);
}

double Estimate::fisher() const {
  const auto tokens = static_cast<double>(probe_tokens(static_cast<uint64_t>(calibrate_.context)));
  return all_blocks(tokens, forward_) + all_blocks(tokens, 3 * forward_) + tokens * pair_;
}

double Estimate::sensitivities(const Step& allocate) const {
  const auto tokens = static_cast<double>(calibrate_.tokens);
  const auto probe = static_cast<double>(probe_tokens(static_cast<uint64_t>(calibrate_.context)));
  const auto quantizer = make_quantizer(allocate.quantizer, Json::object());
  double samples = 0, ends = 0, kinds = 0, whole = 0;
  for (const UnitSpec& unit : units_of(model_.spec)) {
    if (unit.block > 0) continue;
    const std::vector<FormatPtr>& formats = formats_of(allocate, unit);
    TensorState state = first_rows(model_, unit, kRows);
    state.statistics = statistics_of(unit);
    state.plan = formats[formats.size() / 2];
    // The gram is factored once for all formats.
    const double first = seconds([&] { quantizer->quantize(state, {pool_, 0}); });
    const double next = seconds([&] { quantizer->quantize(state, {pool_, 0}); });
    const double all = std::max(first, next) + next * static_cast<double>(formats.size() - 1);
    if (unit.block < 0)
      ends += all * static_cast<double>(std::min(unit.rows, kEndRows)) / static_cast<double>(state.weights.rows),
          ++whole;
    else
      samples += all, ++kinds;
  }
  const double blocks = static_cast<double>(model_.spec.layers) * samples + all_blocks(tokens + probe, observed_) +
                        all_blocks(kinds * probe, forward_);
  return fisher() + blocks + ends + (kinds + whole) * probe * pair_;
}

double Estimate::layerwise(bool with_fisher) const {
  return all_blocks(static_cast<double>(calibrate_.tokens), observed_) + (with_fisher ? fisher() : 0);
}

double Estimate::output_gram() const { return all_blocks(static_cast<double>(calibrate_.tokens), forward_); }

Estimate::Rounding Estimate::rounding(const UnitPlan& unit) const {
  TensorState state = first_rows(model_, unit.unit, kMostRows);
  state.plan = unit.format;
  state.statistics = statistics_of(unit.unit);
  const MethodContext context{pool_, static_cast<uint64_t>(calibrate_.seed)};
  const auto quantizer = make_quantizer(unit.method, unit.options);
  const double before = seconds([&] {
    for (const UnitStep& step : unit.before) apply_step(step, state, context);
  });
  const double first = seconds([&] { quantizer->quantize(state, context); });
  const double next = seconds([&] { quantizer->quantize(state, context); });
  const double parts = static_cast<double>(unit.unit.rows) / static_cast<double>(state.weights.rows);
  return {std::max(0.0, first - next), (before + next) * parts};
}

double Estimate::walk(const Plan& plan, bool streams) const {
  // Of each method the smallest unit is rounded; the others take as long for a weight, and for a factorization by the
  // third power of their inputs.
  std::map<std::string, const UnitPlan*> smallest;
  const auto size = [](const UnitPlan& unit) { return static_cast<double>(unit.unit.rows * unit.unit.cols); };
  for (const UnitPlan& unit : plan.units) {
    if (unit.copied) continue;
    const UnitPlan*& least = smallest[unit.method];
    if (!least || size(unit) < size(*least)) least = &unit;
  }
  std::map<std::string, Rounding> known;
  for (const auto& [method, unit] : smallest) known[method] = rounding(*unit);
  double sum = 0;
  for (const UnitPlan& unit : plan.units) {
    if (unit.copied) continue;
    const UnitPlan& least = *smallest.at(unit.method);
    const double inputs = static_cast<double>(unit.unit.cols) / static_cast<double>(least.unit.cols);
    sum += known.at(unit.method).factoring * inputs * inputs * inputs +
           known.at(unit.method).rows * size(unit) / size(least);
  }
  if (streams) sum += all_blocks(static_cast<double>(calibrate_.tokens), observed_ + forward_);
  return sum;
}

double Estimate::check(uint64_t tokens) const {
  return 2 * all_blocks(static_cast<double>(tokens), forward_) + static_cast<double>(tokens) / 2 * pair_;
}

}  // namespace whit
