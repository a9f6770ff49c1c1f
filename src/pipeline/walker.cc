#include "pipeline/walker.h"

#include <fmt/format.h>

#include <algorithm>

#include "calibrate/statistics.h"
#include "model/torch/executor.h"
#include "pipeline/fisher.h"
#include "pipeline/pause.h"

namespace whit {
namespace {

class Walk {
 public:
  explicit Walk(const WalkContext& context) : context_(context) {}

  void run() {
    const ModelSpec& spec = context_.model.spec;
    size_t before = 0, all = 0;
    for (const UnitPlan& unit : context_.plan.units) all += !unit.copied, before += !unit.copied && done(unit);
    if (before > 0) context_.progress.note(fmt::format("going on: {} of {} units were finished before", before, all));
    context_.progress.begin("compress", static_cast<double>(spec.layers + 1));
    for (const UnitPlan& unit : context_.plan.units)
      if (unit.unit.block < 0) finish(unit, end_statistics());
    context_.progress.advance(1);
    pause_point(context_.progress);
    const bool statistics = context_.windows != nullptr;
    if (statistics) embed_prefix();
    for (uint64_t block = 0; block < spec.layers; ++block) {
      if (statistics && !all_done_from(block))
        with_statistics(block);
      else
        for (const UnitPlan* unit : units_of_block(block)) finish(*unit, nullptr);
      context_.progress.advance(1);
      pause_point(context_.progress);
    }
    context_.progress.end();
  }

 private:
  bool done(const UnitPlan& unit) const { return unit.copied || context_.journal.has(unit.unit.name); }

  std::vector<const UnitPlan*> units_of_block(uint64_t block) const {
    std::vector<const UnitPlan*> units;
    for (const UnitPlan& unit : context_.plan.units)
      if (unit.unit.block == static_cast<int64_t>(block)) units.push_back(&unit);
    return units;
  }

  bool all_done_from(uint64_t block) const {
    return std::all_of(context_.plan.units.begin(), context_.plan.units.end(), [&](const UnitPlan& unit) {
      return unit.unit.block < static_cast<int64_t>(block) || done(unit);
    });
  }

  std::shared_ptr<const UnitStatistics> end_statistics() const {
    if (!context_.output_gram) return nullptr;
    auto statistics = std::make_shared<UnitStatistics>();
    statistics->gram = *context_.output_gram;
    statistics->tokens = 1;
    return statistics;
  }

  void finish(const UnitPlan& unit, std::shared_ptr<const UnitStatistics> statistics) {
    if (done(unit)) return;
    TensorState state = load_unit(context_.model, unit.unit);
    state.plan = unit.format;
    state.statistics = std::move(statistics);
    const auto quantizer = make_quantizer(unit.method, unit.options);
    const MethodContext context{context_.pool, static_cast<uint64_t>(context_.calibrate.seed)};
    for (const UnitStep& step : unit.before) apply_step(step, state, context);
    WHIT_CHECK(state.rotation == unit.rotation);
    const StageReport report = quantizer->quantize(state, context);
    context_.journal.store(unit.unit.name, *state.packed, report,
                           context_.keep_latents ? state.latents : std::vector<Matrix>());
    if (report.damp_ratio > 0.05)
      context_.progress.note(fmt::format("{}: damping was raised to {:g} until the system could be solved",
                                         unit.unit.name, report.damp_ratio));
  }

  // The windows as the compressed embedding (or the original one) gives them.
  void embed_prefix() {
    const UnitPlan* embedding = nullptr;
    for (const UnitPlan& unit : context_.plan.units)
      if (unit.unit.kind == "token_embd") embedding = &unit;
    if (original_prefix() || !embedding || embedding->copied) {
      activations_ = embed_windows(context_.model, *context_.windows);
      return;
    }
    const auto packed = finished_unit(context_.model, *embedding, context_.journal);
    const StoredTensor stored = make_stored(embedding->unit.name, packed);
    const std::vector<int32_t> ids = context_.windows->ids();
    activations_ = {context_.windows->windows.size(), context_.windows->context,
                    Matrix(ids.size(), packed->shape.cols)};
    for (size_t t = 0; t < ids.size(); ++t)
      unpack_rows({&stored, 0, packed->shape.rows}, static_cast<uint64_t>(ids[t]), 1,
                  std::span(activations_.values.row(t), packed->shape.cols));
  }

  bool original_prefix() const { return context_.calibrate.prefix == "original"; }

  void with_statistics(uint64_t block) {
    const std::vector<const UnitPlan*> units = units_of_block(block);
    DenseWeights weights = load_block(context_.model, block);
    const bool finished = std::all_of(units.begin(), units.end(), [&](const UnitPlan* unit) { return done(*unit); });
    if (!finished || original_prefix()) {
      Grams grams;
      Activations seen = original_prefix() ? std::move(activations_) : activations_;
      run_block(context_.model.spec, block, weights, seen, finished ? InputHook{} : grams.hook());
      if (original_prefix()) activations_ = std::move(seen);
      for (const UnitPlan* unit : units)
        if (!done(*unit)) finish(*unit, std::make_shared<const UnitStatistics>(grams.mean(unit->unit.kind)));
    }
    if (original_prefix()) return;
    for (const UnitPlan* unit : units) {
      if (unit->copied) continue;
      const StoredTensor stored = make_stored(unit->unit.name, finished_unit(context_.model, *unit, context_.journal));
      uint64_t begin = 0;
      for (size_t m = 0; m < unit->unit.members.size(); ++m) {
        weights.at(unit->unit.members[m]) = unpack_dense({&stored, begin, unit->unit.member_rows[m]});
        begin += unit->unit.member_rows[m];
      }
    }
    run_block(context_.model.spec, block, weights, activations_, {});
  }

  const WalkContext& context_;
  Activations activations_;
};

}  // namespace

void walk(const WalkContext& context) { Walk(context).run(); }

std::shared_ptr<const Packed> finished_unit(const Model& model, const UnitPlan& unit, const Journal& journal) {
  if (unit.copied) return std::make_shared<const Packed>(copy_unit(model, unit.unit));
  const auto packed = journal.load(unit.unit.name);
  packed->rotation = unit.rotation;
  return packed;
}

}  // namespace whit
