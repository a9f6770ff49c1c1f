// From stored bytes to codes, parameters, floats and panels.
#if defined(WHIT_RUNTIME_CPU_CODES_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef WHIT_RUNTIME_CPU_CODES_INL_H_
#undef WHIT_RUNTIME_CPU_CODES_INL_H_
#else
#define WHIT_RUNTIME_CPU_CODES_INL_H_
#endif

#include "base/half.h"
#include "format/enumerative.h"
#include "runtime/cpu/ggml-inl.h"

HWY_BEFORE_NAMESPACE();
namespace whit::cpu::HWY_NAMESPACE {

// ---- codes of a row: out[padded(cols)], zero past cols ----

// A little-endian stream of b-bit codes from a byte boundary: 8 codes are exactly b bytes, and a code touches at most
// two bytes. So 8 codes are spread to 16-bit lanes that hold their two bytes, shifted, masked and narrowed.
struct StreamTables {
  alignas(64) uint8_t gather[64] = {};  // VBMI: byte i of 8 codes into 64-bit lane i / 8
  alignas(64) uint8_t shift[64] = {};   // VBMI: where a code begins in its lane
  alignas(16) uint8_t spread[16] = {};
  alignas(16) uint16_t factor[8] = {};
};

constexpr StreamTables MakeStreamTables(size_t bits) {
  StreamTables t;
  for (size_t i = 0; i < 64; ++i) {
    t.gather[i] = static_cast<uint8_t>(i / 8 * bits + (i % 8 < bits ? i % 8 : 0));
    t.shift[i] = static_cast<uint8_t>(i % 8 * bits);
  }
  for (size_t j = 0; j < 8; ++j) {
    const size_t byte = j * bits / 8, shift = j * bits % 8;
    t.spread[2 * j] = static_cast<uint8_t>(byte);
    t.spread[2 * j + 1] = static_cast<uint8_t>(byte + 1);
    t.factor[j] = static_cast<uint16_t>(1u << (8 - shift));
  }
  return t;
}

constexpr StreamTables kStreamTables[9] = {{},
                                           MakeStreamTables(1),
                                           MakeStreamTables(2),
                                           MakeStreamTables(3),
                                           MakeStreamTables(4),
                                           MakeStreamTables(5),
                                           MakeStreamTables(6),
                                           MakeStreamTables(7),
                                           MakeStreamTables(8)};

// 8 codes from 16 readable bytes.
HWY_INLINE void StreamCodes8(const uint8_t* from, const StreamTables& t, uint8_t mask, uint8_t* to) {
  const Bytes16 d;
  const hn::Full128<uint16_t> d16;
  const hn::Full128<int16_t> di16;
  const hn::Full64<uint8_t> d8;
  const auto spread = hn::TableLookupBytes(hn::LoadU(d, from), hn::Load(d, t.spread));
  // x * 2^(8 - s) keeps bits s.. of x at 8..: the low 16 bits of the product are enough.
  const auto shifted = hn::ShiftRight<8>(hn::Mul(hn::BitCast(d16, spread), hn::Load(d16, t.factor)));
  const auto codes = hn::And(shifted, hn::Set(d16, mask));
  hn::StoreU(hn::DemoteTo(d8, hn::BitCast(di16, codes)), d8, to);
}

inline void StreamCodes(const uint8_t* row, const uint8_t* end, size_t cols, size_t bits, uint8_t* HWY_RESTRICT out) {
  const uint8_t mask = static_cast<uint8_t>((1u << bits) - 1);
  const size_t full = cols / 8 * 8;
  const StreamTables& tables = kStreamTables[bits];
  size_t j = 0;
#if HWY_ARCH_X86 && HWY_TARGET <= HWY_AVX3_DL
  {  // VBMI: bytes of 8 codes into each 64-bit lane, then each code shifted out of its lane in one instruction.
    const __m512i from = _mm512_load_si512(tables.gather), by = _mm512_load_si512(tables.shift),
                  keep = _mm512_set1_epi8(static_cast<char>(mask));
    const __mmask64 readable = bits == 8 ? ~__mmask64{0} : (__mmask64{1} << (8 * bits)) - 1;
    for (; j + 64 <= full; j += 64) {
      const __m512i bytes = _mm512_maskz_loadu_epi8(readable, row + j / 8 * bits);
      const __m512i codes = _mm512_multishift_epi64_epi8(by, _mm512_permutexvar_epi8(from, bytes));
      _mm512_storeu_si512(out + j, _mm512_and_si512(codes, keep));
    }
    if (const size_t rest = (full - j) / 8) {  // up to 56 codes, whole groups of 8; at most the bytes that hold them
      const __mmask64 mask_in = (__mmask64{1} << (rest * bits)) - 1, mask_out = (__mmask64{1} << (rest * 8)) - 1;
      const __m512i bytes = _mm512_maskz_loadu_epi8(mask_in, row + j / 8 * bits);
      const __m512i codes = _mm512_multishift_epi64_epi8(by, _mm512_permutexvar_epi8(from, bytes));
      _mm512_mask_storeu_epi8(out + j, mask_out, _mm512_and_si512(codes, keep));
      j = full;
    }
  }
#endif
  for (; j < full && row + j / 8 * bits + 16 <= end; j += 8) StreamCodes8(row + j / 8 * bits, tables, mask, out + j);
  for (; j < full; j += 8) {  // fewer than 16 bytes are left of the part
    uint8_t bytes[16] = {};
    std::memcpy(bytes, row + j / 8 * bits, bits);
    StreamCodes8(bytes, tables, mask, out + j);
  }
  for (; j < cols; ++j) {
    const size_t at = j * bits;
    uint32_t value = row[at / 8];
    if (at % 8 + bits > 8) value |= static_cast<uint32_t>(row[at / 8 + 1]) << 8;
    out[j] = static_cast<uint8_t>(value >> (at % 8)) & mask;
  }
  if (const size_t end_of_row = padded(cols); end_of_row > cols) std::memset(out + cols, 0, end_of_row - cols);
}

// ---- N:M signs ----

// Up to 32 bits from bit `position` of a row on; reads nothing at or past `end`.
HWY_INLINE uint32_t BitsAt(const uint8_t* row, const uint8_t* end, size_t position, uint32_t bits) {
  const uint8_t* at = row + position / 8;
  uint64_t word = 0;
  if (HWY_LIKELY(at + 8 <= end))
    std::memcpy(&word, at, 8);
  else if (at < end)
    std::memcpy(&word, at, static_cast<size_t>(end - at));
  return static_cast<uint32_t>((word >> (position % 8)) & ((uint64_t{1} << bits) - 1));
}

// The mask and, on the kept places, the positive signs of one group of `size` inputs that keeps n.
struct NmGroup {
  uint32_t mask, up;
};
HWY_INLINE NmGroup UnpackNmGroup(const StoredMatrix& m, uint32_t number, uint32_t sign, uint32_t n, uint32_t size) {
  NmGroup group{m.masks && size == m.of ? m.masks[number] : enumerative_unrank(number, n, size), 0};
  for (uint32_t left = group.mask; left != 0; left &= left - 1, sign >>= 1)
    group.up |= (left & (0u - left)) & (0u - (sign & 1));
  return group;
}

// visit(j, plus, minus): bits of the weights j .. j + 63 that are +1 and -1, for j = 0, 64, ...; zero past cols.
template <class Visit>
HWY_INLINE void NmPlanes(const StoredMatrix& m, size_t stored, const Visit& visit) {
  const uint8_t* row = m.codes + stored * m.row_bytes;
  const uint8_t* signs = m.signs + stored * m.signs_row_bytes;
  const uint32_t full_bits = enumerative_bits(m.kept, m.of);
  uint64_t plus = 0, minus = 0;
  size_t position = 0, sign_position = 0, filled = 0, begin = 0;
  for (size_t j = 0; j < m.cols; j += m.of) {
    uint32_t size = m.of, n = m.kept, bits = full_bits;
    if (HWY_UNLIKELY(m.cols - j < size)) {
      size = static_cast<uint32_t>(m.cols - j);
      n = (n * size + m.of - 1) / m.of;
      bits = enumerative_bits(n, size);
    }
    const auto [mask, up] = UnpackNmGroup(m, BitsAt(row, m.codes_end, position, bits),
                                          BitsAt(signs, m.signs_end, sign_position, n), n, size);
    const uint64_t down = mask & ~up;
    position += bits;
    sign_position += n;
    plus |= uint64_t{up} << filled;
    minus |= down << filled;
    filled += size;
    if (filled < 64) continue;
    visit(begin, plus, minus);
    begin += 64;
    filled -= 64;  // bits of this group that belong to the next word
    plus = filled == 0 ? 0 : uint64_t{up} >> (size - filled);
    minus = filled == 0 ? 0 : down >> (size - filled);
  }
  if (filled > 0) visit(begin, plus, minus);
}

inline void NmSignCodes(const StoredMatrix& m, size_t stored, uint8_t* HWY_RESTRICT out) {
  NmPlanes(m, stored, [&](size_t begin, uint64_t plus, uint64_t minus) {
    const size_t count = HWY_MIN(size_t{64}, m.cols - begin);
    for (size_t k = 0; k < count; ++k)
      out[begin + k] = static_cast<uint8_t>(1 + ((plus >> k) & 1) - ((minus >> k) & 1));
  });
  if (const size_t end = padded(m.cols); end > m.cols) std::memset(out + m.cols, 0, end - m.cols);
}

inline void RowCodes(const StoredMatrix& m, size_t stored, uint8_t* HWY_RESTRICT out) {
  const uint8_t* row = m.codes + stored * m.row_bytes;
  switch (m.storage) {
    case Storage::grid:
      return StreamCodes(row, m.codes_end, m.cols, m.bits, out);
    case Storage::nm_sign:
      return NmSignCodes(m, stored, out);
    default:
      return GgmlCodes(m, row, out);
  }
}

// ---- parameters of a row, one per group ----

// to[i] = super / top * code of n codes of `bits` bits; two's complement when kSigned. `bytes`: scratch.
template <bool kSigned>
HWY_INLINE void CodedParameters(const uint8_t* row, const uint8_t* end, size_t n, size_t bits, float super,
                                uint8_t* bytes, float* HWY_RESTRICT to) {
  if (bits == 8)
    std::memcpy(bytes, row, n);
  else
    StreamCodes(row, end, n, bits, bytes);
  const int32_t sign = kSigned ? 1 << (bits - 1) : 0;
  const float top = static_cast<float>((1 << (bits - (kSigned ? 1 : 0))) - 1);
  const Floats d;
  const Ints di;
  const hn::Rebind<uint8_t, Floats> d8;
  const auto flip = hn::Set(di, sign);
  const float step = super / top;
  const auto by = hn::Set(d, step);
  size_t i = 0;
  for (; i + hn::Lanes(d) <= n; i += hn::Lanes(d)) {
    const auto code = hn::Sub(hn::Xor(hn::PromoteTo(di, hn::LoadU(d8, bytes + i)), flip), flip);
    hn::StoreU(hn::Mul(by, hn::ConvertTo(d, code)), d, to + i);
  }
  for (; i < n; ++i) to[i] = step * static_cast<float>((int32_t{bytes[i]} ^ sign) - sign);
}

inline void GridParameters(const StoredMatrix& m, size_t stored, float* HWY_RESTRICT parameters) {
  const size_t n = m.groups;
  float* scale = parameters;
  float* minimum = parameters + n;
  uint8_t* bytes = reinterpret_cast<uint8_t*>(parameters + 2 * n);
  const uint8_t* scales = m.scales + stored * m.parameter_row_bytes;
  if (m.parameter_bits == 16) {
    Halves(scales, n, scale);
    if (m.zero == Zero::minimum) Halves(m.minima + stored * m.parameter_row_bytes, n, minimum);
  } else {
    const uint8_t* super = m.row_scales + stored * m.row_scales_bytes;
    CodedParameters<false>(scales, m.scales_end, n, m.parameter_bits, half_to_float(Load16(super)), bytes, scale);
    if (m.zero == Zero::minimum)
      CodedParameters<true>(m.minima + stored * m.parameter_row_bytes, m.minima_end, n, m.parameter_bits,
                            half_to_float(Load16(super + 2)), bytes, minimum);
  }
  if (m.zero == Zero::integer) {
    StreamCodes(m.zeros + stored * m.zeros_row_bytes, m.zeros_end, n, m.bits, bytes);
    for (size_t i = 0; i < n; ++i) minimum[i] = -static_cast<float>(bytes[i]) * scale[i];
  } else if (m.zero == Zero::symmetric) {
    const float centre = static_cast<float>((1u << m.bits) - 1) / 2;
    for (size_t i = 0; i < n; ++i) minimum[i] = -centre * scale[i];
  }
}

// parameters: scale[groups], then minimum[groups] (only when has_minimum), then scratch
inline void RowParameters(const StoredMatrix& m, size_t stored, float* HWY_RESTRICT parameters) {
  const uint8_t* row = m.codes + stored * m.row_bytes;
  switch (m.storage) {
    case Storage::grid:
      return GridParameters(m, stored, parameters);
    case Storage::nm_sign:
      parameters[0] = half_to_float(Load16(m.scales + 2 * stored));
      return;
    default:
      return GgmlParameters(m, row, parameters);
  }
}

// ---- floats ----

// out[begin, end) = scale * (code - offset) + minimum; writes up to a register past `end`.
HWY_INLINE void AffineSpan(const uint8_t* codes, size_t begin, size_t end, int32_t offset, float scale, float minimum,
                           float* HWY_RESTRICT out) {
  const Floats d;
  const Ints di;
  const hn::Rebind<uint8_t, Floats> d8;
  const auto s = hn::Set(d, scale), m = hn::Set(d, minimum);
  const auto o = hn::Set(di, offset);
  for (size_t j = begin; j < end; j += hn::Lanes(d)) {
    const auto q = hn::ConvertTo(d, hn::Sub(hn::PromoteTo(di, hn::LoadU(d8, codes + j)), o));
    hn::StoreU(hn::MulAdd(q, s, m), d, out + j);
  }
}

// `out` has room for padded(cols) + 16 floats and is zero past cols; `codes`, `parameters` are scratch.
inline void DequantizeStored(const StoredMatrix& m, size_t stored, uint8_t* codes, float* parameters,
                             float* HWY_RESTRICT out) {
  const Floats d;
  const size_t N = hn::Lanes(d);
  const uint8_t* row = m.codes + stored * m.row_bytes;
  size_t j = 0;
  switch (m.storage) {
    case Storage::f32:
      std::memcpy(out, row, m.cols * sizeof(float));
      break;
    case Storage::f16: {
      const hn::Rebind<uint16_t, Floats> du;
      for (; j + N <= m.cols; j += N)
        hn::StoreU(FloatsOfHalves(d, hn::LoadU(du, reinterpret_cast<const uint16_t*>(row) + j)), d, out + j);
      for (; j < m.cols; ++j) out[j] = half_to_float(Load16(row + 2 * j));
      break;
    }
    case Storage::bf16: {
      const hn::RebindToUnsigned<Floats> du32;
      const hn::Rebind<uint16_t, Floats> du;
      for (; j + N <= m.cols; j += N) {
        const auto wide = hn::PromoteTo(du32, hn::LoadU(du, reinterpret_cast<const uint16_t*>(row) + j));
        hn::StoreU(hn::BitCast(d, hn::ShiftLeft<16>(wide)), d, out + j);
      }
      for (; j < m.cols; ++j) out[j] = bfloat16_to_float(Load16(row + 2 * j));
      break;
    }
    case Storage::decoded:
      m.decode(m.tensor, stored, out);
      break;
    default: {
      RowCodes(m, stored, codes);
      const size_t groups = m.groups;
      float* minimum = parameters + groups;
      RowParameters(m, stored, parameters);
      for (size_t g = 0; g < groups; ++g)
        AffineSpan(codes, g * m.group, HWY_MIN(m.cols, (g + 1) * m.group), m.offset, parameters[g],
                   m.has_minimum ? minimum[g] : 0.0f, out);
    }
  }
  for (j = m.cols; j < padded(m.cols); ++j) out[j] = 0.0f;
}

// out[k][kPanel] from 4-byte elements rows[kPanel][stride], k a multiple of 4. 4 x 4 elements at a time.
inline void Transpose(const uint32_t* HWY_RESTRICT rows, size_t stride, size_t k, uint32_t* HWY_RESTRICT out) {
  const hn::Full128<uint32_t> d;
  const hn::Full128<uint64_t> d64;
  for (size_t r = 0; r < kPanel; r += 4) {
    const uint32_t* from = rows + r * stride;
    for (size_t j = 0; j < k; j += 4) {
      const auto a = hn::LoadU(d, from + j), b = hn::LoadU(d, from + stride + j);
      const auto c = hn::LoadU(d, from + 2 * stride + j), e = hn::LoadU(d, from + 3 * stride + j);
      const auto ab0 = hn::BitCast(d64, hn::InterleaveLower(d, a, b)),
                 ab1 = hn::BitCast(d64, hn::InterleaveUpper(d, a, b));
      const auto ce0 = hn::BitCast(d64, hn::InterleaveLower(d, c, e)),
                 ce1 = hn::BitCast(d64, hn::InterleaveUpper(d, c, e));
      uint32_t* to = out + j * kPanel + r;
      hn::StoreU(hn::BitCast(d, hn::InterleaveLower(d64, ab0, ce0)), d, to);
      hn::StoreU(hn::BitCast(d, hn::InterleaveUpper(d64, ab0, ce0)), d, to + kPanel);
      hn::StoreU(hn::BitCast(d, hn::InterleaveLower(d64, ab1, ce1)), d, to + 2 * kPanel);
      hn::StoreU(hn::BitCast(d, hn::InterleaveUpper(d64, ab1, ce1)), d, to + 3 * kPanel);
    }
  }
}

inline void dequantize_row(const StoredMatrix& m, size_t row, const RowScratch& scratch, float* out) noexcept {
  DequantizeStored(m, m.stored_row(row), scratch.codes, scratch.parameters, scratch.floats);
  std::memcpy(out, scratch.floats, m.cols * sizeof(float));
}

inline void float_panel(const StoredMatrix& m, size_t row, size_t count, const RowScratch& scratch,
                        float* panel) noexcept {
  // An odd number of cache lines between rows, so that 32 rows do not fall into the same sets of the cache.
  const size_t k = padded(m.cols), stride = k + 16;
  for (size_t r = 0; r < count; ++r)
    DequantizeStored(m, m.stored_row(row + r), scratch.codes, scratch.parameters, scratch.floats + r * stride);
  for (size_t r = count; r < kPanel; ++r) std::memset(scratch.floats + r * stride, 0, k * sizeof(float));
  Transpose(reinterpret_cast<const uint32_t*>(scratch.floats), stride, k, reinterpret_cast<uint32_t*>(panel));
}

inline void code_panel(const StoredMatrix& m, size_t row, size_t count, size_t block, const RowScratch& scratch,
                       const CodePanel& panel) noexcept {
  const size_t k = padded(m.cols), stride = k + 64, blocks = k / block, groups = m.groups, per_group = m.group / block;
  float* scale = scratch.parameters;
  float* minimum = scale + groups;
  for (size_t r = 0; r < kPanel; ++r) {
    if (r >= count) {
      std::memset(scratch.codes + r * stride, 0, k);
      for (size_t b = 0; b < blocks; ++b) panel.scales[b * kPanel + r] = 0.0f;
      if (m.has_minimum)
        for (size_t b = 0; b < blocks; ++b) panel.minima[b * kPanel + r] = 0.0f;
      continue;
    }
    const size_t stored = m.stored_row(row + r);
    RowCodes(m, stored, scratch.codes + r * stride);
    RowParameters(m, stored, scale);
    for (size_t b = 0; b < blocks; ++b) {
      const size_t g =
          HWY_MIN(b / per_group, groups - 1);  // padding may lie past the last group; its activations are zero
      panel.scales[b * kPanel + r] = scale[g];
      if (m.has_minimum) panel.minima[b * kPanel + r] = minimum[g];
    }
  }
  Transpose(reinterpret_cast<const uint32_t*>(scratch.codes), stride / 4, k / 4,
            reinterpret_cast<uint32_t*>(panel.codes));
}

inline void fill_codes(Kernels& kernels) {
  kernels.dequantize_row = dequantize_row;
  kernels.float_panel = float_panel;
  kernels.code_panel = code_panel;
}

}  // namespace whit::cpu::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();
#endif
