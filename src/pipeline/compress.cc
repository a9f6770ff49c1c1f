#include "pipeline/compress.h"

#include <fmt/format.h>

#include <chrono>
#include <set>

#include "base/memory.h"
#include "data/tokenizer.h"
#include "model/torch/device.h"
#include "model/torch/writer.h"
#include "pipeline/family.h"
#include "pipeline/fit.h"
#include "pipeline/layerwise.h"
#include "pipeline/memory_plan.h"
#include "pipeline/pause.h"
#include "pipeline/reconstruct.h"
#include "pipeline/sensitivity.h"
#include "pipeline/tune.h"
#include "pipeline/walker.h"

namespace whit {
namespace {

class Job {
 public:
  Job(const CompressRequest& request, Progress& progress)
      : request_(request),
        progress_(progress),
        recipe_(request.recipe),
        pool_(request.threads),
        model_(in_basis(load_model(request.model, {request.verify}, progress), recipe_)),
        frame_(*model_, progress),
        cache_(request.cache) {
    set_torch_threads(pool_.threads());
  }

  Json compress() {
    if (!request_.dry_run && !request_.force && std::filesystem::exists(request_.output))
      throw Error(ErrorKind::io, "the output exists already", request_.output.string(), {}, "--force overwrites it");
    const Plan plan = make_the_plan();
    note_widened(plan);
    const Step* tuning = tune_step(recipe_);
    const auto reconstructor = make_block_trainer();
    const bool statistics = plan.needs_statistics();
    if (statistics || reconstructor) draw_windows();
    settle_data();
    std::string manifest = make_manifest(*model_, plan, expected_tune(recipe_), pool_.threads());
    const uint64_t predicted = plan_file_bytes(frame_, plan, manifest);
    Json result;
    result["output"] = request_.output.string();
    result["file_bytes"] = nullptr;
    result["predicted_bytes"] = predicted;
    uint64_t peak = predicted_peak(*model_, plan, recipe_.calibrate, baseline_, measures_);
    if (reconstructor)
      peak = std::max(peak, baseline_ + reconstruct_bytes(*model_, plan, recipe_.calibrate, reconstructor->task()));
    if (tuning && learning_device() == "cpu")
      peak = std::max(peak, baseline_ + tune_bytes(*model_, plan, true, recipe_.tune));
    if (wrote_ && learning_device() == "cpu")
      peak = std::max(peak, baseline_ + TextWriter::bytes(model_->spec, static_cast<size_t>(recipe_.calibrate.context)));
    result["predicted_peak_bytes"] = peak;
    note_promise(progress_, peak);
    result["peak_bytes"] = nullptr;
    result["seconds"] = nullptr;
    result["predicted_loss"] = loss_ >= 0 ? Json(loss_) : Json(nullptr);
    result["lossless"] = lossless_;
    result["plan"] = plan_json(plan);
    if (!probes_.is_null()) result["probes"] = probes_;
    if (!families_.is_null()) result["families"] = families_;
    if (request_.dry_run) return result;

    Json key;
    key["model"] = model_->content_hash;
    key["machine"] = machine_key(pool_.threads());
    key["recipe"] = recipe_to_json(resolved_recipe(plan, recipe_));
    if (reconstructor) key["device"] = learning_device();
    Journal journal(request_.output.string() + ".journal", key);
    Matrix gram;
    if (statistics)
      for (const UnitPlan& unit : plan.units)
        if (unit.unit.block < 0 && !unit.copied && gram.data.empty())
          gram = output_gram(*model_, windows_, cache_, pool_.threads(), progress_);
    walk({*model_, plan, recipe_.calibrate, statistics || reconstructor ? &windows_ : nullptr,
          gram.data.empty() ? nullptr : &gram, journal, reconstructor.get(), tuning != nullptr, pool_, progress_});
    Encoded tuned;
    for (uint64_t block = 0; block < model_->spec.layers; ++block) {
      if (!journal.has_block(block)) continue;
      Journal::Block entry = journal.load_block(block);
      tuned.vectors.merge(entry.vectors);
      Json row = {{"block", block}};
      row.update(entry.report);
      result["reconstruct"].push_back(std::move(row));
    }
    if (tuning) {
      tuned = tune_units(plan, *tuning, journal, std::move(tuned.vectors), key, result);
      manifest = make_manifest(*model_, plan, recipe_, pool_.threads());
    }

    progress_.begin("write", static_cast<double>(plan.units.size()));
    ModelOutput output = plan_output(frame_, plan, manifest, [&](const UnitPlan& unit) {
      progress_.advance(1);
      pause_point(progress_);
      if (tuning) return tuned.units.at(unit.unit.name);
      return finished_unit(*model_, unit, journal);
    }, tuned.vectors);
    AtomicFile file(request_.output, request_.force);
    write_model_file(file, output);
    const uint64_t written = file.size();
    file.commit();
    journal.remove();
    progress_.end();
    WHIT_CHECK(tuning ? written <= predicted : written == predicted);
    result["file_bytes"] = written;
    result["peak_bytes"] = memory_.peak();
    result["resident_peak_bytes"] = memory_use().resident_peak;
    if (learning_device() != "cpu") result["device_peak_bytes"] = device_peak_bytes();
    result["seconds"] = seconds();
    return result;
  }

  Json calibrate() {
    const Step* step = allocate_step();
    if (!step)
      throw Error(ErrorKind::usage, "this recipe chooses nothing, so there is nothing to calibrate", "--recipe");
    draw_windows();
    const Sensitivity sensitivity = measure(*step);
    Json result;
    result["cache"] = cache_.folder().string();
    result["seconds"] = seconds();
    result["peak_bytes"] = memory_.peak();
    result["probes"] = sensitivity.probes;
    return result;
  }

 private:
  static ModelPtr in_basis(ModelPtr model, const Recipe& recipe) {
    const Step* step = basis_step(recipe);
    return step ? make_basis(step->method, step->options)->change(model) : model;
  }

  double seconds() const { return std::chrono::duration<double>(std::chrono::steady_clock::now() - start_).count(); }

  const Step* allocate_step() const {
    for (const Step& step : recipe_.steps)
      if (!step.quantizer.empty()) return &step;
    return nullptr;
  }
  bool allocates() const { return allocate_step() != nullptr; }

  // Of a reconstruct step, or null.
  std::unique_ptr<Reconstructor> make_block_trainer() const {
    const Step* step = reconstruct_step(recipe_);
    if (!step) return nullptr;
    auto reconstructor = make_reconstructor(step->method, step->options);
    check_reconstruct(reconstructor->task(), recipe_.calibrate);
    return reconstructor;
  }

  Plan make_the_plan() {
    const Step* step = allocate_step();
    if (!step) {
      if (!request_.budget.empty())
        throw Error(ErrorKind::usage, "a size was asked for, but the recipe chooses no formats", "--fit",
                    request_.budget, "leave out --fit, or use a recipe with an allocate step");
      Plan plan = make_plan(*model_, recipe_);
      if (needs_layerwise(plan)) {
        draw_windows();
        measures_ = needs_fisher(plan);
        resolve_layerwise({*model_, windows_, cache_, pool_, progress_}, plan);
      }
      return plan;
    }
    measures_ = true;
    const uint64_t budget =
        request_.budget.empty() ? step->budget : parse_budget(request_.budget, model_->spec.weights());
    if (budget == 0) throw Error(ErrorKind::usage, "this recipe needs a size", "--fit", {}, "--fit 60MB");
    draw_windows();
    const Step allocate = *step;
    return fitted(allocate, measure(allocate), budget);
  }

  void note_widened(const Plan& plan) {
    uint64_t units = 0, bytes = 0;
    for (const UnitPlan& unit : plan.units)
      if (unit.widened) ++units, bytes += unit.bytes;
    if (units > 0)
      progress_.note(
          fmt::format("{} tensors that no step takes become F32 ({:.1f} MB): the original has them in a type that such "
                      "a file cannot hold",
                      units, static_cast<double>(bytes) / 1e6));
  }

  // What the manifest will be made of, at its longest.
  Recipe expected(const Recipe& recipe) const {
    Recipe longest = expected_tune(recipe);
    longest.calibrate = settled(recipe.calibrate);
    return longest;
  }

  // The family that is best at this size (families.def) where there is time to train it, else measured grids; a size below the
  // smallest grids is met by a family all the same.
  Plan fitted(const Step& allocate, const Sensitivity& sensitivity, uint64_t budget) {
    const bool trains = request_.minutes > 0;
    std::optional<FitResult> grids;
    const auto try_grids = [&] {
      try {
        grids = fit_plan(frame_, allocate, expected(recipe_), sensitivity, budget, pool_.threads());
      } catch (const Error& error) {
        if (error.kind() != ErrorKind::budget) throw;
      }
      return grids.has_value();
    };
    if (!trains && try_grids()) return take(std::move(*grids));

    const FamilyRequest request{*model_, allocate, sensitivity, recipe_, trains,
                                [&](const Plan& plan, const Recipe& recipe) {
                                  return plan_file_bytes(
                                      frame_, plan, make_manifest(*model_, plan, expected(recipe), pool_.threads()));
                                }};
    const FileSizes smallest = smallest_file(request);
    const double rate = 8.0 * static_cast<double>(budget - std::min(budget, smallest.overhead)) /
                        static_cast<double>(model_->spec.weights());
    families_ = Json::array();
    std::optional<FamilyPlan> family;
    for (const FamilyOffer& offer : family_offers(rate)) {
      Json row = {{"family", offer.family}, {"rate", rate}, {"expected_kl", offer.kl}, {"measured", offer.measured}};
      if (grids || family)
        row["verdict"] = "not better";
      else if (offer.family == "grids" ? try_grids() : (family = family_plan(request, offer.family, budget)).has_value())
        row["verdict"] = "chosen";
      else
        row["verdict"] = "not so small";
      families_.push_back(std::move(row));
    }
    if (grids) {
      progress_.note("at this size the measured grids are best, and they are not trained");
      return take(std::move(*grids));
    }
    if (!family)
      throw Error(ErrorKind::budget, "the budget cannot be met", "--fit", fmt::format("{} bytes", budget),
                  fmt::format("the smallest file that can be made of this model has {} bytes", smallest.bytes));
    if (!trains)
      progress_.note("formats as small as this need training: without --minutes the file will not speak");
    recipe_ = std::move(family->recipe);
    return std::move(family->plan);
  }

  Plan take(FitResult fit) {
    loss_ = fit.predicted_loss;
    lossless_ = fit.lossless;
    if (lossless_) progress_.note("every tensor keeps its bytes: a larger file would not be better");
    return std::move(fit.plan);
  }

  // Trains what the walk left in the journal; the manifest then says what was trained on.
  Encoded tune_units(const Plan& plan, const Step& step, const Journal& journal, Vectors vectors, const Json& key,
                     Json& result) {
    const UnitStarter start = [&](const UnitPlan& unit) {
      return UnitStart{finished_unit(*model_, unit, journal), journal.latents(unit.unit.name), {}};
    };
    Json tune_key = key;
    tune_key["device"] = learning_device();
    tune_key["minutes"] = request_.minutes;
    const double spent = request_.minutes > 0 ? seconds() / 60 : 0;
    if (request_.minutes > 0 && spent >= request_.minutes)
      progress_.note("compressing alone took the time that was given; one step of training follows");
    Tuned tuned = tune_model({*model_, plan, start, std::move(vectors), model_.get(), step.method, step.options, recipe_.tune,
                              std::max(0.01, request_.minutes - spent), journal.folder() / "tune.checkpoint", tune_key,
                              cache_, progress_});
    recipe_.tune = tuned.options;
    recipe_.tune.data = nameless(recipe_.tune.data);
    result["tune"] = tuned.report;
    return std::move(tuned.encoded);
  }

  // The longest that the manifest's tune table can become.
  static Recipe expected_tune(Recipe recipe) {
    if (!tune_step(recipe)) return recipe;
    TuneOptions& tune = recipe.tune;
    tune.data = nameless(tune.data);
    tune.data_hash = std::string(32, 'f');
    for (int64_t* number : {&tune.tokens, &tune.text_tokens})
      if (*number == 0) *number = 999999999999;
    if (tune.batch == 0) tune.batch = 10000000;
    return recipe;
  }

  Sensitivity measure(const Step& step) {
    Sensitivity sensitivity = measure_sensitivity({*model_, windows_, probe_windows_, step, cache_, pool_, progress_});
    probes_ = sensitivity.probes;
    return sensitivity;
  }

  void draw_windows() {
    if (!windows_.windows.empty()) return;
    CalibrateOptions& options = recipe_.calibrate;
    const auto tokens = static_cast<uint64_t>(options.tokens), context = static_cast<uint64_t>(options.context);
    const auto seed = static_cast<uint64_t>(options.seed);
    std::vector<int32_t> ids;
    int32_t bos = -1;
    if (self_written(options.data)) {
      // Whole windows with beginnings of their own, and some for probes whether they are asked for or not: a recipe out of a
      // --fit file draws from the same ones.
      TuneOptions text;
      text.data = options.data;
      text.context = options.context;
      text.seed = options.seed;
      const TrainingText own = training_text(*model_, text, tokens + probe_tokens(context), 0, cache_, progress_);
      wrote_ = own.written_now;
      for (const auto& window : own.train)
        ids.insert(ids.end(), window.begin(), window.end());
    } else {
      const std::string text = named_text(options.data, "calibrate: data");
      const auto tokenizer = tokenizer_of(*model_);
      ids = tokenizer->encode(text, false, false);
      bos = tokenizer->bos();
    }
    windows_ = calibration_windows(ids, bos, tokens, context, seed);
    if (!options.data_hash.empty() && options.data_hash != windows_.hash)
      throw Error(ErrorKind::usage, "the calibration text is not the one that the recipe was made with", options.data,
                  windows_.hash, "wanted " + options.data_hash);
    if (allocates()) draw_probe_windows(ids, bos, tokens, context, seed);
  }

  // Windows of the same text that calibration does not see: 2048 tokens, or what a short text leaves.
  void draw_probe_windows(std::span<const int32_t> ids, int32_t bos, uint64_t tokens, uint64_t context, uint64_t seed) {
    const uint64_t all = ids.size() / context;
    const uint64_t calibrated = windows_.windows.size();
    if (all <= calibrated)
      throw Error(ErrorKind::input, "the calibration text leaves nothing to measure sensitivities on",
                  recipe_.calibrate.data, fmt::format("{} windows of {} tokens, all calibrated on", all, context),
                  "a longer text, or fewer --calibration-tokens");
    const uint64_t probes = std::min(all - calibrated, probe_tokens(context) / context);
    const std::set<std::vector<int32_t>> used(windows_.windows.begin(), windows_.windows.end());
    CalibrationWindows drawn = calibration_windows(ids, bos, tokens + probes * context, context, seed + 1);
    probe_windows_.context = context;
    for (auto& window : drawn.windows)
      if (!used.count(window) && probe_windows_.windows.size() < probes)
        probe_windows_.windows.push_back(std::move(window));
    probe_windows_.hash = drawn.hash;
  }

  // The manifest names no files: a text of the user's own is known by its hash.
  CalibrateOptions settled(CalibrateOptions options) const {
    if (!windows_.windows.empty()) {
      options.data_hash = windows_.hash;
      options.data = nameless(options.data);
    }
    return options;
  }
  void settle_data() {
    if (windows_.windows.empty()) recipe_.calibrate.data = nameless(recipe_.calibrate.data);
    recipe_.calibrate = settled(recipe_.calibrate);
  }

  static Json plan_json(const Plan& plan) {
    Json rows = Json::array();
    for (const UnitPlan& unit : plan.units)
      rows.push_back({{"tensor", unit.unit.name},
                      {"format", unit.format->label()},
                      {"bytes", unit.bytes},
                      {"predicted_loss", unit.predicted_loss >= 0 ? Json(unit.predicted_loss) : Json(nullptr)},
                      {"method", unit.copied ? "copy" : unit.method}});
    return rows;
  }

  const CompressRequest& request_;
  Progress& progress_;
  const std::chrono::steady_clock::time_point start_ = std::chrono::steady_clock::now();
  const uint64_t baseline_ = memory_use().anonymous_and_shared;
  PeakMemory memory_;
  Recipe recipe_;
  ThreadPool pool_;
  const ModelPtr model_;
  const OutputFrame frame_;
  const Cache cache_;
  CalibrationWindows windows_, probe_windows_;
  Json probes_, families_;
  double loss_ = -1;
  bool measures_ = false;  // sensitivities of the original, which take memory
  bool lossless_ = false;
  bool wrote_ = false;  // text, which takes memory
};

}  // namespace

Json compress(const CompressRequest& request, Progress& progress) {
  return naming_damage(request.model, [&] { return Job(request, progress).compress(); });
}
Json calibrate(const CompressRequest& request, Progress& progress) {
  return naming_damage(request.model, [&] { return Job(request, progress).calibrate(); });
}

}  // namespace whit
