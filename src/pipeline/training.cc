#include "pipeline/training.h"

#include <fmt/format.h>

#include <algorithm>
#include <cstdlib>
#include <cstring>

#include "base/record.h"
#include "base/rng.h"
#include "model/torch/device.h"
#include "pipeline/journal.h"
#include "pipeline/pause.h"

namespace whit {
namespace {

// Seconds between checkpoints.
double checkpoint_seconds() {
  const char* set = std::getenv("WHIT_TEST_CHECKPOINT_SECONDS");
  return set ? std::atof(set) : 240;
}

double since(std::chrono::steady_clock::time_point start) {
  return std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
}

const RecordName kCheckpoint = {"the checkpoint is damaged", "delete it; training then begins anew"};

}  // namespace

Training::Training(const TuneJob& job, const TuneOptions& options, TrainingText text, int looks)
    : job_(job),
      options_(options),
      looks_(looks),
      text_(std::move(text)),
      learner_(job.model.spec, job.original, learning_device() == "cpu"),
      student_(make_student()),
      sequences_(static_cast<size_t>(options.batch / options.context)) {}

uint64_t Training::steps() const {
  return std::max<uint64_t>(1, static_cast<uint64_t>(options_.tokens) / static_cast<uint64_t>(options_.batch));
}

LossParts Training::step(uint64_t number, double hidden) {
  const auto start = Clock::now();
  const LossParts loss = learner_.step(*student_, batch(number), sequences_, hidden);
  training_seconds_ += since(start);
  ++trained_;
  return loss;
}

double Training::held_out() {
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

double Training::probe() {
  double seconds = 0;
  for (uint64_t number = 0; number < (learning_device() == "cpu" ? 2 : 6); ++number) {
    job_.progress.check_interrupt();
    synchronize_device();
    const auto start = Clock::now();
    learner_.step(*student_, batch(number), sequences_, 1);
    synchronize_device();
    seconds = since(start);
    for (Tensor leaf : student_->leaves()) leaf.clear_grad();
  }
  return seconds;
}

double Training::look() {
  job_.progress.check_interrupt();
  const auto start = Clock::now();
  held_out();
  keep();
  return since(start);
}

void Training::checkpoint(uint64_t step, const Json& state, const AdamW& optimizer) {
  try {
    pause_point(job_.progress);
  } catch (const Error& error) {
    if (error.kind() == ErrorKind::interrupted) save(state, optimizer);
    throw;
  }
  if (step >= steps() || since(saved_) < checkpoint_seconds()) return;
  save(state, optimizer);
  saved_ = Clock::now();
}

// Header {key, tokens, state, ...}; body leaves and moments, then the best units.
void Training::save(const Json& state, const AdamW& optimizer) const {
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

std::optional<Json> Training::resume(AdamW& optimizer) {
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

void Training::progress(uint64_t step, const LossParts& loss, double held_out) {
  if (trained_ == 1) {
    job_.progress.begin("tune", static_cast<double>(steps()));
    job_.progress.resume(static_cast<double>(step - 1));
  }
  job_.progress.advance(1);
  const uint64_t every = std::max<uint64_t>(1, steps() / 20);
  if (step % every == 0)
    job_.progress.note(fmt::format("step {:>6}  loss {:.4f}  hidden {:.4f}  held out {:.4f}  {:.0f} tokens/s", step,
                                   loss.main, loss.hidden, held_out, trained_tokens() / training_seconds_));
}

std::unique_ptr<Student> Training::make_student() const {
  const UnitStarter start = [&](const UnitPlan& unit) {
    UnitStart from = job_.start(unit);
    if (job_.original && from.latents.empty()) from.weights = weights_to_store(*job_.original, unit);
    return from;
  };
  return std::make_unique<Student>(job_.model, job_.plan, start, job_.vectors);
}

// Windows in an order of their own in every pass.
std::vector<int32_t> Training::batch(uint64_t number) {
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

bool take_shares_of_checkpoint(const TuneJob& job, TuneOptions& options, int& looks) {
  if (!std::filesystem::exists(job.checkpoint)) return false;
  const Record record = open_record(job.checkpoint, kCheckpoint);
  if (!record.header.contains("key") || record.header["key"] != job.key)
    throw Error(ErrorKind::usage, "the checkpoint beside the output belongs to another run", job.checkpoint.string(),
                "", "finish that run with its own command, delete the checkpoint, or choose another output");
  options.tokens = record.header.value("tokens", int64_t{0});
  options.text_tokens = record.header.value("text_tokens", int64_t{0});
  looks = record.header.value("looks", looks);
  return true;
}

}  // namespace whit
