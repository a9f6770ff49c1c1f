#include "cli/terminal.h"

#include <fmt/format.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <csignal>
#include <cstdio>
#include <cstring>

#include "base/error.h"
#include "base/printable.h"
#include "report/units.h"

namespace whit {
namespace {

constexpr double sparse_seconds = 15;  // between two lines of progress where stderr is no terminal
constexpr double recent_seconds = 60;  // whose rate says how much time is left

[[noreturn]] void fail_result(int error) {
  if (error != EPIPE) throw Error(ErrorKind::io, "the result cannot be written", "stdout", std::strerror(error));
  request_stop(SIGPIPE);
  throw Error(ErrorKind::interrupted, "nobody reads the result any longer", "stdout");
}

}  // namespace

Terminal::Terminal(bool quiet) : quiet_(quiet), live_(!quiet && isatty(STDERR_FILENO) == 1) {}

Terminal::~Terminal() {
  std::lock_guard lock(mutex_);
  erase();
}

void Terminal::begin(const std::string& phase, double total) {
  end();
  std::lock_guard lock(mutex_);
  phase_ = phase;
  total_ = total;
  done_ = 0;
  open_ = true;
  spoke_ = false;
  started_ = shown_ = Clock::now();
  recent_.assign(1, {started_, 0.0});
  if (live_) draw(false);
  if (!live_ && !quiet_) say(phase_ + "\n");
}

void Terminal::advance(double units) {
  std::lock_guard lock(mutex_);
  done_ += units;
  if (!open_ || quiet_) return;
  const auto now = Clock::now();
  const double since = std::chrono::duration<double>(now - shown_).count();
  if (since >= (live_ ? 0.1 : sparse_seconds)) {
    shown_ = now;
    draw(false);
  }
}

void Terminal::resume(double units) {
  std::lock_guard lock(mutex_);
  done_ = units;
  recent_.assign(1, {Clock::now(), done_});
}

void Terminal::note(const std::string& text) {
  if (quiet_) return;
  std::lock_guard lock(mutex_);
  erase();
  say(text + "\n");
  if (live_ && open_) draw(false);
}

void Terminal::end() {
  std::lock_guard lock(mutex_);
  if (!open_) return;
  if (!quiet_ && (live_ || spoke_)) draw(true);
  open_ = false;
}

void Terminal::check_interrupt() {
  if (interrupt_requested()) throw Error(ErrorKind::interrupted, stop_text());
}

void Terminal::erase() {
  if (drawn_) std::fputs("\r\x1b[K", stderr);
  drawn_ = false;
}

// By what was done in the last minute: work gets slower or faster on the way. Negative where nothing is known.
double Terminal::seconds_left(Clock::time_point now) {
  const auto age = [&](size_t i) { return std::chrono::duration<double>(now - recent_[i].first).count(); };
  while (recent_.size() > 1 && age(1) > recent_seconds) recent_.pop_front();
  const double done = done_ - recent_.front().second, seconds = age(0);
  if (age(recent_.size() - 1) >= 1) recent_.emplace_back(now, done_);
  return done > 0.005 * total_ || (done > 0 && seconds > 10) ? seconds * std::max(0.0, total_ - done_) / done : -1;
}

void Terminal::draw(bool last) {
  const double seconds = std::chrono::duration<double>(Clock::now() - started_).count();
  const double share = total_ > 0 ? std::clamp(done_ / total_, 0.0, 1.0) : 0;
  std::string line = phase_;
  if (last) {
    line += fmt::format(": done in {}", format_seconds(seconds));
  } else if (total_ > 0) {
    if (live_) {
      const int filled = static_cast<int>(share * 24 + 0.5);
      line += fmt::format("  [{}{}]", std::string(filled, '#'), std::string(24 - filled, '.'));
    }
    line += fmt::format(" {:3.0f} %", 100 * share);
    const double left = seconds_left(Clock::now());
    if (left >= 0 && seconds > 1) line += fmt::format(", {} left", format_seconds(left));
  } else {
    line += fmt::format(": {}", format_seconds(seconds));
  }
  if (live_) {
    std::fputs("\r\x1b[K", stderr);
    say(last ? line + "\n" : line);
    drawn_ = !last;
  } else {
    say(line + "\n");
    spoke_ = true;
  }
}

void write_result(std::string_view text) {
  const auto write = [](std::string_view bytes) {
    if (std::fwrite(bytes.data(), 1, bytes.size(), stdout) != bytes.size()) fail_result(errno);
  };
  if (isatty(STDOUT_FILENO) == 1)
    write(printable(text));
  else
    write(text);
}

void write_json(const Json& json) { write_result(json.dump(2, ' ', false, Json::error_handler_t::replace) + "\n"); }

void finish_results() {
  if (std::fflush(stdout) != 0) fail_result(errno);
}

void say(std::string_view text) {
  std::fputs(printable(text).c_str(), stderr);
  std::fflush(stderr);
}

}  // namespace whit
