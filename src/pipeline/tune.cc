#include "pipeline/tune.h"

#include <fmt/format.h>

#include <algorithm>
#include <chrono>
#include <cmath>
#include <cstdlib>
#include <cstring>

#include "base/hash.h"
#include "base/memory.h"
#include "base/record.h"
#include "base/rng.h"
#include "model/spec/basis.h"
#include "model/torch/device.h"
#include "model/torch/writer.h"
#include "pipeline/fit.h"
#include "pipeline/journal.h"
#include "pipeline/memory_plan.h"
#include "pipeline/pause.h"
#include "pipeline/sensitivity.h"

namespace whit {
namespace {

using Clock = std::chrono::steady_clock;

// Seconds between checkpoints.
double checkpoint_seconds() {
  const char* set = std::getenv("WHIT_TEST_CHECKPOINT_SECONDS");
  return set ? std::atof(set) : 240;
}
// Of the time that is left after the text and a probe, for looks at held-out text.
constexpr double kLookShare = 0.15;
// Fewer where a look at them takes as long as several steps.
uint64_t held_out_tokens() { return learning_device() == "cpu" ? 2048 : 8192; }

double since(Clock::time_point start) { return std::chrono::duration<double>(Clock::now() - start).count(); }

const RecordName kCheckpoint = {"the checkpoint is damaged", "delete it; training then begins anew"};

class Problem final : public TuneProblem {
 public:
  Problem(const TuneJob& job, const TuneOptions& options, TrainingText text, int looks)
      : job_(job),
        options_(options),
        looks_(looks),
        text_(std::move(text)),
        learner_(job.model.spec, job.original, learning_device() == "cpu"),
        student_(make_student()),
        sequences_(static_cast<size_t>(options.batch / options.context)) {
    if (const auto fixed = student_->fixed_units(); !fixed.empty())
      job_.progress.note(fmt::format("{} of {} units stay as they are, since their types are not learned: {}{}",
                                     fixed.size(), job_.plan.units.size(), fixed[0], fixed.size() > 1 ? ", ..." : ""));
  }

  std::vector<ParameterGroup> parameters() override { return student_->parameters(); }
  uint64_t steps() const override {
    return std::max<uint64_t>(1, static_cast<uint64_t>(options_.tokens) / static_cast<uint64_t>(options_.batch));
  }

  int most_looks() const override { return looks_; }

  LossParts step(uint64_t number, double hidden) override {
    job_.progress.check_interrupt();
    pause_point(job_.progress);
    return learner_.step(*student_, batch(number), sequences_, hidden);
  }

  double held_out() override {
    double sum = 0, positions = 0;
    for (size_t first = 0; first < text_.held_out.size(); first += sequences_) {
      const size_t count = std::min(sequences_, text_.held_out.size() - first);
      std::vector<int32_t> ids;
      for (size_t i = first; i < first + count; ++i)
        ids.insert(ids.end(), text_.held_out[i].begin(), text_.held_out[i].end());
      const LossParts loss = learner_.loss(*student_, ids, count);
      sum += loss.main * loss.positions;
      positions += loss.positions;
    }
    return sum / positions;
  }

  void keep() override { best_ = student_->encode(); }
  void restart() override { student_ = make_student(); }

  // Seconds of one step, the last of a few that are forgotten again (the first ones set libraries up).
  double probe() {
    double seconds = 0;
    for (uint64_t number = 0; number < (learning_device() == "cpu" ? 2 : 6); ++number) {
      synchronize_device();
      const auto start = Clock::now();
      learner_.step(*student_, batch(number), sequences_, 1);
      synchronize_device();
      seconds = since(start);
      for (Tensor leaf : student_->leaves()) leaf.clear_grad();
    }
    return seconds;
  }

  // Seconds of one look at the held-out text that finds the best values so far.
  double look() {
    const auto start = Clock::now();
    held_out();
    keep();
    return since(start);
  }

  // Everything that the next step depends on: header {key, state, best}, body leaves and moments, then the best units.
  void checkpoint(uint64_t step, const Json& state, const AdamW& optimizer) override {
    if (step >= steps() || since(saved_) < checkpoint_seconds()) return;
    save(state, optimizer);
    saved_ = Clock::now();
  }

  void save(const Json& state, const AdamW& optimizer) const {
    Json header;
    header["key"] = job_.key;
    header["tokens"] = options_.tokens;
    header["text_tokens"] = options_.text_tokens;
    header["looks"] = looks_;
    header["state"] = state;
    header["steps_of_optimizer"] = optimizer.steps();
    header["numbers"] = optimizer.state_counts();
    std::vector<std::span<const std::byte>> best;
    for (const auto& [name, packed] : best_.units)
      for (const auto& part : packed->parts) best.push_back(part);
    append_vectors(best_.vectors, header, best);
    RecordWriter record(job_.checkpoint, header);
    optimizer.visit_state([&](std::span<const float> array) { record.write(std::as_bytes(array)); });
    for (const auto& part : best) record.write(part);
    record.commit();
  }

  std::optional<Json> resume(AdamW& optimizer) override {
    if (!std::filesystem::exists(job_.checkpoint)) return std::nullopt;
    const Record record = open_record(job_.checkpoint, kCheckpoint);
    uint64_t at = 0;
    const auto take = [&](uint64_t bytes) {
      if (bytes > record.body.size() - at) damaged_record(job_.checkpoint, kCheckpoint, "it is too short");
      const auto span = record.body.subspan(at, bytes);
      at += bytes;
      return span;
    };
    try {
      const Json& header = record.header;
      std::vector<std::vector<float>> numbers;
      for (const Json& count : header.at("numbers")) {
        const auto bytes = take(count.get<uint64_t>() * sizeof(float));
        numbers.emplace_back(bytes.size() / sizeof(float));
        std::memcpy(numbers.back().data(), bytes.data(), bytes.size());
      }
      if (numbers.size() != optimizer.state_size())
        damaged_record(job_.checkpoint, kCheckpoint, "it is of another model");
      std::vector<std::span<const float>> spans(numbers.begin(), numbers.end());
      optimizer.restore(spans, header.at("steps_of_optimizer").get<uint64_t>());
      std::map<std::string, const UnitPlan*> by_name;  // the order in which they were stored
      for (const UnitPlan& unit : job_.plan.units) by_name.emplace(unit.unit.name, &unit);
      for (const auto& [name, unit] : by_name) {
        auto packed = std::make_shared<Packed>();
        packed->format = unit->format;
        packed->rotation = unit->rotation;
        packed->shape = {unit->unit.rows, unit->unit.cols};
        for (const PartSpec& part : unit->format->parts(packed->shape)) {
          const auto bytes = take(part.bytes);
          packed->parts.emplace_back(bytes.begin(), bytes.end());
        }
        best_.units[name] = std::move(packed);
      }
      best_.vectors = read_vectors(record, at, job_.checkpoint, kCheckpoint);
      const uint64_t step = header.at("state").at("step").get<uint64_t>();
      job_.progress.note(fmt::format("going on after step {} of {}", step, steps()));
      return header.at("state");
    } catch (const Json::exception&) {
      damaged_record(job_.checkpoint, kCheckpoint, "its header cannot be read");
    }
  }

  void progress(uint64_t step, const LossParts& loss, double held_out) override {
    if (step == 1 || !shown_) {
      job_.progress.begin("tune", static_cast<double>(steps()));
      shown_ = true;
      job_.progress.advance(static_cast<double>(step));
    } else {
      job_.progress.advance(1);
    }
    const uint64_t every = std::max<uint64_t>(1, steps() / 20);
    if (step % every == 0)
      job_.progress.note(fmt::format("step {:>6}  loss {:.4f}  hidden {:.4f}  held out {:.4f}  {:.0f} tokens/s", step,
                                     loss.main, loss.hidden, held_out,
                                     static_cast<double>(options_.batch) * static_cast<double>(++done_ * every) /
                                         since(begun_)));
  }
  void note(const std::string& text) override { job_.progress.note(text); }

  uint64_t numbers() const { return student_->count(); }
  Encoded best() { return std::move(best_); }

 private:
  std::unique_ptr<Student> make_student() const {
    const UnitStarter start = [&](const UnitPlan& unit) {
      UnitStart from = job_.start(unit);
      if (job_.original && from.latents.empty()) from.weights = weights_to_store(*job_.original, unit);
      return from;
    };
    return std::make_unique<Student>(job_.model, job_.plan, start, job_.vectors);
  }

  // Windows in an order of their own in every pass.
  std::vector<int32_t> batch(uint64_t number) {
    std::vector<int32_t> ids;
    const size_t n = text_.train.size();
    for (size_t i = 0; i < sequences_; ++i) {
      const uint64_t position = number * sequences_ + i, pass = position / n;
      if (order_.empty() || pass != pass_) {
        order_ = shuffled(n, Rng(static_cast<uint64_t>(options_.seed) * 7919 + pass));
        pass_ = pass;
      }
      const auto& window = text_.train[order_[position % n]];
      ids.insert(ids.end(), window.begin(), window.end());
    }
    return ids;
  }

  const TuneJob& job_;
  TuneOptions options_;
  int looks_;  // at held-out text, at most
  TrainingText text_;
  Learner learner_;
  std::unique_ptr<Student> student_;
  size_t sequences_;
  std::vector<size_t> order_;
  uint64_t pass_ = 0;
  Encoded best_;
  bool shown_ = false;
  uint64_t done_ = 0;
  Clock::time_point saved_ = Clock::now(), begun_ = Clock::now();
};

// Batch and context that go together.
TuneOptions settled(TuneOptions options, const ModelSpec& spec) {
  if (spec.context) options.context = static_cast<int>(std::min<uint64_t>(static_cast<uint64_t>(options.context), spec.context));
  if (options.batch == 0) options.batch = learning_device() == "cuda" ? 16384 : 2048;
  options.batch = std::max(options.batch / options.context, 1) * options.context;
  return options;
}

uint64_t held_out_windows(const TuneOptions& options) {
  return std::max<uint64_t>(1, held_out_tokens() / static_cast<uint64_t>(options.context));
}

// A checkpoint says how many tokens a time limit was turned into, how many of text, and how many looks at held-out text; one of
// another run is refused.
void take_shares_of_checkpoint(const TuneJob& job, TuneOptions& options, int& looks) {
  if (!std::filesystem::exists(job.checkpoint)) return;
  const Record record = open_record(job.checkpoint, kCheckpoint);
  if (!record.header.contains("key") || record.header["key"] != job.key)
    throw Error(ErrorKind::usage, "the checkpoint beside the output belongs to another run", job.checkpoint.string(), "",
                "finish that run with its own command, delete the checkpoint, or choose another output");
  options.tokens = record.header.value("tokens", int64_t{0});
  options.text_tokens = record.header.value("text_tokens", int64_t{0});
  looks = record.header.value("looks", looks);
}

}  // namespace

Tuned tune_model(const TuneJob& job) {
  TuneOptions options = settled(job.options, job.model.spec);
  const auto tuner = make_tuner(job.method, job.method_options);
  int looks = tuner->looks();
  take_shares_of_checkpoint(job, options, looks);
  const auto start = Clock::now();
  const Model& writer = job.original ? *job.original : job.model;
  const bool by_time = options.tokens == 0, text_by_time = by_time && options.text_tokens == 0;
  const uint64_t held_out = held_out_windows(options);
  const auto draw = [&] {
    return training_text(writer, options, static_cast<uint64_t>(options.tokens), held_out, job.cache, job.progress);
  };
  if (text_by_time) options.text_tokens = options.batch;  // enough to measure on
  TrainingText text = draw();
  if (by_time) {
    options.tokens = options.batch;
    double step = 0, look = 0;
    {
      Problem probed(job, options, text, looks);
      const SerialWhereFew serial(probed.numbers());
      std::optional<KeepFreedMemory> kept;
      if (learning_device() == "cpu") kept.emplace();
      step = probed.probe();
      look = probed.look();
    }
    looks = static_cast<int>(std::clamp<double>(kLookShare * (job.minutes * 60 - since(start)) / look, 2, looks));
    look *= looks;
    const double token = 1.1 * step / options.batch;
    const auto left = [&] { return job.minutes * 60 - since(start) - look; };
    if (text_by_time) {
      options.text_tokens = static_cast<int64_t>(tokens_in_time(options, held_out, left(), text.writing_seconds, token));
      text = draw();
    }
    const double steps = std::max(1.0, std::floor(left() / (token * options.batch)));
    options.tokens = static_cast<int64_t>(steps) * options.batch;
    if (text.writing_seconds > 0)
      job.progress.note(fmt::format("text is written at {:.0f} tokens/s", 1 / text.writing_seconds));
    job.progress.note(fmt::format("a step of {} tokens takes {:.2f} s, looks at the held-out text {:.2f} s: {} steps on {} "
                                  "tokens of text", options.batch, step, look, steps, options.text_tokens));
  }
  options.data_hash = text.hash;
  if (!job.options.data_hash.empty() && job.options.data_hash != text.hash)
    throw Error(ErrorKind::usage, "the training text is not the one that the recipe was made with", options.data,
                text.hash, "wanted " + job.options.data_hash);
  auto problem = std::make_unique<Problem>(job, options, std::move(text), looks);
  const SerialWhereFew serial(problem->numbers());
  std::optional<KeepFreedMemory> kept;
  if (learning_device() == "cpu") kept.emplace();
  Tuned tuned;
  const auto training = Clock::now();
  const Json report = tuner->tune(*problem);
  synchronize_device();
  job.progress.end();
  tuned.encoded = problem->best();
  tuned.options = options;
  tuned.report = report;
  tuned.report["tokens"] = options.tokens;
  tuned.report["seconds"] = since(training);
  tuned.report["seconds_in_all"] = since(start);
  tuned.report["tokens_per_second"] = static_cast<double>(options.tokens) / since(training);
  tuned.report["device"] = learning_device_name();
  return tuned;
}

uint64_t tune_bytes(const Model& model, const Plan& plan, bool original, const TuneOptions& given) {
  const TuneOptions options = settled(given, model.spec);
  uint64_t numbers = 0, packed = 0, embedding = 0;
  for (const UnitPlan& unit : plan.units) {
    numbers += learned_numbers(unit);
    if (unit.unit.block < 0) embedding = std::max(embedding, learned_numbers(unit));
    packed += unit.bytes;
  }
  const auto context = static_cast<uint64_t>(options.context);
  const uint64_t training =
      16 * numbers + 2 * packed +
      Learner::bytes(model.spec, original, learning_device() == "cpu", static_cast<uint64_t>(options.batch) / context,
                     context, embedding);
  // The text is written before anything is trained, or after what was trained for a probe is gone.
  return self_written(options.data) ? std::max(training, TextWriter::bytes(model.spec, context)) : training;
}

Json tune(const TuneRequest& request, Progress& progress) {
  const auto start = Clock::now();
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
  const uint64_t promised =
      baseline + (learning_device() == "cpu" ? tune_bytes(*model, plan, original != nullptr, request.options) : 0);
  Json result;
  result["output"] = request.output.string();
  result["file_bytes"] = nullptr;
  result["predicted_peak_bytes"] = promised;
  note_promise(progress, promised);
  result["peak_bytes"] = nullptr;
  result["device"] = learning_device_name();
  if (request.dry_run) return result;

  const Cache cache(request.cache);
  Json key;
  key["model"] = model->content_hash;
  key["original"] = original ? original->content_hash : "";
  key["machine"] = machine_key(pool.threads());
  key["device"] = learning_device();
  key["method"] = {{"name", request.method}, {"options", request.method_options}};
  TuneOptions named = request.options;
  key["options"] = write_options(named);
  key["minutes"] = request.minutes;
  Journal journal(request.output.string() + ".journal", key);
  const UnitStarter starter = [&](const UnitPlan& unit) {
    return UnitStart{std::make_shared<const Packed>(copy_unit(*model, unit.unit)), {}, {}};
  };
  const auto train = [&] {
    return tune_model({*model,
                       plan,
                       starter,
                       {},
                       original.get(),
                       request.method,
                       request.method_options,
                       request.options,
                       request.minutes,
                       journal.folder() / "tune.checkpoint",
                       key,
                       cache,
                       progress});
  };
  const Tuned tuned =
      naming_damage(request.model, [&] { return original ? naming_damage(request.against, train) : train(); });

  const OutputFrame frame(*model, progress);
  Json manifest;
  if (model->metadata.has("whit.manifest")) {
    const Json before = Json::parse(model->metadata.string("whit.manifest"), nullptr, false);
    if (before.is_object()) manifest = before;
  }
  TuneOptions resolved = tuned.options;
  resolved.data = nameless(resolved.data);
  manifest["whit"] = 1;
  manifest["tune"] = {{"model", model->content_hash},
                      {"original", original ? original->content_hash : ""},
                      {"machine", machine_key(pool.threads())},
                      {"device", learning_device()},
                      {"method", request.method},
                      {"method_options", make_tuner(request.method, request.method_options)->options()},
                      {"options", write_options(resolved)},
                      {"report", {{"steps", tuned.report.at("steps")}, {"held_out", tuned.report.at("held_out")}}}};
  const ModelOutput output = plan_output(
      frame, plan, manifest.dump(), [&](const UnitPlan& unit) { return tuned.encoded.units.at(unit.unit.name); },
      tuned.encoded.vectors);
  AtomicFile file(request.output, request.force);
  write_model_file(file, output);
  result["file_bytes"] = file.size();
  file.commit();
  journal.remove();
  result["peak_bytes"] = memory.peak();
  result["device_peak_bytes"] = device_peak_bytes();
  result["seconds"] = since(start);
  result["tune"] = tuned.report;
  result["tune"]["data"] = tuned.options.data;
  return result;
}

}  // namespace whit
