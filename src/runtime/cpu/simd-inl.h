// Shared by the kernel bodies, once per level: tags and the 4-element integer dot product.
#if defined(WHIT_RUNTIME_CPU_SIMD_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef WHIT_RUNTIME_CPU_SIMD_INL_H_
#undef WHIT_RUNTIME_CPU_SIMD_INL_H_
#else
#define WHIT_RUNTIME_CPU_SIMD_INL_H_
#endif

#include "runtime/cpu/skip_targets.h"
// after skip_targets.h
#include <hwy/highway.h>

#include <cstring>

#include "runtime/cpu/kernels.h"

HWY_BEFORE_NAMESPACE();
namespace whit::cpu::HWY_NAMESPACE {
namespace hn = hwy::HWY_NAMESPACE;

// At most 16 floats a register, so that two registers never exceed a panel.
using Floats = hn::CappedTag<float, 16>;
using Ints = hn::RebindToSigned<Floats>;
// At most 32 bytes: one activation block of 32.
using Bytes32 = hn::CappedTag<uint8_t, 32>;
using Bytes16 = hn::Full128<uint8_t>;

// Halves, as their 16 bits, to floats. Below AVX2 Highway takes the exponent of infinities and NaN for an ordinary one:
// 65,536 in place of infinity, so damaged weights would go unseen there.
template <class D, class Halves>
HWY_INLINE hn::Vec<D> FloatsOfHalves(D d, Halves halves) {
#if HWY_TARGET == HWY_EMU128 || (HWY_ARCH_X86 && HWY_TARGET >= HWY_SSE4)
  const hn::RebindToUnsigned<D> du;
  const auto bits = hn::PromoteTo(du, halves);
  const auto magnitude = hn::ShiftLeft<13>(hn::And(bits, hn::Set(du, 0x7fffu)));
  const auto sign = hn::ShiftLeft<16>(hn::And(bits, hn::Set(du, 0x8000u)));
  // As half_to_float has it: 2^112 moves the exponent, exactly.
  const auto finite = hn::BitCast(du, hn::Mul(hn::BitCast(d, magnitude), hn::Set(d, 0x1p112f)));
  const auto other = hn::Or(magnitude, hn::Set(du, 0x7f800000u));
  const hn::RebindToSigned<D> di;  // magnitudes are below 2^31
  const auto beyond = hn::Gt(hn::BitCast(di, magnitude), hn::Set(di, (0x7c00 << 13) - 1));
  return hn::BitCast(d, hn::Or(sign, hn::IfThenElse(hn::RebindMask(du, beyond), other, finite)));
#else
  return hn::PromoteTo(d, hn::BitCast(hn::Rebind<hwy::float16_t, D>(), halves));
#endif
}

#undef WHIT_HAS_VNNI
#if HWY_ARCH_X86 && HWY_TARGET <= HWY_AVX3_DL
#define WHIT_HAS_VNNI 1
#else
#define WHIT_HAS_VNNI 0
#endif

// acc[i] + sum over the four bytes of lane i of u * s, exactly. kWide: u may exceed 127.
#if HWY_ARCH_X86 && HWY_TARGET <= HWY_SSE4

#if HWY_TARGET <= HWY_AVX3_DL
// Written as assembly, because Highway 1.0.3 compiles this level with avxvnni where avx512vnni is meant: the intrinsic
// is refused for 512 bits, and for 256 bits would become the VEX form, which machines with AVX-512 VNNI alone do not
// have.
template <bool kWide, class Raw>
HWY_INLINE Raw Dot4Raw(Raw acc, Raw u, Raw s) {
  asm("%{evex%} vpdpbusd %2, %1, %0" : "+v"(acc) : "v"(u), "vm"(s));
  return acc;
}
#else
// maddubs sums two products in 16 bits with saturation: 127 * 127 * 2 fits, 255 * 127 * 2 does not, so wide codes go in
// two parts, the low seven bits and the top one (128 * 127 * 2 = 32512 fits).
#if HWY_TARGET <= HWY_AVX3
template <bool kWide>
HWY_INLINE __m512i Dot4Raw(__m512i acc, __m512i u, __m512i s) {
  const __m512i ones = _mm512_set1_epi16(1);
  if constexpr (kWide) {
    const __m512i top = _mm512_set1_epi8(static_cast<char>(0x80));
    acc = _mm512_add_epi32(acc, _mm512_madd_epi16(_mm512_maddubs_epi16(_mm512_and_si512(u, top), s), ones));
    u = _mm512_andnot_si512(top, u);
  }
  return _mm512_add_epi32(acc, _mm512_madd_epi16(_mm512_maddubs_epi16(u, s), ones));
}
#endif
#if HWY_TARGET <= HWY_AVX2
template <bool kWide>
HWY_INLINE __m256i Dot4Raw(__m256i acc, __m256i u, __m256i s) {
  const __m256i ones = _mm256_set1_epi16(1);
  if constexpr (kWide) {
    const __m256i top = _mm256_set1_epi8(static_cast<char>(0x80));
    acc = _mm256_add_epi32(acc, _mm256_madd_epi16(_mm256_maddubs_epi16(_mm256_and_si256(u, top), s), ones));
    u = _mm256_andnot_si256(top, u);
  }
  return _mm256_add_epi32(acc, _mm256_madd_epi16(_mm256_maddubs_epi16(u, s), ones));
}
#endif
template <bool kWide>
HWY_INLINE __m128i Dot4Raw(__m128i acc, __m128i u, __m128i s) {
  const __m128i ones = _mm_set1_epi16(1);
  if constexpr (kWide) {
    const __m128i top = _mm_set1_epi8(static_cast<char>(0x80));
    acc = _mm_add_epi32(acc, _mm_madd_epi16(_mm_maddubs_epi16(_mm_and_si128(u, top), s), ones));
    u = _mm_andnot_si128(top, u);
  }
  return _mm_add_epi32(acc, _mm_madd_epi16(_mm_maddubs_epi16(u, s), ones));
}
#endif
template <bool kWide, class D, class VI, class VU, class VS>
HWY_INLINE VI Dot4(D, VI acc, VU u, VS s) {
  return VI{Dot4Raw<kWide>(acc.raw, u.raw, s.raw)};
}

#else

template <bool kWide, class D, class VI, class VU, class VS>
HWY_INLINE VI Dot4(D d, VI acc, VU u, VS s) {
  const hn::RebindToUnsigned<D> du;
  const auto codes = hn::BitCast(du, u);
  const auto activations = hn::BitCast(d, s);
  const auto byte = hn::Set(du, 0xffu);
  acc = hn::Add(acc, hn::Mul(hn::BitCast(d, hn::And(codes, byte)), hn::ShiftRight<24>(hn::ShiftLeft<24>(activations))));
  acc = hn::Add(acc, hn::Mul(hn::BitCast(d, hn::And(hn::ShiftRight<8>(codes), byte)),
                             hn::ShiftRight<24>(hn::ShiftLeft<16>(activations))));
  acc = hn::Add(acc, hn::Mul(hn::BitCast(d, hn::And(hn::ShiftRight<16>(codes), byte)),
                             hn::ShiftRight<24>(hn::ShiftLeft<8>(activations))));
  return hn::Add(acc, hn::Mul(hn::BitCast(d, hn::ShiftRight<24>(codes)), hn::ShiftRight<24>(activations)));
}

#endif

}  // namespace whit::cpu::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();
#endif
