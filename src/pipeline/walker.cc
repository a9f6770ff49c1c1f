#include "pipeline/walker.h"

#include <fmt/format.h>

#include <algorithm>
#include <map>

#include "calibrate/statistics.h"
#include "model/torch/device.h"
#include "model/torch/executor.h"
#include "pipeline/fisher.h"
#include "pipeline/pause.h"
#include "pipeline/reconstruct.h"

namespace whit {
namespace {

class Walk {
 public:
  explicit Walk(const WalkContext& context) : context_(context), statistics_(context.plan.needs_statistics()) {
    if (context.reconstruct) task_ = context.reconstruct->task();
  }

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
    if (context_.windows) begin_streams();
    for (uint64_t block = 0; block < spec.layers; ++block) {
      if (context_.windows && !all_done_from(block))
        finish_with_streams(block);
      else
        for (const UnitPlan* unit : units_of_block(block)) finish(*unit, nullptr);
      context_.progress.advance(1);
      pause_point(context_.progress);
    }
    finish_waiting();
    context_.progress.end();
  }

 private:
  // A unit that is rounded, and what its format keeps of `weights`, in the basis that they are stored in.
  struct Rounded {
    TensorState state;
    StageReport report;
  };

  bool done(const UnitPlan& unit) const {
    if (unit.copied) return true;
    if (!context_.journal.has(unit.unit.name)) return false;
    return !context_.reconstruct || unit.unit.block < 0 ||
           context_.journal.has_block(static_cast<uint64_t>(unit.unit.block));
  }

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

  // `became`: weights in place of the original's.
  Rounded round(const UnitPlan& unit, std::shared_ptr<const UnitStatistics> statistics, Matrix became = {}) const {
    Rounded rounded;
    TensorState& state = rounded.state;
    state = load_unit(context_.model, unit.unit);
    if (!became.data.empty()) {
      state.weights = std::move(became);
      state.source_grid.reset();
    }
    state.plan = unit.format;
    state.statistics = std::move(statistics);
    const auto quantizer = make_quantizer(unit.method, unit.options);
    const MethodContext context{context_.pool, static_cast<uint64_t>(context_.calibrate.seed)};
    for (const UnitStep& step : unit.before) apply_step(step, state, context);
    WHIT_CHECK(state.rotation == unit.rotation);
    rounded.report = quantizer->quantize(state, context);
    state.packed->rotation = unit.rotation;
    state.statistics.reset();
    if (rounded.report.damp_ratio > 0.05)
      context_.progress.note(fmt::format("{}: damping was raised to {:g} until the system could be solved",
                                         unit.unit.name, rounded.report.damp_ratio));
    return rounded;
  }

  // On a device units wait until some can be rounded side by side.
  void finish(const UnitPlan& unit, std::shared_ptr<const UnitStatistics> statistics) {
    if (done(unit)) return;
    waiting_.push_back({&unit, std::move(statistics)});
    if (learning_device() == "cpu" || waiting_.size() >= kSideBySide) finish_waiting();
  }

  void finish_waiting() {
    side_by_side(waiting_.size(), [&](size_t i) {
      const UnitPlan& unit = *waiting_[i].unit;
      const Rounded rounded = round(unit, std::move(waiting_[i].statistics));
      context_.journal.store(unit.unit.name, *rounded.state.packed, rounded.report,
                             context_.keep_latents ? rounded.state.latents : std::vector<Matrix>());
    });
    waiting_.clear();
  }

  bool original_prefix() const { return context_.calibrate.prefix == "original"; }
  bool wants_original() const { return original_prefix() || (context_.reconstruct && task_.original_targets); }
  bool wants_compressed() const { return !original_prefix() || context_.reconstruct; }

  // The windows as the original embedding gives them, and as the compressed one does.
  void begin_streams() {
    const UnitPlan* embedding = nullptr;
    for (const UnitPlan& unit : context_.plan.units)
      if (unit.unit.kind == "token_embd") embedding = &unit;
    if (wants_original()) original_ = embed_windows(context_.model, *context_.windows);
    if (!wants_compressed()) return;
    finish_waiting();
    if (!embedding || embedding->copied) {
      compressed_ = embed_windows(context_.model, *context_.windows);
      return;
    }
    const auto packed = finished_unit(context_.model, *embedding, context_.journal);
    const StoredTensor stored = make_stored(embedding->unit.name, packed);
    const size_t context = context_.windows->context;
    compressed_ = {context_.windows->windows.size(), context,
                   embed(context_.model, context_.windows->ids(), context, 0, {&stored, 0, packed->shape.rows})};
  }

  void finish_with_streams(uint64_t block) {
    const ModelSpec& spec = context_.model.spec;
    const std::vector<const UnitPlan*> units = units_of_block(block);
    DenseWeights weights = load_block(context_.model, block);
    const bool finished = std::all_of(units.begin(), units.end(), [&](const UnitPlan* unit) { return done(*unit); });
    const bool trains = !finished && context_.reconstruct;
    Grams grams;
    const InputHook hook = finished || !statistics_ || (trains && task_.unit_by_unit) ? InputHook{} : grams.hook();
    if (wants_original()) run_block(spec, block, weights, original_, original_prefix() ? hook : InputHook{});
    Activations seen;  // what the original block makes of the compressed prefix
    if (!finished && ((hook && !original_prefix()) || (trains && !task_.original_targets))) {
      seen = compressed_;
      run_block(spec, block, weights, seen, original_prefix() ? InputHook{} : hook);
    }
    if (trains) {
      if (task_.original_targets) seen = {};
      reconstruct(block, units, weights, grams, task_.original_targets ? original_.values : seen.values);
    } else {
      seen = {};
      for (const UnitPlan* unit : units)
        if (!done(*unit)) finish(*unit, statistics_of(*unit, grams));
    }
    if (!wants_compressed()) return;
    finish_waiting();
    for (const UnitPlan* unit : units)
      if (!unit->copied) put_unit(*unit, finished_unit(context_.model, *unit, context_.journal), weights);
    if (context_.journal.has_block(block)) put_vectors(context_.journal.load_block(block).vectors, weights);
    run_block(spec, block, weights, compressed_, {});
  }

  std::shared_ptr<const UnitStatistics> statistics_of(const UnitPlan& unit, Grams& grams) const {
    return statistics_ ? std::make_shared<const UnitStatistics>(grams.mean(unit.unit.kind)) : nullptr;
  }

  // The members of a unit as they are stored now.
  static void put_unit(const UnitPlan& unit, const std::shared_ptr<const Packed>& packed, DenseWeights& weights) {
    const StoredTensor stored = make_stored(unit.unit.name, packed);
    uint64_t begin = 0;
    for (size_t m = 0; m < unit.unit.members.size(); ++m) {
      weights.at(unit.unit.members[m]) = unpack_dense({&stored, begin, unit.unit.member_rows[m]});
      begin += unit.unit.member_rows[m];
    }
  }

  static void put_vectors(const Vectors& vectors, DenseWeights& weights) {
    for (const auto& [name, values] : vectors) weights.at(name).data = values;
  }

  // The members of a unit under each other.
  static Matrix stacked(const UnitPlan& unit, const DenseWeights& weights) {
    Matrix matrix(unit.unit.rows, unit.unit.cols);
    uint64_t begin = 0;
    for (size_t m = 0; m < unit.unit.members.size(); ++m) {
      const Matrix& member = weights.at(unit.unit.members[m]);
      std::copy(member.data.begin(), member.data.end(), matrix.row(begin));
      begin += unit.unit.member_rows[m];
    }
    return matrix;
  }

  // Rounds the units of a block and trains it, once or after each of them; then everything goes into the journal.
  // `weights`: the original's at first, then what they became. `grams`: of all units, where they are trained once.
  void reconstruct(uint64_t block, const std::vector<const UnitPlan*>& units, DenseWeights& weights, Grams& grams,
                   const Matrix& targets) {
    std::map<std::string, UnitStart> rounded;
    std::map<std::string, StageReport> reports;
    size_t left = static_cast<size_t>(
        std::count_if(units.begin(), units.end(), [](const UnitPlan* unit) { return !unit->copied; }));
    Journal::Block entry;
    uint64_t epochs = 0;
    for (const UnitPlan* unit : units) {
      if (unit->copied) continue;
      if (task_.unit_by_unit && statistics_) see_inputs(block, weights, unit->unit.kind, grams);
      Rounded now = round(*unit, statistics_of(*unit, grams), task_.unit_by_unit ? stacked(*unit, weights) : Matrix());
      reports[unit->unit.name] = now.report;
      rounded[unit->unit.name] = {std::make_shared<const Packed>(std::move(*now.state.packed)),
                                  std::move(now.state.latents), std::move(now.state.weights)};
      if (--left > 0 && !task_.unit_by_unit) continue;
      train(block, units, targets, weights, rounded, entry);
      epochs += entry.report.at("epochs").get<uint64_t>();
    }
    entry.report["epochs"] = epochs;
    for (const UnitPlan* unit : units)
      if (const auto made = rounded.find(unit->unit.name); made != rounded.end())
        context_.journal.store(unit->unit.name, *made->second.packed, reports.at(unit->unit.name),
                               context_.keep_latents ? made->second.latents : std::vector<Matrix>());
    context_.journal.store_block(block, entry);
    context_.progress.note(fmt::format("blk.{}: held-out error {:.3g} -> {:.3g} in {} epochs", block,
                                       entry.report.at("held_out_start").get<double>(),
                                       entry.report.at("held_out").get<double>(), epochs));
  }

  void see_inputs(uint64_t block, const DenseWeights& weights, const std::string& wanted, Grams& grams) const {
    Activations seen = compressed_;
    run_block(context_.model.spec, block, weights, seen, [&](const std::string& kind, MatrixView rows) {
      if (kind == wanted) grams.add(kind, rows);
    });
  }

  // What is rounded learns in its format, what is not yet as dense weights, what is copied stays.
  void train(uint64_t block, const std::vector<const UnitPlan*>& units, const Matrix& targets, DenseWeights& weights,
             std::map<std::string, UnitStart>& rounded, Journal::Block& entry) const {
    const FormatPtr dense = make_format("f32");
    Plan plan;
    for (const UnitPlan* unit : units) {
      plan.units.push_back(*unit);
      if (unit->copied || rounded.contains(unit->unit.name)) continue;
      plan.units.back().format = dense;
      plan.units.back().rotation = {};
    }
    const UnitStarter start = [&](const UnitPlan& unit) {
      if (unit.copied) return UnitStart{finished_unit(context_.model, unit, context_.journal), {}, {}, true};
      if (const auto made = rounded.find(unit.unit.name); made != rounded.end()) return made->second;
      const Matrix now = stacked(unit, weights);
      return UnitStart{std::make_shared<const Packed>(pack_dense(dense, {now.rows, now.cols}, now.data)), {}, {}};
    };
    const bool latents = context_.keep_latents || task_.unit_by_unit;
    ReconstructedBlock made = reconstruct_block(
        {context_.model, block, plan, start, entry.vectors, compressed_, targets, *context_.reconstruct,
         static_cast<uint64_t>(context_.calibrate.seed), latents, context_.progress});
    entry.vectors = std::move(made.encoded.vectors);
    entry.report = std::move(made.report);
    for (const UnitPlan& unit : plan.units) {
      if (unit.copied) continue;
      const auto& packed = made.encoded.units.at(unit.unit.name);
      if (task_.unit_by_unit) put_unit(unit, packed, weights);
      if (const auto known = rounded.find(unit.unit.name); known != rounded.end())
        known->second = {packed, std::move(made.encoded.latents[unit.unit.name]), {}};
    }
    put_vectors(entry.vectors, weights);
  }

  struct Waiting {
    const UnitPlan* unit;
    std::shared_ptr<const UnitStatistics> statistics;
  };

  const WalkContext& context_;
  std::vector<Waiting> waiting_;
  const bool statistics_;              // some unit wants them
  BlockTask task_;                     // where blocks are trained
  Activations original_, compressed_;  // the windows after the blocks so far; empty: not wanted
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
