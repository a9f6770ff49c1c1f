#include "evaluate/speed.h"

#include <algorithm>
#include <chrono>
#include <limits>
#include <vector>

#include "base/error.h"
#include "base/rng.h"

namespace whit {
namespace {

using Clock = std::chrono::steady_clock;

double seconds_since(Clock::time_point start) { return std::chrono::duration<double>(Clock::now() - start).count(); }

struct Spread {
  double least, median, most;
};

Spread spread(std::vector<double> values) {
  if (values.empty()) {
    constexpr double nan = std::numeric_limits<double>::quiet_NaN();
    return {nan, nan, nan};
  }
  std::sort(values.begin(), values.end());
  const size_t n = values.size();
  return {values.front(), n % 2 ? values[n / 2] : 0.5 * (values[n / 2 - 1] + values[n / 2]), values.back()};
}

}  // namespace

Speed measure_speed(const Scorer& scorer, const SpeedOptions& options, Progress& progress) {
  const uint64_t vocabulary = scorer.spec().vocabulary;
  const uint64_t longest = std::max<uint64_t>({options.prompt, options.decode, 8});
  WHIT_CHECK(options.repeats > 0 && vocabulary > 0);
  Rng rng(1);
  std::vector<int32_t> ids(longest);
  for (int32_t& id : ids) id = static_cast<int32_t>(rng.below(vocabulary));
  const auto session = scorer.open(longest);
  const RowVisitor ignore = [](size_t, std::span<const float>) {};

  // Reads `count` ids, the head for the last row only, as generation needs it.
  const auto read_prompt = [&](uint64_t count) {
    session->reset();
    session->feed(std::span(ids).first(count), count - 1, ignore);
  };
  const auto decode = [&](uint64_t count) {
    session->reset();
    for (uint64_t i = 0; i < count; ++i) {
      if (i % 16 == 0) progress.check_interrupt();
      session->feed(std::span(ids).subspan(i, 1), i, ignore);
    }
  };
  read_prompt(std::min<uint64_t>(longest, 32));
  decode(std::min<uint64_t>(longest, 4));

  std::vector<double> prompt, answer;
  for (int repeat = 0; repeat < options.repeats; ++repeat) {
    progress.check_interrupt();
    if (options.prompt) {
      const auto start = Clock::now();
      read_prompt(options.prompt);
      prompt.push_back(static_cast<double>(options.prompt) / seconds_since(start));
    }
    progress.advance(1);
    if (options.decode) {
      const auto start = Clock::now();
      decode(options.decode);
      answer.push_back(static_cast<double>(options.decode) / seconds_since(start));
    }
    progress.advance(1);
  }
  const Spread p = spread(prompt), d = spread(answer);
  return {p.median, d.median, p.least, p.most, d.least, d.most};
}

}  // namespace whit
