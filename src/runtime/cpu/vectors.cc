#include "runtime/cpu/dispatch.h"
#include "runtime/cpu/skip_targets.h"
#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "runtime/cpu/vectors-inl.h"
#include <hwy/foreach_target.h>

#include "runtime/cpu/targets.h"
#include "runtime/cpu/vectors-inl.h"

#if HWY_ONCE
namespace whit::cpu {
void fill_vectors(int64_t target, Kernels& kernels) { WHIT_FILL(fill_vectors) }
}  // namespace whit::cpu
#endif
