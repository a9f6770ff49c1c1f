#include "format/enumerative.h"

#include <array>
#include <bit>

namespace whit {
namespace {

constexpr unsigned kSide = kEnumerativeMost + 1;
using Triangle = std::array<std::array<uint32_t, kSide>, kSide>;

constexpr Triangle pascal() {
  Triangle c{};
  for (unsigned m = 0; m < kSide; ++m) {
    c[m][0] = 1;
    for (unsigned n = 1; n <= m; ++n) c[m][n] = c[m - 1][n - 1] + (n < m ? c[m - 1][n] : 0);
  }
  return c;
}
constexpr Triangle kBinomial = pascal();  // [m][n] = C(m, n), 0 above the diagonal

}  // namespace

uint64_t enumerative_count(unsigned n, unsigned m) noexcept {
  return n > m || m > kEnumerativeMost ? 0 : kBinomial[m][n];
}

unsigned enumerative_bits(unsigned n, unsigned m) noexcept {
  const uint64_t count = enumerative_count(n, m);
  return count <= 1 ? 0 : static_cast<unsigned>(std::bit_width(count - 1));
}

// With set positions p_1 < p_2 < ... the number is the sum of C(p_i, i): the masks below are those that agree above p_i
// and have their i highest remaining bits below p_i.
uint64_t enumerative_rank(uint32_t mask, unsigned) noexcept {
  uint64_t index = 0;
  for (unsigned i = 1; mask != 0; ++i, mask &= mask - 1)
    index += kBinomial[static_cast<unsigned>(std::countr_zero(mask))][i];
  return index;
}

uint32_t enumerative_unrank(uint64_t index, unsigned n, unsigned m) noexcept {
  uint32_t mask = 0;
  unsigned left = n < m ? n : m;
  for (unsigned position = m; left > 0; --position) {
    // Position - 1 is set where the masks without it run out, or where all that are left must be set.
    const uint64_t without = kBinomial[position - 1][left];
    if (index < without) continue;
    mask |= uint32_t{1} << (position - 1);
    index -= without;
    --left;
  }
  return mask;
}

}  // namespace whit
