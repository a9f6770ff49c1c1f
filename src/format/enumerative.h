// Enumerative code of N:M masks (Cover 1973; the combinatorial number system): the masks that keep n of m positions are
// numbered 0 .. C(m, n) - 1 in the order of their values as integers, so a mask takes ceil(log2 C(m, n)) bits.
// Bit k of a mask is position k; m <= 32. A mask's number does not depend on m.
#pragma once

#include <cstdint>

namespace whit {

constexpr unsigned kEnumerativeMost = 32;  // the largest m

// C(m, n); 0 where n > m. At most C(32, 16) < 2^30.
uint64_t enumerative_count(unsigned n, unsigned m) noexcept;
// ceil(log2 C(m, n)): 0 where there is only one mask.
unsigned enumerative_bits(unsigned n, unsigned m) noexcept;
// The number of a mask among those of m positions with as many bits set. Bits from m on must be 0.
uint64_t enumerative_rank(uint32_t mask, unsigned m) noexcept;
// The mask of that number. A number from C(m, n) on (a damaged file) gives the last mask: always n of m bits, never
// more.
uint32_t enumerative_unrank(uint64_t index, unsigned n, unsigned m) noexcept;

}  // namespace whit
