#include "pipeline/tune.h"

#include <fmt/format.h>

#include <algorithm>
#include <chrono>
#include <cmath>

#include "base/hash.h"
#include "base/memory.h"
#include "base/rng.h"
#include "model/spec/basis.h"
#include "model/torch/device.h"
#include "model/torch/writer.h"
#include "pipeline/calibration_text.h"
#include "pipeline/fit.h"
#include "pipeline/journal.h"
#include "pipeline/memory_plan.h"
#include "pipeline/sensitivity.h"
#include "pipeline/training.h"

namespace whit {
namespace {

using Clock = std::chrono::steady_clock;

// Of a time limit, for looks at held-out text.
constexpr double kLookShare = 0.15;
// A step takes a little longer than a probe of a few: checkpoints, the text's order, other work of the machine.
constexpr double kStepMargin = 1.1;
// Fewer where a look at them takes as long as several steps.
uint64_t held_out_tokens() { return learning_device() == "cpu" ? 2048 : 8192; }

double since(Clock::time_point start) { return std::chrono::duration<double>(Clock::now() - start).count(); }

// Batch and context that go together.
TuneOptions settled(TuneOptions options) {
  if (options.batch == 0) options.batch = learning_device() == "cuda" ? 16384 : 2048;
  options.batch = std::max(options.batch / options.context, 1) * options.context;
  return options;
}

uint64_t held_out_windows(const TuneOptions& options) {
  return std::max<uint64_t>(1, held_out_tokens() / static_cast<uint64_t>(options.context));
}

const Model& writer_of(const TuneJob& job) { return job.original ? *job.original : job.model; }

// Ids drawn at random: what a step takes does not depend on them.
TrainingText random_text(const ModelSpec& spec, const TuneOptions& options) {
  TrainingText text;
  Rng rng(1);
  const auto draw = [&](uint64_t windows, std::vector<std::vector<int32_t>>& into) {
    for (uint64_t w = 0; w < windows; ++w) {
      into.emplace_back();
      for (int i = 0; i < options.context; ++i) into.back().push_back(static_cast<int32_t>(rng.below(spec.vocabulary)));
    }
  };
  draw(static_cast<uint64_t>(options.batch / options.context), text.train);
  draw(held_out_windows(options), text.held_out);
  return text;
}

// What a time limit comes to.
struct Schedule {
  uint64_t steps = 0;
  int looks = 0;
};

Schedule schedule_of(const TrainingPace& pace, double minutes, int looks) {
  Schedule schedule;
  schedule.looks = static_cast<int>(std::clamp<double>(kLookShare * minutes * 60 / pace.look, 2, looks));
  const double left = minutes * 60 - schedule.looks * pace.look;
  schedule.steps = static_cast<uint64_t>(std::max(0.0, std::floor(left / (kStepMargin * pace.step))));
  return schedule;
}

// The steps and looks of job.minutes. ErrorKind::budget where these are fewer than a schedule needs, and not wanted so.
Schedule checked_schedule(const TuneJob& job, const TuneOptions& options, const TrainingPace& pace, int looks) {
  Schedule schedule = schedule_of(pace, job.minutes, looks);
  const uint64_t least = make_tuner(job.method, job.method_options)->least_steps();
  if (schedule.steps < least && !job.allow_short) {
    const double needed = 1.05 * (static_cast<double>(least) * kStepMargin * pace.step + 2 * pace.look) / 60;
    throw Error(ErrorKind::budget, "the time is too short to train in", "--minutes",
                fmt::format("{:g} minutes are {} steps of {} tokens, {:.3g} s each; a schedule needs {}", job.minutes,
                            schedule.steps, options.batch, pace.step, least),
                fmt::format("--minutes {:g}, or --allow-short", std::max(0.1, std::ceil(needed * 10) / 10)));
  }
  schedule.steps = std::max<uint64_t>(1, schedule.steps);
  return schedule;
}

// Where job.options leave tokens or text to a time limit.
void share_time(const Schedule& schedule, TuneOptions& options) {
  options.tokens = static_cast<int64_t>(schedule.steps) * options.batch;
  if (options.text_tokens == 0)
    options.text_tokens = static_cast<int64_t>(
        text_tokens_for(options, held_out_windows(options), static_cast<uint64_t>(options.tokens)));
}

}  // namespace

TuneOptions longest(TuneOptions options) {
  options.data = nameless(options.data);
  options.data_hash = std::string(32, 'f');
  for (int64_t* number : {&options.tokens, &options.text_tokens})
    if (*number == 0) *number = 999999999999;
  if (options.batch == 0) options.batch = 10000000;
  return options;
}

TrainingPace training_pace(const TuneJob& job, bool rough) {
  TuneOptions options = settled(job.options);
  options.tokens = options.batch;
  const int batch = options.batch;
  // A step of one window on the CPU is one of many in small; a card would wait for its next operation most of the time.
  if (rough && learning_device() == "cpu") options.batch = options.context;
  Training training(job, options, random_text(job.model.spec, options), 2);
  const SerialWhereFew serial(training.numbers());
  std::optional<KeepFreedMemory> kept;
  if (learning_device() == "cpu") kept.emplace();
  TrainingPace pace;
  pace.step = training.probe() * batch / options.batch;
  job.progress.check_interrupt();
  // A step goes forward twice and backward once where a look goes forward.
  pace.look = rough
                  ? pace.step / 3 *
                        static_cast<double>(held_out_windows(options) * static_cast<uint64_t>(options.context)) / batch
                  : training.look();
  return pace;
}

UnitStarter unmade_units() {
  return [](const UnitPlan& unit) {
    Packed packed{unit.format, {unit.unit.rows, unit.unit.cols}, {}};
    packed.rotation = unit.rotation;
    for (const PartSpec& part : unit.format->parts(packed.shape)) packed.parts.emplace_back(part.bytes);
    return UnitStart{std::make_shared<const Packed>(std::move(packed)), {}, {}};
  };
}

std::vector<Phase> training_phases(const TuneJob& job, const TrainingPace& pace) {
  TuneOptions options = settled(job.options);
  const auto tuner = make_tuner(job.method, job.method_options);
  int looks = tuner->looks();
  const bool went_on = take_shares_of_checkpoint(job, options, looks), by_time = options.tokens == 0;
  if (by_time) share_time(checked_schedule(job, options, pace, looks), options);
  std::vector<Phase> phases;
  const auto missing = static_cast<double>(tokens_to_write(
      writer_of(job), options, static_cast<uint64_t>(options.tokens), held_out_windows(options), job.cache));
  if (missing > 0) phases.push_back({"writing text", missing * seconds_per_written_token(writer_of(job), options)});
  const double steps = static_cast<double>(options.tokens) / options.batch;
  phases.push_back({"tune", went_on   ? -1
                            : by_time ? job.minutes * 60
                                      : kStepMargin * steps * pace.step + looks * pace.look});
  return phases;
}

Tuned tune_model(const TuneJob& job) {
  TuneOptions options = settled(job.options);
  const auto tuner = make_tuner(job.method, job.method_options);
  int looks = tuner->looks();
  take_shares_of_checkpoint(job, options, looks);
  const auto start = Clock::now();
  if (options.tokens == 0) {
    const TrainingPace pace = job.pace ? *job.pace : training_pace(job, false);
    const Schedule schedule = checked_schedule(job, options, pace, looks);
    looks = schedule.looks;
    share_time(schedule, options);
    job.progress.note(
        fmt::format("a step of {} tokens takes {:.2g} s, a look at the held-out text {:.2g} s: {} steps on {} "
                    "tokens of text",
                    options.batch, pace.step, pace.look, schedule.steps, options.text_tokens));
  }
  TrainingText text = training_text(writer_of(job), options, static_cast<uint64_t>(options.tokens),
                                    held_out_windows(options), job.cache, job.progress);
  options.data_hash = text.hash;
  if (!job.options.data_hash.empty() && job.options.data_hash != text.hash)
    throw Error(ErrorKind::usage, "the training text is not the one that the recipe was made with", options.data,
                text.hash, "wanted " + job.options.data_hash);
  auto training = std::make_unique<Training>(job, options, std::move(text), looks);
  if (const auto fixed = training->fixed_units(); !fixed.empty())
    job.progress.note(fmt::format("{} of {} units stay as they are, since their types are not learned: {}{}",
                                  fixed.size(), job.plan.units.size(), fixed[0], fixed.size() > 1 ? ", ..." : ""));
  const SerialWhereFew serial(training->numbers());
  std::optional<KeepFreedMemory> kept;
  if (learning_device() == "cpu") kept.emplace();
  Tuned tuned;
  const auto begun = Clock::now();
  const Json report = tuner->tune(*training);
  synchronize_device();
  job.progress.end();
  tuned.encoded = training->best();
  tuned.options = options;
  tuned.report = report;
  tuned.report["tokens"] = options.tokens;
  tuned.report["seconds"] = since(begun);
  tuned.report["seconds_in_all"] = since(start);
  tuned.report["tokens_per_second"] = training->trained_tokens() / since(begun);
  tuned.report["device"] = learning_device_name();
  return tuned;
}

// Measured: a minute of training on an H200 (LibTorch 2.11, CUDA 13) held 0.71 GB on the host beyond the rest.
constexpr uint64_t kCardLibraries = uint64_t{750} << 20;

uint64_t tune_bytes(const Model& model, const Plan& plan, bool original, const TuneOptions& given) {
  const TuneOptions options = settled(given);
  uint64_t numbers = 0, packed = 0, embedding = 0;
  for (const UnitPlan& unit : plan.units) {
    numbers += learned_numbers(unit);
    if (unit.unit.block < 0) embedding = std::max(embedding, learned_numbers(unit));
    packed += unit.bytes;
  }
  const auto context = static_cast<uint64_t>(options.context);
  if (learning_device() != "cpu") {
    // What trains lies on the card. Here: what the card's libraries take once they are used, what is encoded and its
    // copy on the way to the disk, one unit's numbers, the text.
    uint64_t unit_numbers = 0;
    for (const UnitPlan& unit : plan.units) unit_numbers = std::max(unit_numbers, learned_numbers(unit));
    return kCardLibraries + 2 * packed + 2 * sizeof(float) * unit_numbers +
           2 * sizeof(int32_t) * most_text_tokens(options);
  }
  const uint64_t training =
      16 * numbers + 2 * packed +
      Learner::bytes(model.spec, original, true, static_cast<uint64_t>(options.batch) / context, context, embedding);
  // The text is written before anything is trained, or after what was trained for a probe is gone.
  return self_written(options.data) ? std::max(training, TextWriter::bytes(model.spec, context)) : training;
}

namespace {

// What a manifest has of a training's report, at its longest.
Json longest_report() { return {{"steps", uint64_t{999999999999}}, {"held_out", -1.2345678901234567e-100}}; }

// The model's own manifest, with what was trained and how.
std::string tune_manifest(const Model& model, const Model* original, const TuneRequest& request, TuneOptions options,
                          const Json& report, int threads) {
  Json manifest;
  if (model.metadata.has("whit.manifest")) {
    const Json before = Json::parse(model.metadata.string("whit.manifest"), nullptr, false);
    if (before.is_object()) manifest = before;
  }
  options.data = nameless(options.data);
  manifest["whit"] = 1;
  manifest["tune"] = {{"model", model.content_hash},
                      {"original", original ? original->content_hash : ""},
                      {"machine", machine_key(threads)},
                      {"device", learning_device()},
                      {"method", request.method},
                      {"method_options", make_tuner(request.method, request.method_options)->options()},
                      {"options", write_options(options)},
                      {"report", report}};
  return manifest.dump();
}

}  // namespace

Json tune(const TuneRequest& request, Progress& progress) {
  const auto start = Clock::now();
  synchronize_device();  // a card's own context comes before what is promised
  const uint64_t baseline = memory_use().anonymous_and_shared;
  PeakMemory memory;
  if (!request.dry_run && !request.force && std::filesystem::exists(request.output))
    throw Error(ErrorKind::io, "the output exists already", request.output.string(), {}, "--force overwrites it");
  ThreadPool pool(request.threads);
  set_torch_threads(pool.threads());
  const ModelPtr model = load_model(request.model, {request.verify}, progress);
  ModelPtr original;
  if (!request.against.empty()) original = load_model(request.against, {request.verify}, progress);
  if (original && (original->spec.vocabulary != model->spec.vocabulary || original->spec.layers != model->spec.layers ||
                   original->spec.width != model->spec.width))
    throw Error(ErrorKind::input, "the two models have different shapes", request.against.string());
  // Hidden states are compared in one basis.
  if (original && model->spec.stream_rotation && !original->spec.stream_rotation)
    original = turn_stream(original, model->spec.stream_rotation);
  Plan plan;
  for (UnitSpec& unit : units_of(model->spec)) {
    UnitPlan entry;
    entry.format = source_format(*model, unit);
    if (!entry.format)
      throw Error(ErrorKind::input, "this unit is stored in a format that a file of ours cannot hold", unit.name, "",
                  "compress or convert the model first");
    entry.copied = true;
    entry.rotation = source_rotation(*model, unit);
    entry.bytes = entry.format->bytes({unit.rows, unit.cols});
    entry.unit = std::move(unit);
    plan.units.push_back(std::move(entry));
  }
  TuneOptions options = request.options;
  for (const Model* reader : {model.get(), original ? original.get() : model.get()})
    options.context = window_tokens(*reader, options.context, request.context_given ? 0 : TuneOptions{}.context, "--context",
                                    progress);
  if (options.batch % options.context != 0)
    progress.note(fmt::format("steps of {} tokens, not {}: whole windows of {}", settled(options).batch, options.batch,
                              options.context));
  const uint64_t promised = baseline + tune_bytes(*model, plan, original != nullptr, options);
  const OutputFrame frame(*model, progress);
  // The formats stay, and with them the bytes of all that is trained; the manifest tells of it.
  const uint64_t most_bytes = plan_file_bytes(
      frame, plan, tune_manifest(*model, original.get(), request, longest(options), longest_report(), pool.threads()));
  Json result;
  result["output"] = request.output.string();
  result["file_bytes"] = nullptr;
  result["predicted_bytes"] = most_bytes;
  result["predicted_peak_bytes"] = promised;
  result["peak_bytes"] = nullptr;
  result["device"] = learning_device_name();
  note_promise(progress, promised);
  if (most_bytes > model->file_bytes)
    progress.note(
        fmt::format("the output may have {} bytes, {} more than the model: what its manifest tells of the training",
                    most_bytes, most_bytes - model->file_bytes));

  const Cache cache(request.cache);
  Json key;
  key["model"] = model->content_hash;
  key["original"] = original ? original->content_hash : "";
  key["machine"] = machine_key(pool.threads());
  key["device"] = learning_device();
  key["method"] = {{"name", request.method}, {"options", request.method_options}};
  key["options"] = write_options(options);
  key["minutes"] = request.minutes;
  const UnitStarter starter = [&](const UnitPlan& unit) {
    return UnitStart{std::make_shared<const Packed>(copy_unit(*model, unit.unit)), {}, {}};
  };
  PhasedProgress phased(progress);
  TuneJob job{*model,
              plan,
              starter,
              {},
              original.get(),
              request.method,
              request.method_options,
              options,
              request.minutes,
              request.allow_short,
              request.output.string() + ".journal/tune.checkpoint",
              key,
              cache,
              phased};
  std::vector<Phase> phases;
  const auto look_ahead = [&] {
    const bool by_time = options.tokens == 0 && !std::filesystem::exists(job.checkpoint);
    const TrainingPace pace = training_pace(job, !by_time);
    if (by_time) job.pace = pace;
    phases = training_phases(job, pace);
  };
  const auto named = [&](const auto& work) {
    return naming_damage(request.model, [&] { return original ? naming_damage(request.against, work) : work(); });
  };
  if (promised <= available_memory())
    named(look_ahead);
  else
    phases = {{"tune", -1}};  // to try would take what is not there
  phases.push_back({"write", 0});
  result["predicted_seconds"] = known_seconds(phases);
  note_expected(progress, promised, phases);
  phased.expect(phases);
  if (request.dry_run) return result;
  Journal journal(request.output.string() + ".journal", key);
  const Tuned tuned = named([&] { return tune_model(job); });

  const std::string manifest =
      tune_manifest(*model, original.get(), request, tuned.options,
                    {{"steps", tuned.report.at("steps")}, {"held_out", tuned.report.at("held_out")}}, pool.threads());
  phased.begin("write", static_cast<double>(plan.units.size()));
  const ModelOutput output = plan_output(
      frame, plan, manifest,
      [&](const UnitPlan& unit) {
        phased.advance(1);
        return tuned.encoded.units.at(unit.unit.name);
      },
      tuned.encoded.vectors);
  AtomicFile file(request.output, request.force);
  write_model_file(file, output);
  const uint64_t written = file.size();
  WHIT_CHECK(written <= most_bytes);
  file.commit();
  journal.remove();
  phased.end();
  result["file_bytes"] = written;
  result["peak_bytes"] = memory.peak();
  result["device_peak_bytes"] = device_peak_bytes();
  result["seconds"] = since(start);
  result["tune"] = tuned.report;
  result["tune"]["data"] = tuned.options.data;
  return result;
}

}  // namespace whit
