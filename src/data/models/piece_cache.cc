#include "data/models/piece_cache.h"

#include "base/hash.h"

namespace whit {

uint32_t PieceCache::hash_of(std::string_view piece) noexcept {
  return static_cast<uint32_t>(xxh3_64(std::as_bytes(std::span(piece.data(), piece.size()))));
}

std::optional<std::span<const int32_t>> PieceCache::find(std::string_view piece) const noexcept {
  const uint32_t hash = hash_of(piece);
  const size_t mask = slots_.size() - 1;
  for (size_t at = hash & mask; slots_[at].data; at = (at + 1) & mask) {
    const Slot& slot = slots_[at];
    if (slot.hash == hash && std::string_view(slot.data, slot.size) == piece)
      return std::span(ids_).subspan(slot.first, slot.count);
  }
  return std::nullopt;
}

void PieceCache::add(std::string_view piece, std::span<const int32_t> ids) {
  constexpr size_t kLongest = 256, kMost = 200000;  // longer ones hardly come twice; 24 MB at most
  if (piece.size() > kLongest || used_ == kMost) return;
  if (2 * (used_ + 1) > slots_.size()) grow();
  const uint32_t hash = hash_of(piece);
  const size_t mask = slots_.size() - 1;
  size_t at = hash & mask;
  while (slots_[at].data) at = (at + 1) & mask;
  slots_[at] = {piece.data(), static_cast<uint32_t>(piece.size()), static_cast<uint32_t>(ids.size()),
                static_cast<uint32_t>(ids_.size()), hash};
  ids_.insert(ids_.end(), ids.begin(), ids.end());
  ++used_;
}

void PieceCache::grow() {
  std::vector<Slot> slots(2 * slots_.size());
  const size_t mask = slots.size() - 1;
  for (const Slot& slot : slots_) {
    if (!slot.data) continue;
    size_t at = slot.hash & mask;
    while (slots[at].data) at = (at + 1) & mask;
    slots[at] = slot;
  }
  slots_ = std::move(slots);
}

}  // namespace whit
