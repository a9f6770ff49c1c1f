// Calls FILL(namespace) for the compiled level that `target` names. Included after HWY_ONCE work is possible: one
// switch instead of Highway's dispatch tables, because two executors of different levels may live in one process (tests
// do that).
#pragma once

#include <hwy/targets.h>

#if HWY_TARGETS & HWY_AVX3_DL
#define WHIT_CASE_AVX3_DL(FILL) \
  case HWY_AVX3_DL:             \
    N_AVX3_DL::FILL(kernels);   \
    break;
#else
#define WHIT_CASE_AVX3_DL(FILL)
#endif
#if HWY_TARGETS & HWY_AVX3
#define WHIT_CASE_AVX3(FILL) \
  case HWY_AVX3:             \
    N_AVX3::FILL(kernels);   \
    break;
#else
#define WHIT_CASE_AVX3(FILL)
#endif
#if HWY_TARGETS & HWY_AVX2
#define WHIT_CASE_AVX2(FILL) \
  case HWY_AVX2:             \
    N_AVX2::FILL(kernels);   \
    break;
#else
#define WHIT_CASE_AVX2(FILL)
#endif
#if HWY_TARGETS & HWY_SSE4
#define WHIT_CASE_SSE4(FILL) \
  case HWY_SSE4:             \
    N_SSE4::FILL(kernels);   \
    break;
#else
#define WHIT_CASE_SSE4(FILL)
#endif
#if HWY_TARGETS & HWY_NEON
#define WHIT_CASE_NEON(FILL) \
  case HWY_NEON:             \
    N_NEON::FILL(kernels);   \
    break;
#else
#define WHIT_CASE_NEON(FILL)
#endif
#if HWY_TARGETS & HWY_EMU128
#define WHIT_CASE_EMU128(FILL) \
  case HWY_EMU128:             \
    N_EMU128::FILL(kernels);   \
    break;
#else
#define WHIT_CASE_EMU128(FILL)
#endif

#define WHIT_FILL(FILL)     \
  switch (target) {         \
    WHIT_CASE_AVX3_DL(FILL) \
    WHIT_CASE_AVX3(FILL)    \
    WHIT_CASE_AVX2(FILL)    \
    WHIT_CASE_SSE4(FILL)    \
    WHIT_CASE_NEON(FILL)    \
    WHIT_CASE_EMU128(FILL)  \
    default:                \
      break;                \
  }
