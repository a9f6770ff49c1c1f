// N:M masks as they are stored: n of every m consecutive inputs of a row are kept; of a last short group of r, ceil(n r
// / m). A row is a bit stream of the groups' enumerative numbers (format/enumerative.h), each of ceil(log2 C(m, n))
// bits, and starts on a byte.
#pragma once

#include <bit>
#include <cstddef>
#include <cstdint>
#include <vector>

#include "format/bit_stream.h"
#include "format/enumerative.h"

namespace whit {

struct Packed;

struct NmPattern {
  unsigned n = 1, m = 1;  // 1 <= n <= m <= kEnumerativeMost

  unsigned kept_of(uint64_t size) const noexcept { return static_cast<unsigned>(div_up(n * size, m)); }  // of a group
  uint64_t kept(uint64_t cols) const noexcept { return cols / m * n + kept_of(cols % m); }               // of a row
  uint64_t row_bits(uint64_t cols) const noexcept {
    const auto rest = static_cast<unsigned>(cols % m);
    return cols / m * enumerative_bits(n, m) + enumerative_bits(kept_of(rest), rest);
  }
  uint64_t row_bytes(uint64_t cols) const noexcept { return div_up(row_bits(cols), 8); }
  bool operator==(const NmPattern&) const = default;
};

// The first group of a row [cols], 1 = kept, that does not keep what the pattern says; the number of groups if all do.
uint64_t first_other_group(NmPattern pattern, const uint8_t* mask, uint64_t cols) noexcept;

// Writes a row that has the pattern. The bits must be zero before.
void write_mask_row(NmPattern pattern, const uint8_t* mask, uint64_t cols, std::byte* to) noexcept;

// visit(j) for every kept input j of a stored row, ascending; always kept(cols) of them, whatever the bytes.
template <class Visit>
void for_each_kept(NmPattern pattern, const std::byte* row, uint64_t cols, const Visit& visit) noexcept {
  const unsigned full_bits = enumerative_bits(pattern.n, pattern.m);
  uint64_t position = 0;
  for (uint64_t begin = 0; begin < cols; begin += pattern.m) {
    const bool full = cols - begin >= pattern.m;
    const unsigned size = full ? pattern.m : static_cast<unsigned>(cols - begin);
    const unsigned n = full ? pattern.n : pattern.kept_of(size);
    const unsigned bits = full ? full_bits : enumerative_bits(n, size);
    uint32_t mask = enumerative_unrank(read_bits_at(row, position, bits), n, size);
    position += bits;
    for (; mask != 0; mask &= mask - 1) visit(begin + static_cast<unsigned>(std::countr_zero(mask)));
  }
}

// [rows, cols], 1 = kept, of a packed matrix whose format has a pattern.
std::vector<uint8_t> stored_mask(const Packed& packed);

}  // namespace whit
