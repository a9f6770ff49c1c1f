// What one rendering may use: steps, memory, depth. Templates come from files and are not trusted.
#pragma once

#include <cstdint>
#include <string>

namespace whit::jinja {

struct Limits {
  uint64_t steps = 20'000'000;           // evaluated nodes, and one for each 32 bytes that a step touches
  uint64_t bytes = uint64_t{256} << 20;  // of values that live at the same time
  uint64_t output = uint64_t{64} << 20;  // bytes
  int depth = 600;                       // nested evaluations, macro calls among them
};

// The place of an error: "chat template, line N".
std::string template_line(int line);
// ErrorKind::input: the template does what Jinja itself calls an error.
[[noreturn]] void fail(int line, const std::string& what);
// ErrorKind::input: Jinja could do it, this interpreter does not.
[[noreturn]] void refuse(int line, const std::string& name);

class Meter {
 public:
  explicit Meter(const Limits& limits) : limits_(limits) {}
  Meter(const Meter&) = delete;
  Meter& operator=(const Meter&) = delete;

  const Limits& limits() const noexcept { return limits_; }
  void step(uint64_t count = 1) {
    steps_ += count;
    if (steps_ > limits_.steps) refuse(line, "more than " + std::to_string(limits_.steps) + " steps");
  }
  void touch(uint64_t bytes) { step(bytes / 32); }
  void take(uint64_t bytes) {
    if (bytes > limits_.bytes - bytes_) refuse(line, "more than " + std::to_string(limits_.bytes) + " bytes of values");
    bytes_ += bytes;
  }
  void give(uint64_t bytes) noexcept { bytes_ -= bytes; }

  int line = 1;  // of the statement or expression that is evaluated

 private:
  Limits limits_;
  uint64_t steps_ = 0, bytes_ = 0;
};

// Memory taken from a meter for as long as a value lives. Without a meter (constants of the template): nothing.
class Charge {
 public:
  Charge() = default;
  Charge(Meter& meter, uint64_t bytes) : meter_(&meter), bytes_(bytes) { meter.take(bytes); }
  Charge(Charge&& other) noexcept : meter_(other.meter_), bytes_(other.bytes_) { other.meter_ = nullptr; }
  Charge& operator=(Charge&&) = delete;
  ~Charge() {
    if (meter_) meter_->give(bytes_);
  }

 private:
  Meter* meter_ = nullptr;
  uint64_t bytes_ = 0;
};

}  // namespace whit::jinja
