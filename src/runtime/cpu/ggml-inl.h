// Codes and parameters of a row in the block types of ggml: blocks of 32 weights, and blocks of 256 whose sub-blocks
// have integer scales (format/ggml_blocks.cc and ggml_superblocks.cc have the layouts, bit by bit). As floats the
// weights are those of the plain decoders, bit for bit: products of d, an integer scale and a code are exact.
#if defined(WHIT_RUNTIME_CPU_GGML_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef WHIT_RUNTIME_CPU_GGML_INL_H_
#undef WHIT_RUNTIME_CPU_GGML_INL_H_
#else
#define WHIT_RUNTIME_CPU_GGML_INL_H_
#endif

#include "base/half.h"
#include "runtime/cpu/simd-inl.h"

HWY_BEFORE_NAMESPACE();
namespace whit::cpu::HWY_NAMESPACE {

HWY_INLINE uint16_t Load16(const uint8_t* p) {
  uint16_t v;
  std::memcpy(&v, p, 2);
  return v;
}
HWY_INLINE uint32_t Load32(const uint8_t* p) {
  uint32_t v;
  std::memcpy(&v, p, 4);
  return v;
}

using Sixteen = hn::Vec<Bytes16>;

// ---- codes: out[cols] ----

HWY_INLINE Sixteen LowNibbles(Sixteen v) { return hn::And(v, hn::Set(Bytes16(), uint8_t{15})); }
HWY_INLINE Sixteen HighNibbles(Sixteen v) { return LowNibbles(hn::ShiftRight<4>(v)); }
// `value` where all bits of `mask` are set in v, else 0.
HWY_INLINE Sixteen WhereBit(Sixteen v, Sixteen mask, uint8_t value) {
  const Bytes16 d;
  return hn::IfThenElseZero(hn::Eq(hn::And(v, mask), mask), hn::Set(d, value));
}

// 16 codes of 4 bits in order as their levels: a look-up of bytes.
alignas(16) constexpr uint8_t kUnevenCodes[16] = {1,   24,  45,  63,  79,  93,  106, 118,
                                                  129, 141, 153, 166, 181, 197, 217, 241};  // levels of IQ4 + 128
alignas(16) constexpr uint8_t kFloat4Codes[16] = {16, 17, 18, 19, 20, 22, 24, 28,
                                                  16, 15, 14, 13, 12, 10, 8,  4};  // + 16

// 32 weights in 16 bytes: byte j holds weight j (low) and weight j + 16 (high).
HWY_INLINE void NibbleBlock(const uint8_t* nibbles, uint8_t* HWY_RESTRICT out) {
  const Bytes16 d;
  const auto pairs = hn::LoadU(d, nibbles);
  hn::StoreU(LowNibbles(pairs), d, out);
  hn::StoreU(HighNibbles(pairs), d, out + 16);
}

HWY_INLINE void LevelBlock(const uint8_t* nibbles, const uint8_t* levels, uint8_t* HWY_RESTRICT out) {
  const Bytes16 d;
  const auto pairs = hn::LoadU(d, nibbles), table = hn::Load(d, levels);
  hn::StoreU(hn::TableLookupBytes(table, LowNibbles(pairs)), d, out);
  hn::StoreU(hn::TableLookupBytes(table, HighNibbles(pairs)), d, out + 16);
}

HWY_INLINE void SignedByteBlock(const uint8_t* bytes, uint8_t* HWY_RESTRICT out) {
  const Bytes16 d;
  const auto flip = hn::Set(d, uint8_t{128});
  hn::StoreU(hn::Xor(hn::LoadU(d, bytes), flip), d, out);
  hn::StoreU(hn::Xor(hn::LoadU(d, bytes + 16), flip), d, out + 16);
}

// The fifth bits of 32 codes are a word: bit j of code j.
HWY_INLINE void FiveBitBlock(const uint8_t* high, const uint8_t* nibbles, uint8_t* HWY_RESTRICT out) {
  const Bytes16 d;
  alignas(16) static constexpr uint8_t kByte[16] = {0, 0, 0, 0, 0, 0, 0, 0, 1, 1, 1, 1, 1, 1, 1, 1};
  alignas(16) static constexpr uint8_t kBit[16] = {1, 2, 4, 8, 16, 32, 64, 128, 1, 2, 4, 8, 16, 32, 64, 128};
  NibbleBlock(nibbles, out);
  for (size_t half = 0; half < 2; ++half) {
    const auto word = hn::BitCast(d, hn::Set(hn::Full128<uint16_t>(), Load16(high + 2 * half)));
    const auto fifth = WhereBit(hn::TableLookupBytes(word, hn::Load(d, kByte)), hn::Load(d, kBit), 16);
    hn::StoreU(hn::Or(hn::LoadU(d, out + 16 * half), fifth), d, out + 16 * half);
  }
}

// Nibbles of 256 weights, 64 in each 32 bytes (weights l and l + 32 in byte l); `high` (null: none) has the fifth bits
// of weights l, l + 32, ... in byte l.
HWY_INLINE void NibbleSuperBlock(const uint8_t* nibbles, const uint8_t* high, uint8_t* HWY_RESTRICT out) {
  const Bytes16 d;
  for (size_t part = 0; part < 4; ++part)
    for (size_t l = 0; l < 32; l += 16) {
      const auto pairs = hn::LoadU(d, nibbles + 32 * part + l);
      auto low = LowNibbles(pairs), up = HighNibbles(pairs);
      if (high) {
        const auto bits = hn::LoadU(d, high + l);
        low = hn::Or(low, WhereBit(bits, hn::Set(d, static_cast<uint8_t>(1u << (2 * part))), 16));
        up = hn::Or(up, WhereBit(bits, hn::Set(d, static_cast<uint8_t>(2u << (2 * part))), 16));
      }
      hn::StoreU(low, d, out + 64 * part + l);
      hn::StoreU(up, d, out + 64 * part + 32 + l);
    }
}

// Pairs of bits of 256 weights, 128 in each 32 bytes (weights l, l + 32, l + 64, l + 96 in byte l); `high` (null: none)
// has the third bits of weights l, l + 32, ... in byte l.
HWY_INLINE void PairSuperBlock(const uint8_t* pairs, const uint8_t* high, uint8_t* HWY_RESTRICT out) {
  const Bytes16 d;
  const auto three = hn::Set(d, uint8_t{3});
  for (size_t half = 0; half < 2; ++half)
    for (size_t l = 0; l < 32; l += 16) {
      auto four = hn::LoadU(d, pairs + 32 * half + l);
      for (size_t g = 0; g < 4; ++g, four = hn::ShiftRight<2>(four)) {
        auto code = hn::And(four, three);
        if (high)
          code =
              hn::Or(code, WhereBit(hn::LoadU(d, high + l), hn::Set(d, static_cast<uint8_t>(1u << (4 * half + g))), 4));
        hn::StoreU(code, d, out + 128 * half + 32 * g + l);
      }
    }
}

// 256 weights of 6 bits: of each 128 the low four bits in 64 bytes (l and l + 64 in byte l), the high two as pairs.
HWY_INLINE void SixBitSuperBlock(const uint8_t* low, const uint8_t* high, uint8_t* HWY_RESTRICT out) {
  const Bytes16 d;
  PairSuperBlock(high, nullptr, out);
  for (size_t half = 0; half < 2; ++half)
    for (size_t l = 0; l < 64; l += 16) {
      const auto nibbles = hn::LoadU(d, low + 64 * half + l);
      uint8_t* HWY_RESTRICT to = out + 128 * half + l;
      hn::StoreU(hn::Or(hn::ShiftLeft<4>(hn::LoadU(d, to)), LowNibbles(nibbles)), d, to);
      hn::StoreU(hn::Or(hn::ShiftLeft<4>(hn::LoadU(d, to + 64)), HighNibbles(nibbles)), d, to + 64);
    }
}

inline void GgmlCodes(const StoredMatrix& m, const uint8_t* row, uint8_t* HWY_RESTRICT out) {
  const size_t block = m.block_weights, blocks = m.cols / block;
  const auto each = [&](const auto& body) HWY_ATTR {
    for (size_t b = 0; b < blocks; ++b) body(row + b * m.block_bytes, out + b * block);
  };
  switch (m.storage) {
    case Storage::q8_0:
      return each([](const uint8_t* b, uint8_t* to) HWY_ATTR { SignedByteBlock(b + 2, to); });
    case Storage::q4_0:
      return each([](const uint8_t* b, uint8_t* to) HWY_ATTR { NibbleBlock(b + 2, to); });
    case Storage::q4_1:
      return each([](const uint8_t* b, uint8_t* to) HWY_ATTR { NibbleBlock(b + 4, to); });
    case Storage::q5_0:
      return each([](const uint8_t* b, uint8_t* to) HWY_ATTR { FiveBitBlock(b + 2, b + 6, to); });
    case Storage::q5_1:
      return each([](const uint8_t* b, uint8_t* to) HWY_ATTR { FiveBitBlock(b + 4, b + 8, to); });
    case Storage::q2_k:
      return each([](const uint8_t* b, uint8_t* to) HWY_ATTR { PairSuperBlock(b + 16, nullptr, to); });
    case Storage::q3_k:
      return each([](const uint8_t* b, uint8_t* to) HWY_ATTR { PairSuperBlock(b + 32, b, to); });
    case Storage::q4_k:
      return each([](const uint8_t* b, uint8_t* to) HWY_ATTR { NibbleSuperBlock(b + 16, nullptr, to); });
    case Storage::q5_k:
      return each([](const uint8_t* b, uint8_t* to) HWY_ATTR { NibbleSuperBlock(b + 48, b + 16, to); });
    case Storage::q6_k:
      return each([](const uint8_t* b, uint8_t* to) HWY_ATTR { SixBitSuperBlock(b, b + 128, to); });
    case Storage::iq4_nl:
      return each([](const uint8_t* b, uint8_t* to) HWY_ATTR { LevelBlock(b + 2, kUnevenCodes, to); });
    case Storage::iq4_xs:
      return each([](const uint8_t* b, uint8_t* to) HWY_ATTR {
        for (size_t k = 0; k < 8; ++k) LevelBlock(b + 8 + 16 * k, kUnevenCodes, to + 32 * k);
      });
    case Storage::mxfp4:
      return each([](const uint8_t* b, uint8_t* to) HWY_ATTR { LevelBlock(b + 1, kFloat4Codes, to); });
    case Storage::tq2_0:
      return each([](const uint8_t* b, uint8_t* to) HWY_ATTR { PairSuperBlock(b, nullptr, to); });
    default:
      return;
  }
}

// ---- parameters: scale[groups], then minimum[groups] where the type has minima ----

HWY_INLINE void Halves(const uint8_t* HWY_RESTRICT from, size_t n, float* HWY_RESTRICT to) {
  const hn::CappedTag<float, 8> df;
  const hn::Rebind<uint16_t, decltype(df)> dh;
  const hn::Repartition<uint8_t, decltype(dh)> d8;
  size_t i = 0;
  for (; i + hn::Lanes(df) <= n; i += hn::Lanes(df))
    hn::StoreU(FloatsOfHalves(df, hn::BitCast(dh, hn::LoadU(d8, from + 2 * i))), df, to + i);
  for (; i < n; ++i) to[i] = half_to_float(Load16(from + 2 * i));
}

// Fields of 16 bits at row, row + stride, ... of n blocks.
HWY_INLINE void StridedHalves(const uint8_t* row, size_t stride, size_t n, float* HWY_RESTRICT to) {
  uint16_t buffer[64];
  for (size_t begin = 0; begin < n; begin += 64) {
    const size_t count = HWY_MIN(size_t{64}, n - begin);
    for (size_t i = 0; i < count; ++i) buffer[i] = Load16(row + (begin + i) * stride);
    Halves(reinterpret_cast<const uint8_t*>(buffer), count, to + begin);
  }
}

// to[i] = by * integer[i], n a multiple of 4
template <typename Integer>
HWY_INLINE void ScaledIntegers(const Integer* HWY_RESTRICT integers, size_t n, float by, float* HWY_RESTRICT to) {
  const hn::CappedTag<float, 4> d;
  const hn::RebindToSigned<decltype(d)> di;
  const hn::Rebind<Integer, decltype(d)> d8;
  for (size_t i = 0; i < n; i += hn::Lanes(d))
    hn::StoreU(hn::Mul(hn::ConvertTo(d, hn::PromoteTo(di, hn::LoadU(d8, integers + i))), hn::Set(d, by)), d, to + i);
}

// Eight scales and eight minima of 6 bits in 12 bytes, four at a time: those below 4 in six bits of a byte, of the
// others four bits in the last bytes and two above the first ones.
HWY_INLINE void SixBitParameters(const uint8_t* b, float d, float dmin, float* HWY_RESTRICT scale,
                                 float* HWY_RESTRICT minimum) {
  const uint32_t scales = Load32(b), minima = Load32(b + 4), rest = Load32(b + 8);
  const auto above = [](uint32_t word) { return word >> 2 & 0x30303030u; };
  const uint32_t words[4] = {scales & 0x3f3f3f3fu, (rest & 0x0f0f0f0fu) | above(scales), minima & 0x3f3f3f3fu,
                             (rest >> 4 & 0x0f0f0f0fu) | above(minima)};
  uint8_t bytes[16];
  std::memcpy(bytes, words, 16);
  ScaledIntegers(bytes, 8, d, scale);
  ScaledIntegers(bytes + 8, 8, -dmin, minimum);
}

// Sixteen scales of 6 bits, plus 32, in 12 bytes: low nibbles in eight bytes (k and k + 8), pairs above in four.
HWY_INLINE void SignedSixBitScales(const uint8_t* b, float d, float* HWY_RESTRICT scale) {
  const uint32_t low[2] = {Load32(b), Load32(b + 4)}, high = Load32(b + 8);
  uint32_t words[4];
  for (size_t k = 0; k < 4; ++k)
    words[k] = (low[k % 2] >> (4 * (k / 2)) & 0x0f0f0f0fu) | (high >> (2 * k) & 0x03030303u) << 4;
  uint8_t bytes[16];
  std::memcpy(bytes, words, 16);
  int8_t integers[16];
  for (size_t k = 0; k < 16; ++k) integers[k] = static_cast<int8_t>(bytes[k] - 32);
  ScaledIntegers(integers, 16, d, scale);
}

// Scales, and minima where the type has them, of a block.
template <Storage kStorage>
HWY_INLINE void BlockParameters(const uint8_t* b, float* HWY_RESTRICT scale, float* HWY_RESTRICT minimum) {
  const auto half = [](const uint8_t* at) { return half_to_float(Load16(at)); };
  if constexpr (kStorage == Storage::q2_k) {
    HWY_ALIGN uint8_t integers[32];
    NibbleBlock(b, integers);
    ScaledIntegers(integers, 16, half(b + 80), scale);
    ScaledIntegers(integers + 16, 16, -half(b + 82), minimum);
  } else if constexpr (kStorage == Storage::q3_k) {
    SignedSixBitScales(b + 96, half(b + 108), scale);
  } else if constexpr (kStorage == Storage::q4_k || kStorage == Storage::q5_k) {
    SixBitParameters(b + 4, half(b), half(b + 2), scale, minimum);
  } else if constexpr (kStorage == Storage::q6_k) {
    ScaledIntegers(reinterpret_cast<const int8_t*>(b + 192), 16, half(b + 208), scale);
  } else if constexpr (kStorage == Storage::iq4_xs) {
    const uint32_t low = Load32(b + 4), high = Load16(b + 2);
    int8_t integers[8];
    for (size_t k = 0; k < 8; ++k)
      integers[k] = static_cast<int8_t>(static_cast<int>((low >> (4 * k) & 15) | (high >> (2 * k) & 3) << 4) - 32);
    ScaledIntegers(integers, 8, half(b), scale);
  } else if constexpr (kStorage == Storage::mxfp4) {
    // 2^(e - 127) / 2, since the codes are twice the values; the two smallest are subnormal floats.
    const uint32_t bits = b[0] < 2 ? 0x00200000u << b[0] : (uint32_t{b[0]} - 1) << 23;
    std::memcpy(scale, &bits, 4);
  } else {
    static_assert(kStorage == Storage::tq2_0);
    *scale = half(b + 64);
  }
}

template <Storage kStorage>
HWY_INLINE void RowOfBlocks(const StoredMatrix& m, const uint8_t* row, float* HWY_RESTRICT scale) {
  const size_t blocks = m.cols / m.block_weights, groups = m.groups / blocks;
  for (size_t b = 0; b < blocks; ++b)
    BlockParameters<kStorage>(row + b * m.block_bytes, scale + b * groups, scale + m.groups + b * groups);
}

inline void GgmlParameters(const StoredMatrix& m, const uint8_t* row, float* HWY_RESTRICT scale) {
  switch (m.storage) {
    case Storage::q8_0:
    case Storage::q4_0:
    case Storage::q5_0:
    case Storage::iq4_nl:
      return StridedHalves(row, m.block_bytes, m.groups, scale);
    case Storage::q4_1:
    case Storage::q5_1:
      StridedHalves(row, m.block_bytes, m.groups, scale);
      return StridedHalves(row + 2, m.block_bytes, m.groups, scale + m.groups);
    case Storage::q2_k:
      return RowOfBlocks<Storage::q2_k>(m, row, scale);
    case Storage::q3_k:
      return RowOfBlocks<Storage::q3_k>(m, row, scale);
    case Storage::q4_k:
      return RowOfBlocks<Storage::q4_k>(m, row, scale);
    case Storage::q5_k:
      return RowOfBlocks<Storage::q5_k>(m, row, scale);
    case Storage::q6_k:
      return RowOfBlocks<Storage::q6_k>(m, row, scale);
    case Storage::iq4_xs:
      return RowOfBlocks<Storage::iq4_xs>(m, row, scale);
    case Storage::mxfp4:
      return RowOfBlocks<Storage::mxfp4>(m, row, scale);
    case Storage::tq2_0:
      return RowOfBlocks<Storage::tq2_0>(m, row, scale);
    default:
      return;
  }
}

}  // namespace whit::cpu::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();
#endif
