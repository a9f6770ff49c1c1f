// A hash table from pairs of token ids to what they merge into; built once, then read in the innermost loop.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

namespace whit {

template <class Value>
class PairMap {
 public:
  explicit PairMap(size_t expected) {
    size_t slots = 16;
    while (slots < 2 * expected) slots *= 2;
    slots_.resize(slots);
    mask_ = slots - 1;
  }

  // Keeps the value that is there already. True when the pair is new. No more pairs than expected may be inserted.
  bool insert(int32_t left, int32_t right, const Value& value) {
    const uint64_t key = pack(left, right);
    size_t at = hash(key) & mask_;
    for (; slots_[at].key != kEmpty; at = (at + 1) & mask_)
      if (slots_[at].key == key) return false;
    slots_[at] = {key, value};
    return true;
  }

  const Value* find(int32_t left, int32_t right) const noexcept {
    const uint64_t key = pack(left, right);
    for (size_t at = hash(key) & mask_; slots_[at].key != kEmpty; at = (at + 1) & mask_)
      if (slots_[at].key == key) return &slots_[at].value;
    return nullptr;
  }

 private:
  static constexpr uint64_t kEmpty = ~uint64_t{0};  // ids are not negative
  struct Slot {
    uint64_t key = kEmpty;
    Value value{};
  };
  static uint64_t pack(int32_t left, int32_t right) noexcept {
    return (static_cast<uint64_t>(static_cast<uint32_t>(left)) << 32) | static_cast<uint32_t>(right);
  }
  static uint64_t hash(uint64_t key) noexcept {
    key *= 0x9e3779b97f4a7c15ull;
    return key ^ (key >> 32);
  }

  std::vector<Slot> slots_;
  size_t mask_ = 0;
};

}  // namespace whit
