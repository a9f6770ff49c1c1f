// What the program says: results on stdout, talk and progress on stderr. Nothing else of the program writes to either.
#pragma once

#include <chrono>
#include <deque>
#include <memory>
#include <mutex>
#include <string>
#include <string_view>

#include "base/options.h"
#include "base/progress.h"
#include "cli/signals.h"

namespace whit {

// Progress on stderr: one line that is redrawn with the time left on a terminal, sparse lines elsewhere. Thread-safe.
class Terminal final : public Progress {
 public:
  explicit Terminal(bool quiet);
  ~Terminal() override;
  void begin(const std::string& phase, double total) override;
  void advance(double units) override;
  void resume(double units) override;
  void note(const std::string& text) override;
  void end() override;
  void check_interrupt() override;
  bool quiet() const noexcept { return quiet_; }

 private:
  using Clock = std::chrono::steady_clock;
  void draw(bool last);
  double seconds_left(Clock::time_point now);
  void erase();

  const bool quiet_, live_;
  std::mutex mutex_;
  std::string phase_;
  double total_ = 0, done_ = 0;
  bool open_ = false, drawn_ = false, spoke_ = false;
  Clock::time_point started_, shown_;
  std::deque<std::pair<Clock::time_point, double>> recent_;  // when so much was done
};

// Results, as bytes; what would act on a terminal is shown escaped where stdout is one (printable.h). A stdout that
// cannot be written (full disk) is ErrorKind::io; one that nobody reads any longer is ErrorKind::interrupted.
void write_result(std::string_view text);
void write_json(const Json& json);  // with a newline; what is not finite becomes null, broken UTF-8 U+FFFD
void finish_results();              // flushes
// Talk on stderr, always escaped. It is lost where stderr cannot be written.
void say(std::string_view text);

}  // namespace whit
