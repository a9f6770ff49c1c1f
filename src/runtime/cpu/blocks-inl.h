// Rows of ggml's block types times one token of 8-bit activations, in registers of 32 bytes: no codes or parameters of
// a row pass through memory. With floats the same is slower than unpacking a row and walking it (by 1.4 to 2 times on
// an Intel with AVX-512, by 1.4 times with AVX2), so there is no such kernel.
#if defined(WHIT_RUNTIME_CPU_BLOCKS_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef WHIT_RUNTIME_CPU_BLOCKS_INL_H_
#undef WHIT_RUNTIME_CPU_BLOCKS_INL_H_
#else
#define WHIT_RUNTIME_CPU_BLOCKS_INL_H_
#endif

#include <utility>

#include "runtime/cpu/ggml-inl.h"

HWY_BEFORE_NAMESPACE();
namespace whit::cpu::HWY_NAMESPACE {

#if HWY_MAX_BYTES >= 32 && HWY_ARCH_X86

using Eight = hn::CappedTag<float, 8>;
using EightInts = hn::RebindToSigned<Eight>;

HWY_INLINE hn::Vec<Bytes32> Nibbles(hn::Vec<Bytes32> v) { return hn::And(v, hn::Set(Bytes32(), uint8_t{15})); }
// `value` where all bits of `mask` are set in v, else 0.
HWY_INLINE hn::Vec<Bytes32> WhereBits(hn::Vec<Bytes32> v, hn::Vec<Bytes32> mask, uint8_t value) {
  return hn::IfThenElseZero(hn::Eq(hn::And(v, mask), mask), hn::Set(Bytes32(), value));
}

// ---- blocks of 32 weights ----

struct Block32 {
  size_t bytes, codes;  // where the codes begin
  bool minimum;         // false: codes are shifted
};
constexpr Block32 block32(Storage storage) {
  switch (storage) {
    case Storage::q8_0:
      return {34, 2, false};
    case Storage::q4_0:
      return {18, 2, false};
    case Storage::q4_1:
      return {20, 4, true};
    case Storage::q5_0:
      return {22, 6, false};
    default:
      return {24, 8, true};  // q5_1
  }
}

// The block's 32 unsigned codes in order.
template <Storage kStorage>
HWY_INLINE hn::Vec<Bytes32> BlockCodes(const uint8_t* block) {
  const Bytes32 d;
  const Bytes16 half;
  const uint8_t* from = block + block32(kStorage).codes;
  if constexpr (kStorage == Storage::q8_0) {
    return hn::Xor(hn::LoadU(d, from), hn::Set(d, uint8_t{128}));
  } else {
    const auto pairs = hn::LoadU(half, from);
    const hn::Repartition<uint16_t, Bytes16> wide;
    const auto high = hn::BitCast(half, hn::ShiftRight<4>(hn::BitCast(wide, pairs)));
    auto codes = Nibbles(hn::Combine(d, high, pairs));
    if constexpr (kStorage == Storage::q5_0 ||
                  kStorage == Storage::q5_1) {  // bit j of the word before is the fifth of code j
      alignas(32) static constexpr uint8_t kByte[32] = {0, 0, 0, 0, 0, 0, 0, 0, 1, 1, 1, 1, 1, 1, 1, 1,
                                                        2, 2, 2, 2, 2, 2, 2, 2, 3, 3, 3, 3, 3, 3, 3, 3};
      alignas(32) static constexpr uint8_t kBit[32] = {1, 2, 4, 8, 16, 32, 64, 128, 1, 2, 4, 8, 16, 32, 64, 128,
                                                       1, 2, 4, 8, 16, 32, 64, 128, 1, 2, 4, 8, 16, 32, 64, 128};
      const auto word = hn::BitCast(d, hn::Set(hn::Repartition<uint32_t, Bytes32>(), Load32(from - 4)));
      codes = hn::Or(codes, WhereBits(hn::TableLookupBytes(word, hn::Load(d, kByte)), hn::Load(d, kBit), 16));
    }
    return codes;
  }
}

// A half in all lanes. Types with minima have scale and minimum side by side: even lanes the scale, odd ones the
// minimum.
template <Storage kStorage>
HWY_INLINE hn::Vec<Eight> BlockHalves(const uint8_t* block) {
  const Eight d;
  const hn::Rebind<uint16_t, Eight> dh;
  if constexpr (block32(kStorage).minimum)
    return FloatsOfHalves(d, hn::BitCast(dh, hn::Set(hn::Repartition<uint32_t, decltype(dh)>(), Load32(block))));
  else
    return FloatsOfHalves(d, hn::Set(dh, Load16(block)));
}

template <Storage kStorage, bool kWide>
HWY_INLINE void BlockRows(const StoredMatrix& m, size_t begin, size_t end, const QuantizedRows& x, size_t which,
                          float* HWY_RESTRICT out) {
  constexpr Block32 kBlock = block32(kStorage);
  const Eight d;
  const EightInts di;
  const hn::RebindToSigned<Bytes32> ds8;
  const size_t blocks = x.blocks(), k = padded(x.cols);
  const int8_t* HWY_RESTRICT codes = x.codes + which * k;
  const int32_t* HWY_RESTRICT starts = x.lane_starts + which * (k / 4);
  const float* HWY_RESTRICT scales = x.scales + which * blocks;
  const float* HWY_RESTRICT sums = x.sums + which * blocks;
  for (size_t row = begin; row < end; ++row) {
    const uint8_t* HWY_RESTRICT block = m.codes + m.stored_row(row) * m.row_bytes;
    hn::Vec<Eight> sum[2] = {hn::Zero(d), hn::Zero(d)}, shift = hn::Zero(d);
    const auto step = [&](size_t b, size_t which_sum) HWY_ATTR {
      auto start = hn::Zero(di);
      if constexpr (!kBlock.minimum) start = hn::LoadU(di, starts + 8 * b);
      const auto integer = Dot4<kWide>(di, start, BlockCodes<kStorage>(block), hn::LoadU(ds8, codes + 32 * b));
      auto scale = BlockHalves<kStorage>(block);
      if constexpr (kBlock.minimum) {
        shift = hn::MulAdd(scale, hn::Set(d, sums[b]), shift);  // odd lanes
        scale = hn::DupEven(scale);
      }
      sum[which_sum] = hn::MulAdd(hn::Mul(hn::ConvertTo(d, integer), hn::Set(d, scales[b])), scale, sum[which_sum]);
      block += kBlock.bytes;
    };
    size_t b = 0;
    for (; b + 2 <= blocks; b += 2) {
      step(b, 0);
      step(b + 1, 1);
    }
    if (b < blocks) step(b, 0);
    float result = hn::GetLane(hn::SumOfLanes(d, hn::Add(sum[0], sum[1])));
    if constexpr (kBlock.minimum) result += hn::GetLane(hn::DupOdd(shift));
    out[row - begin] = result;
  }
}

// ---- blocks of 256 weights ----

struct Block256 {
  size_t bytes, group;  // weights that share a scale
  bool minimum;         // false: codes are shifted
};
constexpr Block256 block256(Storage storage) {
  switch (storage) {
    case Storage::q2_k:
      return {84, 16, true};
    case Storage::q3_k:
      return {110, 16, false};
    case Storage::q4_k:
      return {144, 32, true};
    case Storage::q5_k:
      return {176, 32, true};
    default:
      return {210, 16, false};  // q6_k
  }
}

// Codes of weights 32 k .. 32 k + 31 of a block.
template <Storage kStorage, size_t k>
HWY_INLINE hn::Vec<Bytes32> SuperCodes(const uint8_t* block) {
  const Bytes32 d;
  const auto load = [&](size_t at) HWY_ATTR { return hn::LoadU(d, block + at); };
  const auto bit = hn::Set(d, static_cast<uint8_t>(1u << k));
  if constexpr (kStorage == Storage::q4_k || kStorage == Storage::q5_k) {
    const auto pairs = load((kStorage == Storage::q5_k ? 48 : 16) + 32 * (k / 2));
    auto codes = Nibbles(k % 2 == 0 ? pairs : hn::ShiftRight<4>(pairs));
    if constexpr (kStorage == Storage::q5_k) codes = hn::Or(codes, WhereBits(load(16), bit, 16));
    return codes;
  } else {
    constexpr size_t at = (kStorage == Storage::q2_k ? 16 : kStorage == Storage::q3_k ? 32 : 128) + 32 * (k / 4);
    auto codes = hn::And(hn::ShiftRight<2 * (k % 4)>(load(at)), hn::Set(d, uint8_t{3}));
    if constexpr (kStorage == Storage::q3_k) codes = hn::Or(codes, WhereBits(load(0), bit, 4));
    if constexpr (kStorage == Storage::q6_k) {
      const auto pairs = load(64 * (k / 4) + 32 * (k % 2));
      codes = hn::Or(hn::ShiftLeft<4>(codes), Nibbles(k % 4 < 2 ? pairs : hn::ShiftRight<4>(pairs)));
    }
    return codes;
  }
}

template <Storage kStorage>
HWY_INLINE void SuperRows(const StoredMatrix& m, size_t begin, size_t end, const QuantizedRows& x, size_t which,
                          float* HWY_RESTRICT out) {
  constexpr Block256 kBlock = block256(kStorage);
  constexpr size_t groups = 256 / kBlock.group;
  const Eight d;
  const EightInts di;
  const hn::RebindToSigned<Bytes32> ds8;
  const size_t all = x.blocks(), k = padded(x.cols);
  // Lanes of the products of two groups of 16 weights: the first one's four times, the second one's four times.
  const auto spread = [&](int32_t first) HWY_ATTR {
    HWY_ALIGN const int32_t lanes[8] = {first, first, first, first, first + 1, first + 1, first + 1, first + 1};
    return hn::SetTableIndices(d, lanes);
  };
  const decltype(spread(0)) lanes[4] = {spread(0), spread(2), spread(4), spread(6)};
  for (size_t row = begin; row < end; ++row) {
    const uint8_t* HWY_RESTRICT block = m.codes + m.stored_row(row) * m.row_bytes;
    const int8_t* HWY_RESTRICT codes = x.codes + which * k;
    const int32_t* HWY_RESTRICT starts = x.lane_starts + which * (k / 4);
    const float* HWY_RESTRICT scales = x.scales + which * all;
    const float* HWY_RESTRICT sums = x.sums + which * all;
    hn::Vec<Eight> sum[2] = {hn::Zero(d), hn::Zero(d)}, shift = hn::Zero(d);
    for (size_t b = 0; b < m.groups; b += groups, block += kBlock.bytes) {
      HWY_ALIGN float scale[16], minimum[16], product[16];
      BlockParameters<kStorage>(block, scale, minimum);
      HWY_UNROLL(2)
      for (size_t g = 0; g < groups; g += 8) {
        hn::Store(hn::Mul(hn::Load(d, scale + g), hn::LoadU(d, scales + b + g)), d, product + g);
        if constexpr (kBlock.minimum) shift = hn::MulAdd(hn::Load(d, minimum + g), hn::LoadU(d, sums + b + g), shift);
      }
      [&]<size_t... i>(std::index_sequence<i...>) HWY_ATTR {
        const auto step = [&](size_t at, hn::Vec<Bytes32> weights) HWY_ATTR {
          auto start = hn::Zero(di);
          if constexpr (!kBlock.minimum) start = hn::LoadU(di, starts + 8 * at);
          const auto integer = Dot4<false>(di, start, weights, hn::LoadU(ds8, codes + 32 * at));
          const auto by = kBlock.group == 32 ? hn::Set(d, product[at])
                                             : hn::TableLookupLanes(hn::Load(d, product + 8 * (at / 4)), lanes[at % 4]);
          sum[at % 2] = hn::MulAdd(hn::ConvertTo(d, integer), by, sum[at % 2]);
        };
        (step(i, SuperCodes<kStorage, i>(block)), ...);
      }
      (std::make_index_sequence<8>());
      codes += 256;
      starts += 64;
    }
    out[row - begin] = hn::GetLane(hn::SumOfLanes(d, hn::Add(hn::Add(sum[0], sum[1]), shift)));
  }
}

// False: no kernel of this kind for the storage.
HWY_INLINE bool GgmlRows(const StoredMatrix& m, size_t begin, size_t end, const QuantizedRows& x, size_t which,
                         float* out) {
#define WHIT_ROWS(type)               \
  case Storage::type:                 \
    return BlockRows < Storage::type, \
           !WHIT_HAS_VNNI && Storage::type == Storage::q8_0 > (m, begin, end, x, which, out), true;
#define WHIT_SUPER_ROWS(type) \
  case Storage::type:         \
    return SuperRows<Storage::type>(m, begin, end, x, which, out), true;
  switch (m.storage) {
    WHIT_ROWS(q8_0)
    WHIT_ROWS(q4_0)
    WHIT_ROWS(q4_1) WHIT_ROWS(q5_0) WHIT_ROWS(q5_1) WHIT_SUPER_ROWS(q2_k) WHIT_SUPER_ROWS(q3_k) WHIT_SUPER_ROWS(q4_k)
        WHIT_SUPER_ROWS(q5_k) WHIT_SUPER_ROWS(q6_k) default : return false;
  }
#undef WHIT_ROWS
#undef WHIT_SUPER_ROWS
}

#else

HWY_INLINE bool GgmlRows(const StoredMatrix&, size_t, size_t, const QuantizedRows&, size_t, float*) { return false; }

#endif

}  // namespace whit::cpu::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();
#endif
