#include "model/spec/scorer.h"

#include <algorithm>
#include <bit>
#include <cmath>

#include "base/error.h"
#include "model/spec/score_bound.h"

namespace whit {

void check_fed_ids(const ModelSpec& spec, std::span<const int32_t> ids, size_t position, size_t context) {
  if (ids.size() > context - position)
    throw Error(ErrorKind::usage, "the context is full", "--context", std::to_string(position + ids.size()) + " tokens",
                "the session was opened for " + std::to_string(context));
  for (size_t i = 0; i < ids.size(); ++i)
    if (ids[i] < 0 || static_cast<uint64_t>(ids[i]) >= spec.vocabulary)
      throw Error(ErrorKind::input, "a token id is outside the vocabulary", "position " + std::to_string(position + i),
                  std::to_string(ids[i]), "ids are 0 to " + std::to_string(spec.vocabulary - 1));
}

void check_activations(std::span<const float> values, int64_t block, const char* what) {
  constexpr size_t kLanes = 16;  // a fixed number: the compiler makes vectors of it
  constexpr auto kLimit = std::bit_cast<int32_t>(kLargestActivation);
  const auto beyond = [](float value) -> int32_t { return (std::bit_cast<int32_t>(value) & 0x7fffffff) > kLimit ? -1 : 0; };
  int32_t lanes[kLanes] = {}, found = 0;
  size_t i = 0;
  for (; i + kLanes <= values.size(); i += kLanes)
    for (size_t l = 0; l < kLanes; ++l) lanes[l] |= beyond(values[i + l]);
  for (; i < values.size(); ++i) found |= beyond(values[i]);
  for (const int32_t lane : lanes) found |= lane;
  if (found == 0) return;
  const auto worst = std::find_if(values.begin(), values.end(), [&](float value) { return beyond(value) != 0; });
  throw Error(ErrorKind::numeric, "a number on the way through the model is too large or none",
              block < 0 ? std::string(what) : "blk." + std::to_string(block) + "." + what, std::to_string(*worst),
              "the weights are damaged, or were made with wrong scales");
}

void check_scores(std::span<const float> scores, float scale) {
  constexpr size_t kLanes = 16;
  if (scores.empty()) return;
  float lanes[kLanes], most = scores[0];
  std::fill(lanes, lanes + kLanes, most);
  size_t i = 0;
  for (; i + kLanes <= scores.size(); i += kLanes)
    for (size_t l = 0; l < kLanes; ++l) lanes[l] = scores[i + l] > lanes[l] ? scores[i + l] : lanes[l];
  for (; i < scores.size(); ++i) most = std::max(most, scores[i]);
  most = std::max(most, *std::max_element(lanes, lanes + kLanes)) * scale;
  if (std::abs(most) <= kLargestScore) return;
  throw Error(ErrorKind::numeric, "products of queries and keys are too large for softmax to tell them apart", "attention",
              std::to_string(most), "the weights are damaged, or were made with wrong scales");
}

uint64_t learned_row(const ModelSpec& spec, uint64_t position) {
  if (position >= spec.context)
    throw Error(ErrorKind::usage, "the model has no such position: it learned one for each", "--context",
                std::to_string(position + 1), "at most " + std::to_string(spec.context));
  return position + spec.position_offset;
}

void check_truncation(size_t position, size_t now) {
  if (position > now)
    throw Error(ErrorKind::usage, "a session cannot be cut back to a later position", "truncate",
                std::to_string(position), "it is at " + std::to_string(now));
}

}  // namespace whit
