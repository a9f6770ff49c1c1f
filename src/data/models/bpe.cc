#include "data/models/bpe.h"

#include <cstddef>
#include <queue>

namespace whit {

Bpe::Bpe(const std::vector<Merge>& merges) : targets_(merges.size()) {
  for (auto merge = merges.rbegin(); merge != merges.rend(); ++merge)
    targets_.insert(merge->left, merge->right, {merge->rank, merge->result});
}

void Bpe::merge(std::vector<int32_t>& symbols) const {
  // Below this length looking at all pairs again after each merge is faster than a heap.
  constexpr size_t kShort = 24;
  if (symbols.size() < 2) return;
  if (symbols.size() <= kShort) return merge_short(symbols);
  merge_long(symbols);
}

void Bpe::merge_short(std::vector<int32_t>& symbols) const {
  for (;;) {
    const Target* best = nullptr;
    size_t where = 0;
    for (size_t i = 0; i + 1 < symbols.size(); ++i) {
      const Target* target = targets_.find(symbols[i], symbols[i + 1]);
      if (target && (!best || target->rank < best->rank)) best = target, where = i;
    }
    if (!best) return;
    symbols[where] = best->result;
    symbols.erase(symbols.begin() + static_cast<ptrdiff_t>(where) + 1);
  }
}

void Bpe::merge_long(std::vector<int32_t>& symbols) const {
  constexpr size_t kNone = ~size_t{0};
  struct Node {
    int32_t id;
    size_t before, after;
  };
  struct Candidate {
    uint32_t rank;
    size_t at;
    int32_t left, right, result;
    bool operator<(const Candidate& other) const {  // the queue hands out the largest: the lowest rank, then leftmost
      return rank != other.rank ? rank > other.rank : at > other.at;
    }
  };
  const size_t count = symbols.size();
  std::vector<Node> nodes(count);
  std::vector<Candidate> first;
  first.reserve(count);
  for (size_t i = 0; i < count; ++i) nodes[i] = {symbols[i], i == 0 ? kNone : i - 1, i + 1 == count ? kNone : i + 1};
  const auto candidate = [&](size_t at, auto&& use) {
    const size_t next = nodes[at].after;
    if (next == kNone) return;
    if (const Target* target = targets_.find(nodes[at].id, nodes[next].id))
      use(Candidate{target->rank, at, nodes[at].id, nodes[next].id, target->result});
  };
  for (size_t i = 0; i < count; ++i) candidate(i, [&](const Candidate& c) { first.push_back(c); });
  std::priority_queue<Candidate> queue(std::less<Candidate>(), std::move(first));
  const auto push = [&](const Candidate& c) { queue.push(c); };
  while (!queue.empty()) {
    const Candidate top = queue.top();
    queue.pop();
    // A candidate whose symbols have changed since is stale; the pair that stands there now has one of its own.
    Node& left = nodes[top.at];
    if (left.id != top.left || left.after == kNone || nodes[left.after].id != top.right) continue;
    Node& right = nodes[left.after];
    left.id = top.result;
    right.id = -1;  // never equal to a symbol
    left.after = right.after;
    if (left.after != kNone) nodes[left.after].before = top.at;
    candidate(top.at, push);
    if (left.before != kNone) candidate(left.before, push);
  }
  symbols.clear();
  for (size_t at = 0; at != kNone; at = nodes[at].after) symbols.push_back(nodes[at].id);
}

}  // namespace whit
