// The ids of pieces met before, for the time of one text: pieces repeat, and merging is the dear part.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <string_view>
#include <vector>

namespace whit {

// Keys are views of the text (or of a buffer) that must stay where it is.
class PieceCache {
 public:
  // The result is valid until the next add().
  std::optional<std::span<const int32_t>> find(std::string_view piece) const noexcept;
  // Of a piece that find() did not know. Very long pieces, and pieces beyond some 10^5, are not kept.
  void add(std::string_view piece, std::span<const int32_t> ids);

 private:
  struct Slot {
    const char* data = nullptr;
    uint32_t size = 0, count = 0;
    uint32_t first = 0;  // into ids_
    uint32_t hash = 0;
  };
  static uint32_t hash_of(std::string_view piece) noexcept;
  void grow();

  std::vector<Slot> slots_ = std::vector<Slot>(256);
  std::vector<int32_t> ids_;
  size_t used_ = 0;
};

}  // namespace whit
