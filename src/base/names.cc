#include "base/names.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <numeric>

namespace whit {
namespace {

char small(char c) { return c >= 'A' && c <= 'Z' ? static_cast<char>(c - 'A' + 'a') : c; }

// Letters put in, left out, put for another or changed with their neighbour; capitals count as small ones.
size_t edit_distance(std::string_view a, std::string_view b) {
  std::vector<size_t> before(b.size() + 1), last(b.size() + 1), row(b.size() + 1);
  std::iota(row.begin(), row.end(), size_t{0});
  for (size_t i = 1; i <= a.size(); ++i) {
    before.swap(last);
    last.swap(row);
    row[0] = i;
    for (size_t j = 1; j <= b.size(); ++j) {
      const char x = small(a[i - 1]), y = small(b[j - 1]);
      row[j] = std::min({last[j] + 1, row[j - 1] + 1, last[j - 1] + (x != y)});
      if (i > 1 && j > 1 && x == small(b[j - 2]) && y == small(a[i - 2])) row[j] = std::min(row[j], before[j - 2] + 1);
    }
  }
  return row[b.size()];
}

}  // namespace

std::string small_letters(std::string text) {
  for (char& c : text) c = small(c);
  return text;
}

std::string nearest_name(std::string_view name, std::span<const std::string> known) {
  std::string best;
  // Of two letters any would be near.
  size_t least = name.size() < 3 ? 1 : std::max<size_t>(name.size() < 5 ? 1 : 2, name.size() / 3) + 1;
  if (name.size() > 256) return best;
  for (const std::string& candidate : known) {
    const size_t distance = edit_distance(name, candidate);
    if (distance < least) {
      least = distance;
      best = candidate;
    }
  }
  const size_t letters = name.size() - std::min(name.find_first_not_of('-'), name.size());
  if (best.empty() && letters >= 2)  // the beginning of a name
    for (const std::string& candidate : known)
      if (candidate.starts_with(name)) return candidate;
  return best;
}

std::string suggest_name(std::string_view name, std::span<const std::string> known) {
  if (const std::string nearest = nearest_name(name, known); !nearest.empty())
    return fmt::format("did you mean '{}'?", nearest);
  return fmt::format("known are: {}", fmt::join(known, ", "));
}

bool glob_match(std::string_view pattern, std::string_view name) noexcept {
  size_t p = 0, n = 0, star = std::string_view::npos, resume = 0;
  while (n < name.size()) {
    if (p < pattern.size() && (pattern[p] == '?' || (pattern[p] == name[n] && pattern[p] != '*'))) {
      ++p, ++n;
    } else if (p < pattern.size() && pattern[p] == '*') {
      star = p++;
      resume = n;
    } else if (star != std::string_view::npos) {
      p = star + 1;
      n = ++resume;
    } else {
      return false;
    }
  }
  while (p < pattern.size() && pattern[p] == '*') ++p;
  return p == pattern.size();
}

}  // namespace whit
