#include "report/comparisons.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <tuple>

namespace whit {
namespace {

// By hash where there is one: the same file has many names.
std::string identity(const std::string& hash, const std::string& name) { return hash.empty() ? "named " + name : hash; }

auto key(const EvalRow& row) {
  const auto number = [](double value) { return std::isfinite(value) ? value : -1; };
  return std::tuple(identity(row.original_hash, row.original), identity(row.text_hash, row.text), row.windows_hash,
                    number(row.context), number(row.windows));
}

std::string text_name(const std::string& text) { return text.empty() ? "an unknown text" : text; }

std::string heading_of(const EvalRow& row) {
  std::string heading = "judged on " + text_name(row.text);
  if (std::isfinite(row.windows) && std::isfinite(row.context))
    heading += fmt::format(" ({:.0f} windows of {:.0f} tokens)", row.windows, row.context);
  if (!row.original.empty()) heading += ", beside " + short_name(row.original);
  return heading;
}

bool same_name(const std::string& a, const std::string& b) { return short_name(a) == short_name(b); }

bool belongs(const ReferencePoint& point, const EvalRow& row) {
  const bool text = !point.text_hash.empty() ? point.text_hash == row.text_hash
                                             : !point.text.empty() && same_name(point.text, row.text);
  const bool original = !point.original.empty() && same_name(point.original, row.original);
  const auto agrees = [](double said, double here) { return !std::isfinite(said) || said == here; };
  return text && (original || !std::isfinite(point.kl_mean)) && agrees(point.context, row.context) &&
         agrees(point.windows, row.windows);
}

}  // namespace

std::vector<Comparison> comparisons(const Results& results) {
  std::vector<Comparison> all;
  for (const EvalRow& row : results.rows) {
    auto found =
        std::find_if(all.begin(), all.end(), [&](const Comparison& c) { return key(c.rows.front()) == key(row); });
    if (found == all.end()) found = all.insert(all.end(), {row.original, heading_of(row), {}, {}});
    found->rows.push_back(row);
  }
  const size_t judged = all.size();
  for (const ReferencePoint& point : results.references) {
    bool taken = false;
    for (size_t i = 0; i < judged; ++i)
      if (belongs(point, all[i].rows.front())) {
        all[i].references.push_back(point);
        taken = true;
      }
    if (taken) continue;
    const std::string original = point.original.empty() ? "an unknown original" : short_name(point.original);
    const std::string heading = "others, judged on " + text_name(point.text) + ", beside " + original;
    const auto apart = all.begin() + static_cast<std::ptrdiff_t>(judged);
    auto found = std::find_if(apart, all.end(), [&](const Comparison& c) { return c.heading == heading; });
    if (found == all.end()) found = all.insert(all.end(), {point.original, heading, {}, {}});
    found->references.push_back(point);
  }
  return all;
}

bool is_original(const EvalRow& row) {
  if (row.original.empty()) return false;
  return row.model_hash.empty() || row.original_hash.empty() ? row.model == row.original
                                                             : row.model_hash == row.original_hash;
}

}  // namespace whit
