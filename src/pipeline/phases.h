// The phases of a long job: numbered, with the time that all of them are expected to take.
#pragma once

#include <chrono>
#include <cstdint>
#include <string>
#include <vector>

#include "base/options.h"
#include "base/progress.h"

namespace whit {

struct Phase {
  std::string name;     // how the text of its begin() starts
  double seconds = -1;  // expected; below 0: not known
};

// Seconds of all of them, below 0 where one is not known.
double seconds_of(const std::vector<Phase>& phases);
// "40 s", "4 min", "2.5 h": no more digits than an estimate has.
std::string about(double seconds);

// {"phases": [{"phase", "seconds"}], "in_all"}: null where it is not known.
Json known_seconds(const std::vector<Phase>& phases);
// "expected memory: up to 284 MB ...; expected time: writing text 40 s, tune 30 min; about 31 min in all". `memory`:
// bytes, 0 where nothing is promised.
void note_expected(Progress& progress, uint64_t memory, const std::vector<Phase>& phases);

// Hands everything on; a phase that is expected is shown as "2 of 5: sensitivity: blocks (about 4 min in all)".
class PhasedProgress final : public Progress {
 public:
  explicit PhasedProgress(Progress& shown) : shown_(shown) {}
  void expect(std::vector<Phase> phases);

  void begin(const std::string& phase, double total) override;
  void advance(double units) override { shown_.advance(units); }
  void resume(double units) override { shown_.resume(units); }
  void note(const std::string& text) override { shown_.note(text); }
  void end() override { shown_.end(); }
  void check_interrupt() override { shown_.check_interrupt(); }

 private:
  using Clock = std::chrono::steady_clock;
  Progress& shown_;
  std::vector<Phase> phases_;
  size_t current_ = 0;
  bool begun_ = false;
  double passed_ = 0;  // seconds when the current phase began
  Clock::time_point start_;
};

}  // namespace whit
