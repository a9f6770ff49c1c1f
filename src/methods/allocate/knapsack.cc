// knapsack: one format per unit, least sum of predicted losses, sum of bytes within the budget (the multiple-choice
// knapsack problem).
//
// Choices that another choice beats in bytes and loss are removed. Then dynamic programming over units: the table has
// one bucket per `granule` bytes above the sum of the smallest choices and keeps, per bucket, the plan of least loss
// with its true bytes, so rounding does not add up over units. Where the sizes have a common divisor that gives few
// enough buckets (the usual case of test instances, or units of equal shape) a bucket is one exact size and the result
// is the optimum; otherwise a plan may miss it by at most what one bucket of bytes per unit is worth, in practice far
// less.
//
// The table does not depend on the budget; the budget only selects which finished plans are eligible. That is what
// makes the law hold exactly: a larger budget never gives a larger loss, and one table serves a whole curve.
//
// Cost: units * choices * buckets steps (60 ms for 211 units of 12 choices), 8 bytes per unit and bucket.
#include <algorithm>
#include <cmath>
#include <limits>
#include <numeric>

#include "base/checked.h"
#include "methods/registry.h"

namespace whit {
namespace {

struct KnapsackOptions {
  int64_t buckets = 1 << 14;
  template <class V>
  void visit(V& v) {
    v("buckets", buckets, "size of the table: more come nearer to the optimum, in proportional time and memory",
      Range{1 << 8, 1 << 20});
  }
};

struct Candidate {
  uint64_t extra;  // bytes above the unit's smallest choice
  double loss;
  size_t index;  // in the caller's list
};

// Sorted by bytes, losses strictly falling.
std::vector<Candidate> undominated(const std::vector<Choice>& choices, size_t unit) {
  const std::string where = "knapsack: unit " + std::to_string(unit);
  if (choices.empty()) throw Error(ErrorKind::usage, "a unit has no format to choose from", where);
  std::vector<size_t> order(choices.size());
  std::iota(order.begin(), order.end(), size_t{0});
  for (const Choice& choice : choices)
    if (!std::isfinite(choice.loss))
      throw Error(ErrorKind::numeric, "a predicted loss is not a finite number", where, std::to_string(choice.loss));
  std::stable_sort(order.begin(), order.end(), [&](size_t a, size_t b) {
    return choices[a].bytes != choices[b].bytes ? choices[a].bytes < choices[b].bytes
                                                : choices[a].loss < choices[b].loss;
  });
  std::vector<Candidate> kept;
  for (const size_t i : order)
    if (kept.empty() || choices[i].loss < kept.back().loss)
      kept.push_back({choices[i].bytes - choices[order[0]].bytes, choices[i].loss, i});
  return kept;
}

struct Bucket {
  double loss = std::numeric_limits<double>::infinity();
  uint64_t extra = 0;
};

struct Step {
  uint32_t from;
  uint16_t candidate;
};

class Knapsack final : public Allocator {
 public:
  explicit Knapsack(const KnapsackOptions& options) : options_(options) {}
  Json options() const override { return write_options(options_); }

  std::vector<size_t> allocate(std::span<const std::vector<Choice>> choices, uint64_t budget) const override {
    if (choices.empty()) return {};
    std::vector<std::vector<Candidate>> units;
    uint64_t least = 0, most_extra = 0, divisor = 0;
    for (size_t u = 0; u < choices.size(); ++u) {
      units.push_back(undominated(choices[u], u));
      least = checked_add(least, choices[u][units[u].front().index].bytes, "knapsack");
      most_extra = checked_add(most_extra, units[u].back().extra, "knapsack");
      for (const Candidate& candidate : units[u]) divisor = std::gcd(divisor, candidate.extra);
      WHIT_CHECK(units[u].size() <= std::numeric_limits<uint16_t>::max());
    }
    if (least > budget) return {};
    const uint64_t room = budget - least;

    const uint64_t wanted = static_cast<uint64_t>(options_.buckets);
    const uint64_t granule = std::max<uint64_t>({divisor, div_up(most_extra, wanted), 1});
    const size_t buckets = static_cast<size_t>(div_up(most_extra, granule)) + 1;
    std::vector<Bucket> table(buckets), next(buckets);
    std::vector<std::vector<Step>> steps(units.size(), std::vector<Step>(buckets));
    table[0] = {0.0, 0};
    size_t filled = 1;  // buckets that any plan so far can reach
    for (size_t u = 0; u < units.size(); ++u) {
      std::fill(next.begin(), next.end(), Bucket{});
      size_t last = 0;
      for (size_t from = 0; from < filled; ++from) {
        if (table[from].loss == std::numeric_limits<double>::infinity()) continue;
        for (size_t c = 0; c < units[u].size(); ++c) {
          const Bucket plan{table[from].loss + units[u][c].loss, table[from].extra + units[u][c].extra};
          const size_t to = static_cast<size_t>(div_up(plan.extra, granule));
          last = std::max(last, to);
          if (plan.loss < next[to].loss || (plan.loss == next[to].loss && plan.extra < next[to].extra)) {
            next[to] = plan;
            steps[u][to] = {static_cast<uint32_t>(from), static_cast<uint16_t>(c)};
          }
        }
      }
      filled = last + 1;
      table.swap(next);
    }

    size_t best = buckets;
    for (size_t b = 0; b < filled && b < buckets; ++b)
      if (table[b].extra <= room && table[b].loss != std::numeric_limits<double>::infinity() &&
          (best == buckets || table[b].loss < table[best].loss))
        best = b;
    WHIT_CHECK(best < buckets);  // the smallest plan is in bucket 0
    std::vector<size_t> plan(units.size());
    for (size_t u = units.size(); u-- > 0;) {
      const Step step = steps[u][best];
      plan[u] = units[u][step.candidate].index;
      best = step.from;
    }
    return plan;
  }

 private:
  KnapsackOptions options_;
};

}  // namespace

WHIT_DEFINE_METHOD(allocate, knapsack, Knapsack, KnapsackOptions)

}  // namespace whit
