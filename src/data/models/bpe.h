// Byte-pair merging over token ids: the pair of lowest rank first, the leftmost among equals, until none is left.
#pragma once

#include <cstdint>
#include <vector>

#include "data/models/pair_map.h"

namespace whit {

struct Merge {
  int32_t left, right;
  uint32_t rank;  // equal ranks: the leftmost first. Ranks are dense: a long word costs memory for all up to the highest
  int32_t result;
};

class Bpe {
 public:
  // Of two rows for the same pair the later one is used, as in Hugging Face's table.
  explicit Bpe(const std::vector<Merge>& merges);
  // In place. Time n log n for n symbols at most, about linear where merges only lead to merges of higher rank.
  void merge(std::vector<int32_t>& symbols) const;

 private:
  struct Target {
    uint32_t rank;
    int32_t result;
  };
  void merge_short(std::vector<int32_t>& symbols) const;
  void merge_long(std::vector<int32_t>& symbols) const;
  PairMap<Target> targets_;
  uint32_t ranks_ = 0;  // one above the highest
};

}  // namespace whit
