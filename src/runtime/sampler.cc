#include "runtime/sampler.h"

#include <algorithm>
#include <cmath>
#include <unordered_set>

#include "base/error.h"

namespace whit {

Sampler::Sampler(const SamplerOptions& options) : options_(options), rng_(options.seed) {}

int32_t Sampler::next(std::span<const float> logits, std::span<const int32_t> recent) {
  if (logits.empty()) throw Error(ErrorKind::usage, "there are no logits to sample from", "sampler");
  candidates_.clear();
  candidates_.reserve(logits.size());
  for (size_t i = 0; i < logits.size(); ++i) {
    if (std::isnan(logits[i]))
      throw Error(ErrorKind::numeric, "a logit is not a number", "sampler", "token " + std::to_string(i),
                  "the model or its weights are damaged");
    candidates_.emplace_back(logits[i], static_cast<int32_t>(i));
  }
  // The likelier first, of equals the lower id.
  const auto likelier = [](const auto& a, const auto& b) {
    return a.first != b.first ? a.first > b.first : a.second < b.second;
  };
  if (options_.temperature == 0) return std::min_element(candidates_.begin(), candidates_.end(), likelier)->second;

  if (options_.repeat_penalty != 1) {
    // A positive logit is divided and a negative one multiplied, so that both become less likely (Keskar et al. 2019).
    const size_t last = std::min(recent.size(), static_cast<size_t>(std::max(options_.repeat_last, 0)));
    const std::unordered_set<int32_t> seen(recent.end() - static_cast<std::ptrdiff_t>(last), recent.end());
    for (const int32_t id : seen) {
      if (id < 0 || static_cast<size_t>(id) >= candidates_.size()) continue;
      float& logit = candidates_[static_cast<size_t>(id)].first;
      const float penalty = static_cast<float>(options_.repeat_penalty);
      logit = logit > 0 ? logit / penalty : logit * penalty;
    }
  }
  size_t keep = candidates_.size();
  if (options_.top_k > 0) keep = std::min(keep, static_cast<size_t>(options_.top_k));
  std::partial_sort(candidates_.begin(), candidates_.begin() + static_cast<std::ptrdiff_t>(keep), candidates_.end(),
                    likelier);
  candidates_.resize(keep);

  // Probabilities at this temperature, in double; the largest logit is the first.
  const double top = candidates_.front().first;
  std::vector<double> weights(keep);
  double total = 0;
  for (size_t i = 0; i < keep; ++i) {
    const double difference = candidates_[i].first - top;
    weights[i] = candidates_[i].first == candidates_.front().first ? 1.0 : std::exp(difference / options_.temperature);
    total += weights[i];
  }
  if (options_.top_p < 1) {
    // The smallest set whose probability reaches top_p: the token that crosses it is kept.
    double sum = 0;
    size_t count = 0;
    while (count < keep) {
      sum += weights[count++];
      if (sum >= options_.top_p * total) break;
    }
    keep = count;
  }
  if (options_.min_p > 0) {
    size_t count = 1;
    while (count < keep && weights[count] >= options_.min_p) ++count;  // the first weight is 1
    keep = count;
  }
  total = 0;
  for (size_t i = 0; i < keep; ++i) total += weights[i];
  double rest = rng_.uniform() * total;
  for (size_t i = 0; i + 1 < keep; ++i) {
    if (rest < weights[i]) return candidates_[i].second;
    rest -= weights[i];
  }
  return candidates_[keep - 1].second;
}

}  // namespace whit
