#include "runtime/cpu/dispatch.h"
#include "runtime/cpu/skip_targets.h"
#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "runtime/cpu/codes-inl.h"
#include <hwy/foreach_target.h>

#include "runtime/cpu/codes-inl.h"
#include "runtime/cpu/targets.h"

#if HWY_ONCE
namespace whit::cpu {
void fill_codes(int64_t target, Kernels& kernels) { WHIT_FILL(fill_codes) }
}  // namespace whit::cpu
#endif
