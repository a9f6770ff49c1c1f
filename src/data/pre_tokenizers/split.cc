#include "data/pre_tokenizers/split.h"

#include <algorithm>

#include "data/decoders/byte_level.h"
#include "data/unicode.h"

namespace whit {
namespace {

struct Stretch {
  Pattern::Match span;
  bool matched;
};

// The matches and what lies between them.
std::vector<Stretch> stretches(const std::vector<Pattern::Match>& matches, size_t size) {
  std::vector<Stretch> all;
  size_t end = 0;
  for (const Pattern::Match& match : matches) {
    if (end != match.first) all.push_back({{end, match.first}, false});
    all.push_back({match, true});
    end = match.second;
  }
  if (end != size) all.push_back({{end, size}, false});
  return all;
}

// Joins each stretch to the one before it where `joins` says so of their being matches.
template <class Joins>
std::vector<Pattern::Match> joined(const std::vector<Stretch>& all, const Joins& joins) {
  std::vector<Pattern::Match> pieces;
  bool before = false;
  for (const Stretch& stretch : all) {
    if (joins(stretch.matched, before) && !pieces.empty()) {
      pieces.back().first = std::min(pieces.back().first, stretch.span.first);
      pieces.back().second = std::max(pieces.back().second, stretch.span.second);
    } else {
      pieces.push_back(stretch.span);
    }
    before = stretch.matched;
  }
  return pieces;
}

std::vector<Pattern::Match> behave(std::vector<Stretch> all, SplitBehavior behavior) {
  const auto match_after_none = [](bool now, bool before) { return now && !before; };
  switch (behavior) {
    case SplitBehavior::removed:
      std::erase_if(all, [](const Stretch& stretch) { return stretch.matched; });
      break;
    case SplitBehavior::isolated:
      break;
    case SplitBehavior::contiguous:
      return joined(all, [](bool now, bool before) { return now == before; });
    case SplitBehavior::merged_with_previous:
      return joined(all, match_after_none);
    case SplitBehavior::merged_with_next: {
      std::reverse(all.begin(), all.end());
      std::vector<Pattern::Match> pieces = joined(all, match_after_none);
      std::reverse(pieces.begin(), pieces.end());
      return pieces;
    }
  }
  return joined(all, [](bool, bool) { return false; });
}

// A text in other bytes: from[i] is where the byte i of `text` comes from.
struct Rewritten {
  std::string text;
  std::vector<size_t> from;

  void add(std::string_view bytes, size_t at) {
    text += bytes;
    from.resize(text.size(), at);
  }
};

Rewritten as_letters(std::string_view text) {
  Rewritten out;
  for (size_t at = 0; at < text.size(); ++at) {
    std::string letter;
    append_utf8(letter, byte_level_letters()[static_cast<unsigned char>(text[at])]);
    out.add(letter, at);
  }
  return out;
}

Rewritten as_utf8(std::string_view text) {
  Rewritten out;
  for (size_t at = 0; at < text.size();) {
    const CodePoint point = next_code_point(text.substr(at));
    out.add(point.value == kInvalidCodePoint ? "\xef\xbf\xbd" : text.substr(at, point.length), at);
    at += point.length;
  }
  return out;
}

}  // namespace

Split::Split(const SplitStep& step) : step_(step) {
  if (step.puts_space) return;
  if (step.behavior == SplitBehavior::isolated && !step.of_letters) splitter_ = splitter_by_pattern(step.pattern);
  if (!splitter_) pattern_.emplace(step.pattern);
}

std::vector<Pattern::Match> Split::pieces(std::string_view text) const {
  Rewritten other;
  const bool rewrites = step_.of_letters || find_invalid_utf8(text) != std::string_view::npos;
  if (rewrites) other = step_.of_letters ? as_letters(text) : as_utf8(text);
  const std::string_view seen = rewrites ? other.text : text;
  std::vector<Stretch> all = stretches(pattern_->find_all(seen), seen.size());
  if (step_.inverted)
    for (Stretch& stretch : all) stretch.matched = !stretch.matched;
  std::vector<Pattern::Match> pieces = behave(std::move(all), step_.behavior);
  std::erase_if(pieces, [](const Pattern::Match& piece) { return piece.first == piece.second; });
  if (rewrites) {
    const auto back = [&](size_t at) { return at < other.from.size() ? other.from[at] : text.size(); };
    for (auto& [begin, end] : pieces) begin = back(begin), end = back(end);
  }
  return pieces;
}

}  // namespace whit
