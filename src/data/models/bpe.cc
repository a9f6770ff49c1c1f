#include "data/models/bpe.h"

#include <algorithm>
#include <cstddef>
#include <functional>

#include "base/error.h"

namespace whit {
namespace {

constexpr uint32_t kNone = ~uint32_t{0};  // no rank, no place

}  // namespace

Bpe::Bpe(const std::vector<Merge>& merges) : targets_(merges.size()) {
  for (auto merge = merges.rbegin(); merge != merges.rend(); ++merge)
    targets_.insert(merge->left, merge->right, {merge->rank, merge->result});
  for (const Merge& merge : merges) ranks_ = std::max(ranks_, merge.rank + 1);
}

void Bpe::merge(std::vector<int32_t>& symbols) const {
  // Below this length looking at the ranks of all pairs after each merge is faster than keeping them sorted.
  constexpr size_t kShort = 512;
  if (symbols.size() < 2) return;
  if (symbols.size() <= kShort) return merge_short(symbols);
  merge_long(symbols);
}

void Bpe::merge_short(std::vector<int32_t>& symbols) const {
  // ranks[i], results[i]: of the pair that begins at symbol i.
  std::vector<uint32_t> ranks(symbols.size() - 1);
  std::vector<int32_t> results(symbols.size() - 1);
  const auto look_up = [&](size_t i) {
    const Target* target = targets_.find(symbols[i], symbols[i + 1]);
    ranks[i] = target ? target->rank : kNone;
    results[i] = target ? target->result : 0;
  };
  for (size_t i = 0; i < ranks.size(); ++i) look_up(i);
  while (!ranks.empty()) {
    const auto best = std::min_element(ranks.begin(), ranks.end());
    if (*best == kNone) return;
    const auto at = best - ranks.begin();
    symbols[static_cast<size_t>(at)] = results[static_cast<size_t>(at)];
    symbols.erase(symbols.begin() + at + 1);
    ranks.erase(best);
    results.erase(results.begin() + at);
    if (static_cast<size_t>(at) < ranks.size()) look_up(static_cast<size_t>(at));
    if (at > 0) look_up(static_cast<size_t>(at) - 1);
  }
}

void Bpe::merge_long(std::vector<int32_t>& symbols) const {
  // rank, result: of the pair that begins here; kNone where there is none or where the symbol was merged away.
  struct Node {
    int32_t id, result;
    uint32_t rank, before, after;
  };
  WHIT_CHECK(symbols.size() < kNone);
  const auto count = static_cast<uint32_t>(symbols.size());
  std::vector<Node> nodes(count);
  // The places of the pairs of each rank, each a heap with the leftmost on top. A place whose pair has changed since is
  // stale: the pair that stands there now is in the heap of its own rank.
  std::vector<std::vector<uint32_t>> places(ranks_);
  uint32_t rank = kNone;  // all places of lower rank are empty
  const auto look_up = [&](uint32_t at) {
    Node& node = nodes[at];
    const Target* target = node.after == kNone ? nullptr : targets_.find(node.id, nodes[node.after].id);
    node.rank = target ? target->rank : kNone;
    if (!target) return;
    node.result = target->result;
    places[node.rank].push_back(at);
    std::push_heap(places[node.rank].begin(), places[node.rank].end(), std::greater<>());
    rank = std::min(rank, node.rank);
  };
  for (uint32_t i = 0; i < count; ++i)
    nodes[i] = {symbols[i], 0, kNone, i == 0 ? kNone : i - 1, i + 1 == count ? kNone : i + 1};
  for (uint32_t i = 0; i < count; ++i) look_up(i);
  while (rank < ranks_) {
    std::vector<uint32_t>& heap = places[rank];
    if (heap.empty()) {
      ++rank;
      continue;
    }
    const uint32_t at = heap.front();
    std::pop_heap(heap.begin(), heap.end(), std::greater<>());
    heap.pop_back();
    Node& left = nodes[at];
    if (left.rank != rank) continue;
    Node& right = nodes[left.after];
    left.id = left.result;
    right.rank = kNone;
    left.after = right.after;
    if (left.after != kNone) nodes[left.after].before = at;
    look_up(at);
    if (left.before != kNone) look_up(left.before);
  }
  symbols.clear();
  for (uint32_t at = 0; at != kNone; at = nodes[at].after) symbols.push_back(nodes[at].id);
}

}  // namespace whit
