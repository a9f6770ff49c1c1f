// How long work reports and is stopped. Libraries get a Progress; cli draws it, tests ignore it.
#pragma once

#include <cstdint>
#include <string>

namespace whit {

class Progress {
 public:
  virtual ~Progress() = default;
  // A new phase with `total` units of work (0: unknown). Ends the phase before it.
  virtual void begin(const std::string& phase, double total) = 0;
  virtual void advance(double units) = 0;
  // Of the phase that was just begun so much was done by an earlier process: shown, but no measure of speed.
  virtual void resume(double units) { advance(units); }
  // A line of talk (stderr in the program).
  virtual void note(const std::string& text) = 0;
  virtual void end() = 0;
  // Throws ErrorKind::interrupted once the user has pressed Ctrl-C. Called between units of work.
  virtual void check_interrupt() {}
};

// Says nothing, never interrupts.
class SilentProgress final : public Progress {
 public:
  void begin(const std::string&, double) override {}
  void advance(double) override {}
  void note(const std::string&) override {}
  void end() override {}
};

}  // namespace whit
