#include "pipeline/compress.h"

#include <fmt/format.h>

#include <chrono>

#include "base/memory.h"
#include "model/torch/device.h"
#include "model/torch/writer.h"
#include "pipeline/calibration_text.h"
#include "pipeline/check.h"
#include "pipeline/estimate.h"
#include "pipeline/family.h"
#include "pipeline/fit.h"
#include "pipeline/layerwise.h"
#include "pipeline/memory_plan.h"
#include "pipeline/pause.h"
#include "pipeline/phases.h"
#include "pipeline/reconstruct.h"
#include "pipeline/sensitivity.h"
#include "pipeline/tune.h"
#include "pipeline/walker.h"

namespace whit {
namespace {

// By the process, a card's own context included.
uint64_t held_before() {
  synchronize_device();
  return memory_use().anonymous_and_shared;
}

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
    measures_ = allocates();
    recipe_.calibrate.data = settled_text(frame_.metadata(), recipe_.calibrate.data);
    recipe_.calibrate.context =
        window_tokens(*model_, recipe_.calibrate.context, request.context_given ? 0 : CalibrateOptions{}.context,
                      "calibrate: context", progress_);
    if (tune_step(recipe_) || request.minutes > 0)
      recipe_.tune.context =
          window_tokens(*model_, recipe_.tune.context, TuneOptions{}.context, "tune: context", progress_);
  }

  Json compress() {
    if (!request_.dry_run && !request_.force && std::filesystem::exists(request_.output))
      throw Error(ErrorKind::io, "the output exists already", request_.output.string(), {}, "--force overwrites it");
    // What needs no measuring is told first: it may be that nobody wants to wait for the rest.
    const bool known = plan_is_known();
    ChosenPlan chosen = known ? choose() : choose_roughly();
    if (request_.check) check_windows_ = check_windows(*model_, progress_);
    uint64_t memory = promised(chosen);
    note_promise(progress_, memory);
    const std::vector<Phase> phases = look_ahead(chosen, known, memory);
    note_expected(progress_, memory, phases);
    progress_.expect(phases);
    if (!known && request_.dry_run) return unmeasured(chosen, memory, phases);
    if (!known) {
      chosen = choose();
      memory = promised(chosen);
    }
    for (const std::string& note : chosen.notes) progress_.note(note);
    recipe_ = chosen.recipe;
    const Plan& plan = chosen.plan;
    note_widened(plan);
    const Step* tuning = tune_step(recipe_);
    const auto reconstructor = make_block_trainer();
    const bool statistics = plan.needs_statistics();
    // What the original must write first takes minutes: a dry run knows how much it is, not what it says.
    const bool draws = statistics || reconstructor;
    drawn_later_ = request_.dry_run && draws && calibration_tokens_to_write(*model_, recipe_.calibrate, cache_) > 0;
    if (draws && !drawn_later_) draw_windows();
    settle_data();
    std::string manifest = make_manifest(*model_, plan, expected_tune(recipe_), pool_.threads());
    const uint64_t predicted = plan_file_bytes(frame_, plan, manifest);
    if (predicted > model_->file_bytes)
      progress_.note(fmt::format("the file becomes larger than the original: {} bytes, which has {}", predicted,
                                 model_->file_bytes));
    Json result = promise(memory, phases);
    result["predicted_bytes"] = predicted;
    result["predicted_loss"] = result["sum_of_layer_losses"] =
        chosen.predicted_loss >= 0 ? Json(chosen.predicted_loss) : Json(nullptr);
    result["lossless"] = chosen.lossless;
    result["plan"] = plan_json(plan);
    if (!probes_.is_null()) result["probes"] = probes_;
    if (!chosen.families.is_null()) result["families"] = chosen.families;
    if (request_.dry_run) return result;

    Json key;
    key["model"] = model_->content_hash;
    key["machine"] = machine_key(pool_.threads());
    key["recipe"] = recipe_to_json(resolved_recipe(plan, recipe_));
    if (reconstructor) key["device"] = learning_device();
    Journal journal(request_.output.string() + ".journal", key);
    Matrix gram;
    if (statistics && rounds_ends(plan)) gram = output_gram(*model_, text_.windows, cache_, pool_.threads(), progress_);
    walk({*model_, plan, recipe_.calibrate, draws ? &text_.windows : nullptr,
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
    result["seconds"] = seconds();
    if (!check_windows_.windows.empty())
      result["check"] = check_output(*model_, request_.output, check_windows_, tuning != nullptr, pool_, progress_);
    result["peak_bytes"] = memory_.peak();
    result["resident_peak_bytes"] = memory_use().resident_peak;
    if (learning_device() != "cpu") result["device_peak_bytes"] = device_peak_bytes();
    return result;
  }

  Json calibrate() {
    Json result;
    if (const Step* step = allocate_step()) {
      const Step allocate = *step;
      if (!plan_is_known()) {
        const std::vector<Phase> phases = measuring_phases({}, Estimate(*model_, recipe_.calibrate, pool_));
        note_expected(progress_, 0, phases);
        progress_.expect(phases);
      }
      draw_windows();
      result["probes"] = measure(allocate).probes;
    } else {
      Plan plan = make_plan(*model_, recipe_);
      if (!needs_layerwise(plan))
        throw Error(ErrorKind::usage, "this recipe chooses nothing, so there is nothing to measure beforehand",
                    "whit calibrate", {}, "whit compress makes the file at once, without it");
      draw_windows();
      resolve_layerwise({*model_, text_.windows, cache_, pool_, progress_}, plan);
      result["probes"] = Json::object();
    }
    result["cache"] = cache_.folder().string();
    result["seconds"] = seconds();
    result["peak_bytes"] = memory_.peak();
    return result;
  }

 private:
  static ModelPtr in_basis(ModelPtr model, const Recipe& recipe) {
    const Step* step = basis_step(recipe);
    return step ? make_basis(step->method, step->options)->change(model) : model;
  }

  double seconds() const { return std::chrono::duration<double>(std::chrono::steady_clock::now() - start_).count(); }

  const Step* allocate_step() const { return whit::allocate_step(request_.recipe); }
  bool allocates() const { return allocate_step() != nullptr; }

  // Of a reconstruct step, or null.
  std::unique_ptr<Reconstructor> make_block_trainer() const {
    const Step* step = reconstruct_step(recipe_);
    if (!step) return nullptr;
    auto reconstructor = make_reconstructor(step->method, step->options);
    check_reconstruct(reconstructor->task(), recipe_.calibrate);
    return reconstructor;
  }

  static bool rounds_ends(const Plan& plan) {
    return std::any_of(plan.units.begin(), plan.units.end(),
                       [](const UnitPlan& unit) { return unit.unit.block < 0 && !unit.copied; });
  }

  // Nothing must be measured or written before the formats can be chosen.
  bool plan_is_known() {
    const Step* step = allocate_step();
    Plan plan;
    if (!step) plan = make_plan(*model_, recipe_);
    if (!step && !needs_layerwise(plan)) return true;
    if (calibration_tokens_to_write(*model_, recipe_.calibrate, cache_) > 0) return false;
    draw_windows();
    return step ? sensitivity_is_known(context(*step))
                : layerwise_is_known({*model_, text_.windows, cache_, pool_, progress_}, plan);
  }

  SensitivityContext context(const Step& step) {
    return {*model_, text_.windows, text_.probes, step, cache_, pool_, progress_};
  }

  ChosenPlan choose() {
    const Step* step = allocate_step();
    if (step) {
      draw_windows();
      return choose_by(*step, measure(*step));
    }
    ChosenPlan chosen = choose_roughly();
    if (needs_layerwise(chosen.plan)) {
      draw_windows();
      resolve_layerwise({*model_, text_.windows, cache_, pool_, progress_}, chosen.plan);
    }
    return chosen;
  }

  // A plan of about the same bytes, where the true one needs measurements.
  ChosenPlan choose_roughly() {
    const Step* step = allocate_step();
    if (step) return choose_by(*step, guessed_sensitivity(*model_, *step));
    if (!request_.budget.empty())
      throw Error(ErrorKind::usage, "a size was asked for, but the recipe chooses no formats", "--fit", request_.budget,
                  "leave out --fit, or use a recipe with an allocate step");
    ChosenPlan chosen;
    chosen.recipe = recipe_;
    chosen.plan = make_plan(*model_, recipe_);
    measures_ = needs_fisher(chosen.plan);
    return chosen;
  }

  ChosenPlan choose_by(const Step& step, const Sensitivity& sensitivity) const {
    const uint64_t budget =
        request_.budget.empty() ? step.budget : parse_budget(request_.budget, model_->spec.weights());
    if (budget == 0) throw Error(ErrorKind::usage, "this recipe needs a size", "--fit", {}, "--fit 60MB");
    return choose_plan(choice_request(step, sensitivity, budget));
  }

  ChoiceRequest choice_request(const Step& step, const Sensitivity& sensitivity, uint64_t budget) const {
    return {frame_,
            step,
            sensitivity,
            recipe_,
            budget,
            request_.minutes > 0,
            [this](const Recipe& recipe) { return expected(recipe); },
            pool_.threads()};
  }

  // Of memory, with `recipe_` as the user gave it or a family has it.
  uint64_t promised(const ChosenPlan& chosen) const {
    const CalibrateOptions& calibrate = chosen.recipe.calibrate;
    uint64_t most = predicted_peak(*model_, chosen.plan, calibrate, 0, measures_);
    const Step* reconstruct = reconstruct_step(chosen.recipe);
    if (reconstruct)
      most = std::max(most, reconstruct_bytes(*model_, chosen.plan, calibrate,
                                              make_reconstructor(reconstruct->method, reconstruct->options)->task()));
    if (tune_step(chosen.recipe)) most = std::max(most, tune_bytes(*model_, chosen.plan, true, chosen.recipe.tune));
    const bool draws = measures_ || reconstruct || chosen.plan.needs_statistics();
    if (learning_device() == "cpu" && draws &&
        (text_.written_now || calibration_tokens_to_write(*model_, recipe_.calibrate, cache_) > 0))
      most = std::max(most, TextWriter::bytes(model_->spec, static_cast<size_t>(calibrate.context)));
    if (!check_windows_.windows.empty()) most = std::max(most, check_bytes(model_->spec));
    return baseline_ + most;
  }

  // What will be done, and how long that takes; ErrorKind::budget where --minutes are too few to train in.
  std::vector<Phase> look_ahead(const ChosenPlan& chosen, bool known, uint64_t memory) {
    const Plan& plan = chosen.plan;
    const bool streams = plan.needs_statistics() || reconstruct_step(chosen.recipe);
    std::vector<Phase> phases;
    // Its looks take no more memory than what is looked at.
    std::optional<Estimate> estimate;
    if (streams || measures_ || !check_windows_.windows.empty()) estimate.emplace(*model_, recipe_.calibrate, pool_);
    const auto expect = [&](const char* name, const auto& how) {
      phases.push_back({name, -1});
      try {
        if (estimate) phases.back().seconds = how(*estimate);
      } catch (const Error& error) {  // the work itself will say it, and where
        if (error.kind() == ErrorKind::interrupted) throw;
      }
    };
    if (!known)
      phases = measuring_phases(plan, *estimate);
    else if (streams)
      add_text_phase(phases);
    if (!allocates() && plan.needs_statistics() && rounds_ends(plan))
      expect("what the output layer sees", [](const Estimate& e) { return e.output_gram(); });
    expect("compress", [&](const Estimate& e) { return reconstruct_step(chosen.recipe) ? -1 : e.walk(plan, streams); });
    if (const Step* step = tune_step(chosen.recipe)) {
      const TuneJob job = tune_job(plan, *step, chosen.recipe.tune, unmade_units(), {}, {}, {});
      const bool goes_on = std::filesystem::exists(request_.output.string() + ".journal/tune.checkpoint");
      std::vector<Phase> training = {{"tune", -1}};
      const bool how_long = chosen.recipe.tune.tokens > 0 || request_.minutes > 0;
      if (how_long && !goes_on && memory <= available_memory())
        training = training_phases(job, training_pace(job, true));
      phases.insert(phases.end(), training.begin(), training.end());
    }
    phases.push_back({"write", 0});
    if (check_windows_.windows.empty()) return phases;
    if (tune_step(chosen.recipe) && learning_device() != "cpu")
      phases.push_back({"evaluating", 0});  // of seconds, on the card
    else
      expect("check",
             [&](const Estimate& e) { return e.check(check_windows_.windows.size() * check_windows_.context); });
    return phases;
  }

  void add_text_phase(std::vector<Phase>& phases) {
    if (const uint64_t tokens = calibration_tokens_to_write(*model_, recipe_.calibrate, cache_)) {
      if (request_.recipe.calibrate.data == kUsualText)
        progress_.note("the model has a chat template, so it writes half of what it is calibrated on (--data novels is quicker)");
      TuneOptions text;
      text.context = recipe_.calibrate.context;
      phases.push_back({"writing text", static_cast<double>(tokens) * seconds_per_written_token(*model_, text)});
    }
  }

  // What is measured once a model, before the formats can be chosen.
  std::vector<Phase> measuring_phases(const Plan& plan, const Estimate& estimate) {
    std::vector<Phase> phases;
    add_text_phase(phases);
    if (const Step* step = allocate_step())
      phases.push_back({"sensitivity", estimate.sensitivities(*step)});
    else
      phases.push_back({"layer-wise N:M", estimate.layerwise(needs_fisher(plan))});
    return phases;
  }

  Json promise(uint64_t memory, const std::vector<Phase>& phases) const {
    Json result;
    result["output"] = request_.output.string();
    result["file_bytes"] = result["peak_bytes"] = result["seconds"] = result["check"] = nullptr;
    result["predicted_peak_bytes"] = memory;
    result["predicted_seconds"] = known_seconds(phases);
    return result;
  }

  // A dry run measures nothing: the plan is left open.
  Json unmeasured(const ChosenPlan& chosen, uint64_t memory, const std::vector<Phase>& phases) const {
    Json result = promise(memory, phases);
    for (const char* key : {"predicted_bytes", "predicted_loss", "sum_of_layer_losses", "plan"}) result[key] = nullptr;
    result["lossless"] = false;
    if (allocates()) {
      const Sensitivity guess = guessed_sensitivity(*model_, *allocate_step());
      result["least_bytes"] = least_bytes(choice_request(*allocate_step(), guess, 1));
    }
    if (!chosen.families.is_null()) result["families"] = chosen.families;
    return result;
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

  static Recipe expected_tune(Recipe recipe) {
    if (tune_step(recipe)) recipe.tune = longest(recipe.tune);
    return recipe;
  }

  // References must outlive the job.
  TuneJob tune_job(const Plan& plan, const Step& step, const TuneOptions& options, UnitStarter start, Vectors vectors,
                   std::filesystem::path checkpoint, Json key) {
    return {*model_,         plan,    std::move(start),  std::move(vectors),   model_.get(),          step.method,
            step.options,    options, request_.minutes,  request_.allow_short, std::move(checkpoint), std::move(key),
            cache_,          progress_};
  }

  // Trains what the walk left in the journal; the manifest then says what was trained on.
  Encoded tune_units(const Plan& plan, const Step& step, const Journal& journal, Vectors vectors, const Json& key,
                     Json& result) {
    Json tune_key = key;
    tune_key["device"] = learning_device();
    tune_key["minutes"] = request_.minutes;
    const UnitStarter start = [&](const UnitPlan& unit) {
      return UnitStart{finished_unit(*model_, unit, journal), journal.latents(unit.unit.name), {}};
    };
    Tuned tuned = tune_model(tune_job(plan, step, recipe_.tune, start, std::move(vectors),
                                      journal.folder() / "tune.checkpoint", tune_key));
    recipe_.tune = tuned.options;
    recipe_.tune.data = nameless(recipe_.tune.data);
    result["tune"] = tuned.report;
    return std::move(tuned.encoded);
  }

  Sensitivity measure(const Step& step) {
    Sensitivity sensitivity = measure_sensitivity(context(step));
    probes_ = sensitivity.probes;
    return sensitivity;
  }

  void draw_windows() {
    if (text_.windows.windows.empty())
      text_ = draw_calibration_text(*model_, recipe_.calibrate, allocates(), cache_, progress_);
  }

  // The manifest names no files: a text of the user's own is known by its hash.
  CalibrateOptions settled(CalibrateOptions options) const {
    options.data = nameless(options.data);
    if (!text_.windows.windows.empty())
      options.data_hash = text_.windows.hash;
    else if (allocates() || drawn_later_)
      options.data_hash = std::string(32, 'f');  // will be drawn
    return options;
  }
  void settle_data() { recipe_.calibrate = settled(recipe_.calibrate); }

  const CompressRequest& request_;
  PhasedProgress progress_;
  const std::chrono::steady_clock::time_point start_ = std::chrono::steady_clock::now();
  const uint64_t baseline_ = held_before();
  PeakMemory memory_;
  Recipe recipe_;
  ThreadPool pool_;
  const ModelPtr model_;
  const OutputFrame frame_;
  const Cache cache_;
  CalibrationText text_;
  TokenWindows check_windows_;  // empty: nothing is checked
  Json probes_;
  bool measures_ = false;     // sensitivities of the original, which take memory
  bool drawn_later_ = false;  // the calibration text, which a dry run does not have written
};

}  // namespace

Json compress(const CompressRequest& request, Progress& progress) {
  return naming_damage(request.model, [&] { return Job(request, progress).compress(); });
}
Json calibrate(const CompressRequest& request, Progress& progress) {
  return naming_damage(request.model, [&] { return Job(request, progress).calibrate(); });
}

}  // namespace whit
