// Before any Highway header of this room: which levels are built.
#pragma once

// Not worth their compile time: SSSE3 machines run EMU128, scalable ARM vectors run NEON (arrays of registers, which
// the tiles use, do not exist for scalable vectors).
#define HWY_DISABLED_TARGETS (HWY_SSSE3 | HWY_SVE | HWY_SVE2 | HWY_SVE_256 | HWY_SVE2_128)
// Highway avoids EMU128 on GCC before 12.3, whose vectorizer miscompiles it (GCC PR106322), and would take one-lane
// SCALAR, for which these kernels are not written. CMakeLists.txt switches the vectorizer off instead; tests/runtime
// compare every level.
#define HWY_BROKEN_EMU128 0
