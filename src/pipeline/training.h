// One training of a whole model: its student, its text, its checkpoint. What tune.cc hands to a method of stage tune.
#pragma once

#include <chrono>
#include <cstdint>
#include <memory>
#include <optional>
#include <vector>

#include "methods/stages.h"
#include "model/torch/learner.h"
#include "pipeline/tune.h"

namespace whit {

class Training final : public TuneProblem {
 public:
  // `looks`: at held-out text, at most.
  Training(const TuneJob& job, const TuneOptions& options, TrainingText text, int looks);

  std::vector<ParameterGroup> parameters() override { return student_->parameters(); }
  uint64_t steps() const override;
  int most_looks() const override { return looks_; }
  LossParts step(uint64_t number, double hidden) override;
  double held_out() override;
  void keep() override { best_ = student_->encode(); }
  void restart() override { student_ = make_student(); }
  // Everything that the next step depends on goes to the disk every few minutes, and when the user stops the run.
  void checkpoint(uint64_t step, const Json& state, const AdamW& optimizer) override;
  std::optional<Json> resume(AdamW& optimizer) override;
  void progress(uint64_t step, const LossParts& loss, double held_out) override;
  void note(const std::string& text) override { job_.progress.note(text); }

  // Seconds of one step, the last of a few that are forgotten again (the first ones set libraries up), and of one look
  // at the held-out text that finds the best values so far.
  double probe();
  double look();

  uint64_t numbers() const { return student_->count(); }
  std::vector<std::string> fixed_units() const { return student_->fixed_units(); }
  Encoded best() { return std::move(best_); }
  // Of this process: a run that went on from a checkpoint has fewer than its options say.
  double trained_tokens() const { return static_cast<double>(trained_) * static_cast<double>(options_.batch); }

 private:
  using Clock = std::chrono::steady_clock;
  std::unique_ptr<Student> make_student() const;
  std::vector<int32_t> batch(uint64_t number);
  void save(const Json& state, const AdamW& optimizer) const;

  const TuneJob& job_;
  TuneOptions options_;
  int looks_;
  TrainingText text_;
  Learner learner_;
  std::unique_ptr<Student> student_;
  size_t sequences_;
  std::vector<size_t> order_;
  uint64_t pass_ = 0;
  Encoded best_;
  uint64_t trained_ = 0;         // steps
  double training_seconds_ = 0;  // of these steps, looks left out
  Clock::time_point saved_ = Clock::now();
};

// The checkpoint of a job, if there is one, says how many tokens a time limit was turned into, how many of text, and
// how many looks at held-out text; one of another run is ErrorKind::usage. True where there is one.
bool take_shares_of_checkpoint(const TuneJob& job, TuneOptions& options, int& looks);

}  // namespace whit
