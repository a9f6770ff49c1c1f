#include "pipeline/phases.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <utility>

namespace whit {

double seconds_of(const std::vector<Phase>& phases) {
  double sum = 0;
  for (const Phase& phase : phases) {
    if (phase.seconds < 0) return -1;
    sum += phase.seconds;
  }
  return sum;
}

std::string about(double seconds) {
  if (seconds < 10) return fmt::format("{:.0f} s", std::max(1.0, std::ceil(seconds)));
  if (seconds < 100) return fmt::format("{:.0f} s", 5 * std::round(seconds / 5));
  if (seconds < 600) return fmt::format("{:.1f} min", seconds / 60);
  if (seconds < 6000) return fmt::format("{:.0f} min", seconds / 60);
  return fmt::format("{:.1f} h", seconds / 3600);
}

Json known_seconds(const std::vector<Phase>& phases) {
  Json json = {{"phases", Json::array()}};
  for (const Phase& phase : phases)
    json["phases"].push_back(
        {{"phase", phase.name}, {"seconds", phase.seconds < 0 ? Json(nullptr) : Json(phase.seconds)}});
  const double sum = seconds_of(phases);
  json["in_all"] = sum < 0 ? Json(nullptr) : Json(sum);
  return json;
}

void note_expected(Progress& progress, uint64_t memory, const std::vector<Phase>& phases) {
  std::string list;
  for (const Phase& phase : phases)
    if (phase.seconds > 0 || phase.seconds < 0)
      list += fmt::format("{}{} {}", list.empty() ? "" : ", ", phase.name,
                          phase.seconds < 0 ? "as long as it takes" : about(phase.seconds));
  const double sum = seconds_of(phases);
  const std::string bytes = memory == 0 ? ""
                                        : fmt::format(
                                              "expected memory: up to {:.0f} MB of its own, beside pages of files and "
                                              "libraries; ",
                                              static_cast<double>(memory) / 1e6);
  progress.note(fmt::format("{}expected time: {}{}", bytes, list.empty() ? "a moment" : list,
                            sum <= 0 ? "" : fmt::format("; about {} in all", about(sum))));
}

void PhasedProgress::expect(std::vector<Phase> phases) {
  phases_ = std::move(phases);
  current_ = 0;
  begun_ = false;
  start_ = Clock::now();
}

void PhasedProgress::begin(const std::string& phase, double total) {
  // A phase may have several parts, and one whose result is there already is left out.
  size_t next = begun_ ? current_ : 0;
  while (next < phases_.size() && !phase.starts_with(phases_[next].name)) ++next;
  if (next == phases_.size()) return shown_.begin(phase, total);
  if (!begun_ || next != current_) {
    passed_ = std::chrono::duration<double>(Clock::now() - start_).count();
    current_ = next;
    begun_ = true;
  }
  const double left = seconds_of({phases_.begin() + static_cast<ptrdiff_t>(current_), phases_.end()});
  shown_.begin(fmt::format("{} of {}: {}{}", current_ + 1, phases_.size(), phase,
                           left < 0 ? "" : fmt::format(" (about {} in all)", about(passed_ + left))),
               total);
}

}  // namespace whit
