// Products of activations with weights: tiles of a panel for many tokens, rows for one token.
#if defined(WHIT_RUNTIME_CPU_MATMUL_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef WHIT_RUNTIME_CPU_MATMUL_INL_H_
#undef WHIT_RUNTIME_CPU_MATMUL_INL_H_
#else
#define WHIT_RUNTIME_CPU_MATMUL_INL_H_
#endif

#include "runtime/cpu/blocks-inl.h"
#include "runtime/cpu/signs-inl.h"

HWY_BEFORE_NAMESPACE();
namespace whit::cpu::HWY_NAMESPACE {

// AVX-512 has 32 registers: 2 x 12 accumulators, two of weights and a broadcast fit; elsewhere 16: 2 x 6. Emulated
// registers are memory: small tiles compile fast.
constexpr bool kEmulated = HWY_TARGET == HWY_EMU128;
constexpr size_t kFloatTokens = HWY_MAX_BYTES == 64 ? 12 : kEmulated ? 2 : 6;
constexpr size_t kCodeTokens = HWY_MAX_BYTES == 64 ? 6 : kEmulated ? 1 : 2;

// c[t][0..n) for kTokens tokens and all columns of the panel, two registers of columns at a time.
template <size_t kTokens>
HWY_INLINE void FloatTile(const float* HWY_RESTRICT a, size_t lda, const float* HWY_RESTRICT b, size_t ldb, size_t k,
                          float* HWY_RESTRICT c, size_t ldc, size_t n) {
  const Floats d;
  using V = hn::Vec<Floats>;
  const size_t N = hn::Lanes(d);
  for (size_t column = 0; column < n; column += 2 * N) {
    V left[kTokens], right[kTokens];
    HWY_UNROLL(12)
    for (size_t t = 0; t < kTokens; ++t) left[t] = right[t] = hn::Zero(d);
    const float* HWY_RESTRICT weights = b + column;
    for (size_t j = 0; j < k; ++j, weights += ldb) {
      const V w0 = hn::LoadU(d, weights), w1 = hn::LoadU(d, weights + N);
      HWY_UNROLL(12)
      for (size_t t = 0; t < kTokens; ++t) {
        const V x = hn::Set(d, a[t * lda + j]);
        left[t] = hn::MulAdd(x, w0, left[t]);
        right[t] = hn::MulAdd(x, w1, right[t]);
      }
    }
    if (column + 2 * N <= n) {
      HWY_UNROLL(12)
      for (size_t t = 0; t < kTokens; ++t) {
        hn::StoreU(left[t], d, c + t * ldc + column);
        hn::StoreU(right[t], d, c + t * ldc + column + N);
      }
    } else {
      HWY_ALIGN float rest[2 * 16];
      HWY_UNROLL(12)
      for (size_t t = 0; t < kTokens; ++t) {
        hn::StoreU(left[t], d, rest);
        hn::StoreU(right[t], d, rest + N);
        std::memcpy(c + t * ldc + column, rest, (n - column) * sizeof(float));
      }
    }
  }
}

inline void gemm_f32(const float* a, size_t lda, size_t m, const float* b, size_t ldb, size_t k, float* c, size_t ldc,
                     size_t n) noexcept {
  size_t t = 0;
  for (; t + kFloatTokens <= m; t += kFloatTokens)
    FloatTile<kFloatTokens>(a + t * lda, lda, b, ldb, k, c + t * ldc, ldc, n);
  if constexpr (kFloatTokens == 12)
    for (; t + 6 <= m; t += 6) FloatTile<6>(a + t * lda, lda, b, ldb, k, c + t * ldc, ldc, n);
  if constexpr (kFloatTokens > 3)
    for (; t + 3 <= m; t += 3) FloatTile<3>(a + t * lda, lda, b, ldb, k, c + t * ldc, ldc, n);
  for (; t < m; ++t) FloatTile<1>(a + t * lda, lda, b, ldb, k, c + t * ldc, ldc, n);
}

// Integer sums over one activation block, then scaled into float accumulators. kSteps = block / 4.
template <size_t kTokens, size_t kSteps, bool kWide>
HWY_INLINE void CodeTile(const QuantizedRows& a, size_t first, const CodePanel& panel, bool minimum,
                         float* HWY_RESTRICT c, size_t ldc, size_t n) {
  const Floats d;
  const Ints di;
  const hn::Repartition<uint8_t, Ints> du8;
  const hn::Repartition<int8_t, Ints> ds8;
  using V = hn::Vec<Floats>;
  using VI = hn::Vec<Ints>;
  const size_t N = hn::Lanes(d), blocks = a.blocks(), lda = padded(a.cols);
  const int8_t* HWY_RESTRICT codes = a.codes + first * lda;
  const float* HWY_RESTRICT scales = a.scales + first * blocks;
  const float* HWY_RESTRICT sums = a.sums + first * blocks;
  const int32_t* HWY_RESTRICT starts = a.starts + first * blocks;
  for (size_t column = 0; column < n; column += 2 * N) {
    V left[kTokens], right[kTokens];
    HWY_UNROLL(8)
    for (size_t t = 0; t < kTokens; ++t) left[t] = right[t] = hn::Zero(d);
    const uint8_t* HWY_RESTRICT weights = panel.codes + column * 4;
    for (size_t block = 0; block < blocks; ++block) {
      VI sum0[kTokens], sum1[kTokens];
      HWY_UNROLL(8)
      for (size_t t = 0; t < kTokens; ++t) sum0[t] = sum1[t] = hn::Set(di, starts[t * blocks + block]);
      HWY_UNROLL(8)
      for (size_t step = 0; step < kSteps; ++step, weights += kPanel * 4) {
        const auto w0 = hn::LoadU(du8, weights), w1 = hn::LoadU(du8, weights + 4 * N);
        HWY_UNROLL(8)
        for (size_t t = 0; t < kTokens; ++t) {
          int32_t four;
          std::memcpy(&four, codes + t * lda + (block * kSteps + step) * 4, 4);
          const auto x = hn::BitCast(ds8, hn::Set(di, four));
          sum0[t] = Dot4<kWide>(di, sum0[t], w0, x);
          sum1[t] = Dot4<kWide>(di, sum1[t], w1, x);
        }
      }
      const V s0 = hn::LoadU(d, panel.scales + block * kPanel + column);
      const V s1 = hn::LoadU(d, panel.scales + block * kPanel + column + N);
      HWY_UNROLL(8)
      for (size_t t = 0; t < kTokens; ++t) {
        const V x = hn::Set(d, scales[t * blocks + block]);
        left[t] = hn::MulAdd(hn::Mul(hn::ConvertTo(d, sum0[t]), x), s0, left[t]);
        right[t] = hn::MulAdd(hn::Mul(hn::ConvertTo(d, sum1[t]), x), s1, right[t]);
      }
      if (minimum) {
        const V m0 = hn::LoadU(d, panel.minima + block * kPanel + column);
        const V m1 = hn::LoadU(d, panel.minima + block * kPanel + column + N);
        HWY_UNROLL(8)
        for (size_t t = 0; t < kTokens; ++t) {
          const V x = hn::Set(d, sums[t * blocks + block]);
          left[t] = hn::MulAdd(x, m0, left[t]);
          right[t] = hn::MulAdd(x, m1, right[t]);
        }
      }
    }
    HWY_ALIGN float rest[2 * 16];
    HWY_UNROLL(8)
    for (size_t t = 0; t < kTokens; ++t) {
      if (column + 2 * N <= n) {
        hn::StoreU(left[t], d, c + t * ldc + column);
        hn::StoreU(right[t], d, c + t * ldc + column + N);
      } else {
        hn::StoreU(left[t], d, rest);
        hn::StoreU(right[t], d, rest + N);
        std::memcpy(c + t * ldc + column, rest, (n - column) * sizeof(float));
      }
    }
  }
}

template <size_t kSteps, bool kWide>
HWY_NOINLINE void CodeTiles(const QuantizedRows& a, size_t first, size_t m, const CodePanel& panel, bool minimum,
                            float* c, size_t ldc, size_t n) {
  size_t t = 0;
  for (; t + kCodeTokens <= m; t += kCodeTokens)
    CodeTile<kCodeTokens, kSteps, kWide>(a, first + t, panel, minimum, c + t * ldc, ldc, n);
  if constexpr (kCodeTokens > 1)
    for (; t < m; ++t) CodeTile<1, kSteps, kWide>(a, first + t, panel, minimum, c + t * ldc, ldc, n);
}

// Codes above 127 need another dot product, except with VNNI and where it is emulated.
HWY_INLINE bool NeedsWide(const StoredMatrix& w) { return !WHIT_HAS_VNNI && !kEmulated && w.bits == 8; }

template <size_t kSteps>
HWY_INLINE void CodeTilesFor(const QuantizedRows& a, size_t first, size_t m, const CodePanel& panel,
                             const StoredMatrix& w, float* c, size_t ldc, size_t n) {
  if constexpr (!WHIT_HAS_VNNI && !kEmulated)
    if (NeedsWide(w)) return CodeTiles<kSteps, true>(a, first, m, panel, w.has_minimum, c, ldc, n);
  CodeTiles<kSteps, false>(a, first, m, panel, w.has_minimum, c, ldc, n);
}

inline void gemm_i8(const QuantizedRows& a, size_t first, size_t m, const CodePanel& panel, const StoredMatrix& w,
                    float* c, size_t ldc, size_t n) noexcept {
  switch (a.block) {
    case 32:
      return CodeTilesFor<8>(a, first, m, panel, w, c, ldc, n);
    case 16:
      return CodeTilesFor<4>(a, first, m, panel, w, c, ldc, n);
    default:
      return CodeTilesFor<2>(a, first, m, panel, w, c, ldc, n);
  }
}

// Four accumulators hide the latency of the multiply-add.
HWY_INLINE float DotFloats(const float* HWY_RESTRICT x, const float* HWY_RESTRICT y, size_t n) {
  const Floats d;
  const size_t N = hn::Lanes(d);
  auto s0 = hn::Zero(d), s1 = hn::Zero(d), s2 = hn::Zero(d), s3 = hn::Zero(d);
  size_t j = 0;
  for (; j + 4 * N <= n; j += 4 * N) {
    s0 = hn::MulAdd(hn::LoadU(d, x + j), hn::LoadU(d, y + j), s0);
    s1 = hn::MulAdd(hn::LoadU(d, x + j + N), hn::LoadU(d, y + j + N), s1);
    s2 = hn::MulAdd(hn::LoadU(d, x + j + 2 * N), hn::LoadU(d, y + j + 2 * N), s2);
    s3 = hn::MulAdd(hn::LoadU(d, x + j + 3 * N), hn::LoadU(d, y + j + 3 * N), s3);
  }
  for (; j + N <= n; j += N) s0 = hn::MulAdd(hn::LoadU(d, x + j), hn::LoadU(d, y + j), s0);
  float rest = 0.0f;
  for (; j < n; ++j) rest += x[j] * y[j];
  return hn::GetLane(hn::SumOfLanes(d, hn::Add(hn::Add(s0, s1), hn::Add(s2, s3)))) + rest;
}

inline float dot(const float* x, const float* y, size_t n) noexcept { return DotFloats(x, y, n); }

inline void matvec_f32(const StoredMatrix& m, size_t begin, size_t end, const float* x, const RowScratch& scratch,
                       float* out) noexcept {
  if (m.bits == 1) return SignRows(m, begin, end, x, out);
  if (m.storage == Storage::nm_sign) return NmSignRows(m, begin, end, x, scratch, out);
  for (size_t row = begin; row < end; ++row) {
    const size_t stored = m.stored_row(row);
    if (m.storage == Storage::f32) {
      out[row - begin] = DotFloats(reinterpret_cast<const float*>(m.codes + stored * m.row_bytes), x, m.cols);
    } else {
      DequantizeStored(m, stored, scratch.codes, scratch.parameters, scratch.floats);
      out[row - begin] = DotFloats(scratch.floats, x, padded(m.cols));
    }
  }
}

// sum over blocks of scale[block] * (integer sum of the block). kBlock: 32, 16, 8.
template <bool kWide>
HWY_INLINE float DotCodes(const uint8_t* HWY_RESTRICT w, const QuantizedRows& x, size_t which,
                          const float* HWY_RESTRICT scale) {
  const Bytes32 du8;
  const hn::RebindToSigned<Bytes32> ds8;
  const hn::Repartition<int32_t, Bytes32> di;
  const hn::Repartition<float, Bytes32> d;
  const size_t bytes = hn::Lanes(du8), k = padded(x.cols);
  const int8_t* HWY_RESTRICT codes = x.codes + which * k;
  const int32_t* HWY_RESTRICT starts = x.lane_starts + which * (k / 4);
  auto sum0 = hn::Zero(d), sum1 = hn::Zero(d);
  size_t j = 0;
  if (x.block == 32) {
    for (; j + 64 <= k; j += 64, scale += 2) {
      for (size_t i = 0; i < 32; i += bytes) {
        const size_t p = j + i, q = j + 32 + i;
        const auto even =
            Dot4<kWide>(di, hn::LoadU(di, starts + p / 4), hn::LoadU(du8, w + p), hn::LoadU(ds8, codes + p));
        const auto odd =
            Dot4<kWide>(di, hn::LoadU(di, starts + q / 4), hn::LoadU(du8, w + q), hn::LoadU(ds8, codes + q));
        sum0 = hn::MulAdd(hn::ConvertTo(d, even), hn::Set(d, scale[0]), sum0);
        sum1 = hn::MulAdd(hn::ConvertTo(d, odd), hn::Set(d, scale[1]), sum1);
      }
    }
    for (size_t i = 0; j < k && i < 32; i += bytes) {
      const size_t p = j + i;
      const auto last =
          Dot4<kWide>(di, hn::LoadU(di, starts + p / 4), hn::LoadU(du8, w + p), hn::LoadU(ds8, codes + p));
      sum0 = hn::MulAdd(hn::ConvertTo(d, last), hn::Set(d, scale[0]), sum0);
    }
  } else {  // `scale` per lane of 4 codes
    for (; j < k; j += bytes) {
      const auto part =
          Dot4<kWide>(di, hn::LoadU(di, starts + j / 4), hn::LoadU(du8, w + j), hn::LoadU(ds8, codes + j));
      sum0 = hn::MulAdd(hn::ConvertTo(d, part), hn::LoadU(d, scale + j / 4), sum0);
    }
  }
  return hn::GetLane(hn::SumOfLanes(d, hn::Add(sum0, sum1)));
}

template <bool kWide>
HWY_INLINE void CodeRows(const StoredMatrix& m, size_t begin, size_t end, const QuantizedRows& x, size_t which,
                         const RowScratch& scratch, float* HWY_RESTRICT out) {
  const size_t blocks = x.blocks(), groups = m.groups, per_group = m.group / x.block, lanes = x.block / 4;
  const float* HWY_RESTRICT x_scale = x.scales + which * blocks;
  const float* HWY_RESTRICT x_sum = x.sums + which * blocks;
  float* HWY_RESTRICT scale = scratch.parameters;
  float* HWY_RESTRICT minimum = scale + groups;
  float* HWY_RESTRICT product = scratch.floats;  // per block, or per lane of 4 codes for narrow blocks
  for (size_t row = begin; row < end; ++row) {
    const size_t stored = m.stored_row(row);
    RowCodes(m, stored, scratch.codes);
    RowParameters(m, stored, scale);
    float shift = 0.0f;
    if (per_group == 1 && x.block == 32) {
      const Floats d;
      const size_t N = hn::Lanes(d);
      size_t b = 0;
      for (; b + N <= groups; b += N)
        hn::StoreU(hn::Mul(hn::LoadU(d, scale + b), hn::LoadU(d, x_scale + b)), d, product + b);
      for (; b < groups; ++b) product[b] = scale[b] * x_scale[b];
      if (m.has_minimum) shift = DotFloats(minimum, x_sum, groups);
    } else {
      for (size_t b = 0; b < blocks; ++b) {
        const size_t g = HWY_MIN(b / per_group, groups - 1);
        const float value = scale[g] * x_scale[b];
        if (x.block == 32)
          product[b] = value;
        else
          for (size_t i = 0; i < lanes; ++i) product[b * lanes + i] = value;
        if (m.has_minimum) shift += minimum[g] * x_sum[b];
      }
    }
    out[row - begin] = DotCodes<kWide>(scratch.codes, x, which, product) + shift;
  }
}

inline void matvec_i8(const StoredMatrix& m, size_t begin, size_t end, const QuantizedRows& x, size_t which,
                      const RowScratch& scratch, float* out) noexcept {
  if (GgmlRows(m, begin, end, x, which, out)) return;
  if constexpr (!WHIT_HAS_VNNI && !kEmulated)
    if (NeedsWide(m)) return CodeRows<true>(m, begin, end, x, which, scratch, out);
  CodeRows<false>(m, begin, end, x, which, scratch, out);
}

inline void fill_matmul(Kernels& kernels) {
  kernels.gemm_f32 = gemm_f32;
  kernels.gemm_i8 = gemm_i8;
  kernels.dot = dot;
  kernels.combine_sign_rows = combine_sign_rows;
  kernels.matvec_f32 = matvec_f32;
  kernels.matvec_i8 = matvec_i8;
}

}  // namespace whit::cpu::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();
#endif
