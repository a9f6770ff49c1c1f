// Products with signs for few tokens: matrices of one bit a weight and N:M signs. No weight is ever written out.
#if defined(WHIT_RUNTIME_CPU_SIGNS_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef WHIT_RUNTIME_CPU_SIGNS_INL_H_
#undef WHIT_RUNTIME_CPU_SIGNS_INL_H_
#else
#define WHIT_RUNTIME_CPU_SIGNS_INL_H_
#endif

#include "runtime/cpu/codes-inl.h"

HWY_BEFORE_NAMESPACE();
namespace whit::cpu::HWY_NAMESPACE {

// ---- one bit a weight: scale (q - 1/2) ----

// Lanes whose bit is set, of the lowest Lanes(d) bits.
HWY_INLINE hn::Mask<Floats> MaskOfBits(Floats d, uint64_t bits) {
#if HWY_ARCH_X86 && HWY_TARGET <= HWY_AVX3
  const uint8_t bytes[8] = {static_cast<uint8_t>(bits), static_cast<uint8_t>(bits >> 8)};
  return hn::LoadMaskBits(d, bytes);
#else
  const hn::RebindToUnsigned<Floats> du;
  HWY_ALIGN static constexpr uint32_t kBits[16] = {1,       1 << 1,  1 << 2,  1 << 3, 1 << 4,  1 << 5,
                                                   1 << 6,  1 << 7,  1 << 8,  1 << 9, 1 << 10, 1 << 11,
                                                   1 << 12, 1 << 13, 1 << 14, 1 << 15};
  return hn::RebindMask(d, hn::TestBit(hn::Set(du, static_cast<uint32_t>(bits)), hn::Load(du, kBits)));
#endif
}

// sum over j of x[j] (q_j - 1/2) = (sum where the bit is set) - (sum of all) / 2: no weight is ever written out.
inline void SignRows(const StoredMatrix& m, size_t begin, size_t end, const float* HWY_RESTRICT x,
                     float* HWY_RESTRICT out) {
  const Floats d;
  const size_t N = hn::Lanes(d), cols = m.cols;
  auto all = hn::Zero(d);
  for (size_t j = 0; j < cols; j += N) all = hn::Add(all, hn::LoadU(d, x + j));  // zero past cols
  const float half = 0.5f * hn::GetLane(hn::SumOfLanes(d, all));
  for (size_t row = begin; row < end; ++row) {
    const size_t stored = m.stored_row(row);
    const uint8_t* HWY_RESTRICT bits = m.codes + stored * m.row_bytes;
    hn::Vec<Floats> sum[4] = {hn::Zero(d), hn::Zero(d), hn::Zero(d), hn::Zero(d)};
    const auto word = [&](uint64_t signs, const float* from, size_t count) HWY_ATTR {
      for (size_t i = 0; i < count; i += 4 * N) {
        HWY_UNROLL(4)
        for (size_t a = 0; a < 4; ++a)
          sum[a] =
              hn::Add(sum[a], hn::IfThenElseZero(MaskOfBits(d, signs >> (i + a * N)), hn::LoadU(d, from + i + a * N)));
      }
    };
    size_t j = 0;
    for (; j + 64 <= cols; j += 64) {
      uint64_t signs;
      std::memcpy(&signs, bits + j / 8, 8);
      word(signs, x + j, 64);
    }
    if (j < cols) {  // x is readable to a multiple of 32 only
      uint64_t signs = 0;
      std::memcpy(&signs, bits + j / 8, (cols - j + 7) / 8);
      for (size_t i = 0; j + i < cols; i += N)
        sum[0] = hn::Add(sum[0], hn::IfThenElseZero(MaskOfBits(d, signs >> i), hn::LoadU(d, x + j + i)));
    }
    const float scale = half_to_float(Load16(m.scales + stored * m.parameter_row_bytes));
    out[row - begin] =
        scale * (hn::GetLane(hn::SumOfLanes(d, hn::Add(hn::Add(sum[0], sum[1]), hn::Add(sum[2], sum[3])))) - half);
  }
}

// The kept inputs of a row of N:M signs are gathered, a group a lane; only what is kept costs anything.
HWY_INLINE float NmGathered(const StoredMatrix& m, const uint8_t* row, const uint8_t* row_end, const uint8_t* signs,
                            const float* HWY_RESTRICT x, uint8_t* scratch) {
  const Floats d;
  const Ints di;
  const hn::Rebind<uint8_t, Floats> d8;
  const hn::RebindToUnsigned<Ints> du;
  const size_t N = hn::Lanes(d), groups = m.cols / m.of;
  const uint32_t bits = enumerative_bits(m.kept, m.of);
  // Rows end up to 3 bytes before what a lane reads; the numbers of narrow patterns and the signs go through bytes.
  uint8_t* sign_codes = scratch;
  uint8_t* numbers = scratch + padded(groups);
  StreamCodes(signs, m.signs_end, groups, m.kept, sign_codes);
  const bool narrow = bits <= 8;
  if (bits == 0) {
    std::memset(numbers, 0, padded(groups));
  } else if (narrow) {
    StreamCodes(row, m.codes_end, groups, bits, numbers);
  } else if (row_end + 4 > m.codes_end) {
    std::memcpy(numbers, row, m.row_bytes);
    row = numbers;
  }
  const auto last = hn::Set(di, static_cast<int32_t>(m.cols - 1));
  const auto last_bit = hn::Set(di, static_cast<int32_t>((groups - 1) * bits));
  auto sum0 = hn::Zero(d), sum1 = hn::Zero(d);
  for (size_t g = 0; g < groups; g += N) {
    const auto lane = hn::Iota(di, static_cast<int32_t>(g));
    auto number = hn::Zero(di);
    if (narrow) {
      number = hn::PromoteTo(di, hn::LoadU(d8, numbers + g));
    } else {
      const auto position = hn::Min(hn::Mul(lane, hn::Set(di, static_cast<int32_t>(bits))), last_bit);
      const auto four = hn::GatherOffset(di, reinterpret_cast<const int32_t*>(row), hn::ShiftRight<3>(position));
      const auto shifted = hn::Shr(hn::BitCast(du, four), hn::BitCast(du, hn::And(position, hn::Set(di, 7))));
      number = hn::And(hn::BitCast(di, shifted), hn::Set(di, static_cast<int32_t>((1u << bits) - 1)));
    }
    auto places = hn::GatherIndex(di, reinterpret_cast<const int32_t*>(m.places), number);
    auto minus = hn::Not(hn::PromoteTo(di, hn::LoadU(d8, sign_codes + g)));
    const auto begin = hn::Mul(lane, hn::Set(di, static_cast<int32_t>(m.of)));
    auto group = hn::Zero(d);
    for (uint32_t k = 0; k < m.kept; ++k) {
      const auto at = hn::Min(hn::Add(begin, hn::And(places, hn::Set(di, 255))), last);
      const auto flip = hn::BitCast(d, hn::ShiftLeft<31>(minus));
      group = hn::Add(group, hn::Xor(hn::GatherIndex(d, x, at), flip));
      places = hn::ShiftRight<8>(places);
      minus = hn::ShiftRight<1>(minus);
    }
    if (g + N > groups) group = hn::IfThenElseZero(hn::FirstN(d, groups - g), group);
    (g / N % 2 == 0 ? sum0 : sum1) = hn::Add(g / N % 2 == 0 ? sum0 : sum1, group);
  }
  return hn::GetLane(hn::SumOfLanes(d, hn::Add(sum0, sum1)));
}

// Where a group has few masks and signs, a table of what each of them sums to, [groups][2^(bits + n)], makes a row one
// look-up a group. It pays from about as many rows on as it has entries a group.
constexpr size_t kNmTableBits = 9, kNmTableRows = 256;

HWY_INLINE void NmTable(const StoredMatrix& m, uint32_t bits, const float* HWY_RESTRICT x, float* HWY_RESTRICT table) {
  for (size_t j = 0; j + m.of <= m.cols; j += m.of)
    for (uint32_t number = 0; number < 1u << bits; ++number, table += size_t{1} << m.kept) {
      table[0] = 0.0f;
      uint32_t places = m.places[number];
      for (uint32_t k = 0; k < m.kept; ++k, places >>= 8) {
        const float value = x[j + (places & 255)];
        for (uint32_t s = 0; s < 1u << k; ++s) {
          table[s + (1u << k)] = table[s] + value;
          table[s] -= value;
        }
      }
    }
}

HWY_INLINE float NmLookedUp(const StoredMatrix& m, uint32_t bits, const uint8_t* row, const uint8_t* signs,
                            const float* HWY_RESTRICT table, uint8_t* scratch) {
  const Floats d;
  const Ints di;
  const hn::Rebind<uint8_t, Floats> d8;
  const size_t N = hn::Lanes(d), groups = m.cols / m.of, shift = bits + m.kept;
  uint8_t* sign_codes = scratch;
  uint8_t* numbers = scratch + padded(groups);
  StreamCodes(signs, m.signs_end, groups, m.kept, sign_codes);
  StreamCodes(row, m.codes_end, groups, bits, numbers);
  const auto step = hn::Set(di, static_cast<int32_t>(N << shift)), scale = hn::Set(di, int32_t{1} << m.kept);
  auto begin = hn::Mul(hn::Iota(di, 0), hn::Set(di, int32_t{1} << shift));
  auto sum = hn::Zero(d);
  size_t g = 0;
  for (; g + N <= groups; g += N, begin = hn::Add(begin, step)) {
    const auto number = hn::PromoteTo(di, hn::LoadU(d8, numbers + g));
    const auto sign = hn::PromoteTo(di, hn::LoadU(d8, sign_codes + g));
    sum = hn::Add(sum, hn::GatherIndex(d, table, hn::Add(begin, hn::Add(hn::Mul(number, scale), sign))));
  }
  float rest = 0;
  for (; g < groups; ++g) rest += table[(g << shift) + (size_t{numbers[g]} << m.kept) + sign_codes[g]];
  return hn::GetLane(hn::SumOfLanes(d, sum)) + rest;
}

// A group by itself: the short one at the end of a row.
HWY_INLINE float NmShortGroup(const StoredMatrix& m, const uint8_t* row, const uint8_t* signs, const float* x) {
  const uint32_t size = static_cast<uint32_t>(m.cols % m.of), n = (m.kept * size + m.of - 1) / m.of;
  const size_t groups = m.cols / m.of;
  const uint32_t number = BitsAt(row, m.codes_end, groups * enumerative_bits(m.kept, m.of), enumerative_bits(n, size));
  const auto [mask, up] = UnpackNmGroup(m, number, BitsAt(signs, m.signs_end, groups * m.kept, n), n, size);
  float sum = 0;
  for (uint32_t k = 0; k < size; ++k)
    if (mask >> k & 1) sum += up >> k & 1 ? x[groups * m.of + k] : -x[groups * m.of + k];
  return sum;
}

// The sum of x where the sign is + less the sum where it is -.
HWY_INLINE float NmMasked(const StoredMatrix& m, size_t stored, const float* HWY_RESTRICT x) {
  const Floats d;
  const size_t N = hn::Lanes(d);
  auto up = hn::Zero(d), down = hn::Zero(d);
  NmPlanes(m, stored, [&](size_t j, uint64_t plus, uint64_t minus) HWY_ATTR {
    const size_t count = HWY_MIN(size_t{64}, m.cols - j);
    for (size_t i = 0; i < count; i += N) {
      const auto v = hn::LoadU(d, x + j + i);
      up = hn::Add(up, hn::IfThenElseZero(MaskOfBits(d, plus >> i), v));
      down = hn::Add(down, hn::IfThenElseZero(MaskOfBits(d, minus >> i), v));
    }
  });
  return hn::GetLane(hn::SumOfLanes(d, hn::Sub(up, down)));
}

inline void NmSignRows(const StoredMatrix& m, size_t begin, size_t end, const float* HWY_RESTRICT x,
                       const RowScratch& scratch, float* HWY_RESTRICT out) {
  const bool gather = m.places != nullptr && m.cols >= m.of;
  const uint32_t bits = enumerative_bits(m.kept, m.of);
  const bool table = gather && bits > 0 && bits + m.kept <= kNmTableBits && m.rows >= kNmTableRows &&
                     m.cols / m.of << (bits + m.kept) <= kPanel * padded(m.cols);
  if (table) NmTable(m, bits, x, scratch.floats);
  for (size_t row = begin; row < end; ++row) {
    const size_t stored = m.stored_row(row);
    const uint8_t* numbers = m.codes + stored * m.row_bytes;
    const uint8_t* signs = m.signs + stored * m.signs_row_bytes;
    float sum = table    ? NmLookedUp(m, bits, numbers, signs, scratch.floats, scratch.codes)
                : gather ? NmGathered(m, numbers, numbers + m.row_bytes, signs, x, scratch.codes)
                         : NmMasked(m, stored, x);
    if (gather && m.cols % m.of != 0) sum += NmShortGroup(m, numbers, signs, x);
    out[row - begin] = half_to_float(Load16(m.scales + 2 * stored)) * sum;
  }
}

inline void combine_sign_rows(const StoredMatrix& m, const float* weights, float* out) noexcept {
  const Floats d;
  const size_t N = hn::Lanes(d);
  for (size_t j = 0; j < m.cols; j += 4 * N) {
    const size_t bytes = (HWY_MIN(4 * N, m.cols - j) + 7) / 8;
    hn::Vec<Floats> sum[4] = {hn::Zero(d), hn::Zero(d), hn::Zero(d), hn::Zero(d)};
    for (size_t k = 0; k < m.rows; ++k) {
      const size_t stored = m.stored_row(k);
      uint64_t signs = 0;
      std::memcpy(&signs, m.codes + stored * m.row_bytes + j / 8, bytes);
      const float weight = 0.5f * weights[k] * half_to_float(Load16(m.scales + stored * m.parameter_row_bytes));
      const auto plus = hn::Set(d, weight), minus = hn::Set(d, -weight);
      HWY_UNROLL(4)
      for (size_t a = 0; a < 4; ++a)
        sum[a] = hn::Add(sum[a], hn::IfThenElse(MaskOfBits(d, signs >> (a * N)), plus, minus));
    }
    HWY_ALIGN float tile[4 * 16];
    for (size_t a = 0; a < 4; ++a) hn::Store(sum[a], d, tile + a * N);
    std::memcpy(out + j, tile, HWY_MIN(4 * N, m.cols - j) * sizeof(float));
  }
}

}  // namespace whit::cpu::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();
#endif
