#include "format/nm_pattern.h"

#include <algorithm>

#include "format/format.h"

namespace whit {
namespace {

uint32_t bits_of(const uint8_t* mask, uint64_t size) noexcept {
  uint32_t bits = 0;
  for (uint64_t k = 0; k < size; ++k) bits |= uint32_t{mask[k] != 0} << k;
  return bits;
}

}  // namespace

uint64_t first_other_group(NmPattern pattern, const uint8_t* mask, uint64_t cols) noexcept {
  uint64_t group = 0;
  for (uint64_t begin = 0; begin < cols; begin += pattern.m, ++group) {
    const uint64_t size = std::min<uint64_t>(pattern.m, cols - begin);
    if (static_cast<unsigned>(std::popcount(bits_of(mask + begin, size))) != pattern.kept_of(size)) break;
  }
  return group;
}

void write_mask_row(NmPattern pattern, const uint8_t* mask, uint64_t cols, std::byte* to) noexcept {
  uint64_t position = 0;
  for (uint64_t begin = 0; begin < cols; begin += pattern.m) {
    const auto size = static_cast<unsigned>(std::min<uint64_t>(pattern.m, cols - begin));
    const unsigned bits = enumerative_bits(pattern.kept_of(size), size);
    write_bits_at(to, position, bits, static_cast<uint32_t>(enumerative_rank(bits_of(mask + begin, size), size)));
    position += bits;
  }
}

std::vector<uint8_t> stored_mask(const Packed& packed) {
  const auto pattern = packed.format->pattern();
  WHIT_CHECK(pattern && !packed.parts.empty());
  const uint64_t rows = packed.shape.rows, cols = packed.shape.cols, row_bytes = pattern->row_bytes(cols);
  WHIT_CHECK(packed.parts[0].size() >= rows * row_bytes);  // the mask is the first part
  std::vector<uint8_t> mask(packed.shape.count(), 0);
  for (uint64_t i = 0; i < rows; ++i)
    for_each_kept(*pattern, packed.parts[0].data() + i * row_bytes, cols, [&](uint64_t j) { mask[i * cols + j] = 1; });
  return mask;
}

}  // namespace whit
