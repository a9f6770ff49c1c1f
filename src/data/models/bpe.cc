#include "data/models/bpe.h"

#include <algorithm>
#include <cstddef>
#include <functional>

#include "base/error.h"

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
  constexpr uint32_t kNone = ~uint32_t{0};
  struct Node {
    int32_t id;
    uint32_t before, after;
  };
  struct Candidate {
    uint64_t key;  // rank, then place: the lowest key is merged first
    int32_t left, right;
    bool operator>(const Candidate& other) const { return key > other.key; }
  };
  WHIT_CHECK(symbols.size() < kNone);
  const auto count = static_cast<uint32_t>(symbols.size());
  std::vector<Node> nodes(count);
  for (uint32_t i = 0; i < count; ++i) nodes[i] = {symbols[i], i == 0 ? kNone : i - 1, i + 1 == count ? kNone : i + 1};
  std::vector<Candidate> heap;
  heap.reserve(count);
  const auto add = [&](uint32_t at) {
    const uint32_t next = nodes[at].after;
    if (next == kNone) return false;
    const Target* target = targets_.find(nodes[at].id, nodes[next].id);
    if (target) heap.push_back({(uint64_t{target->rank} << 32) | at, nodes[at].id, nodes[next].id});
    return target != nullptr;
  };
  const auto push = [&](uint32_t at) {
    if (add(at)) std::push_heap(heap.begin(), heap.end(), std::greater<>());
  };
  for (uint32_t i = 0; i < count; ++i) add(i);
  std::make_heap(heap.begin(), heap.end(), std::greater<>());
  while (!heap.empty()) {
    std::pop_heap(heap.begin(), heap.end(), std::greater<>());
    const Candidate top = heap.back();
    heap.pop_back();
    const auto at = static_cast<uint32_t>(top.key);
    // A candidate whose symbols have changed since is stale; the pair that stands there now has one of its own.
    Node& left = nodes[at];
    if (left.id != top.left || left.after == kNone || nodes[left.after].id != top.right) continue;
    Node& right = nodes[left.after];
    left.id = targets_.find(top.left, top.right)->result;
    right.id = -1;  // never equal to a symbol
    left.after = right.after;
    if (left.after != kNone) nodes[left.after].before = at;
    push(at);
    if (left.before != kNone) push(left.before);
  }
  symbols.clear();
  for (uint32_t at = 0; at != kNone; at = nodes[at].after) symbols.push_back(nodes[at].id);
}

}  // namespace whit
