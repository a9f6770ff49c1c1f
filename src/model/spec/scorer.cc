#include "model/spec/scorer.h"

#include "base/error.h"

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
