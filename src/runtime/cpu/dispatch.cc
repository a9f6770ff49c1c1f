#include "runtime/cpu/dispatch.h"

#include <cstdlib>

#include "base/error.h"
#include "base/names.h"
#include "runtime/cpu/skip_targets.h"
// after skip_targets.h
#include <hwy/highway.h>

namespace whit::cpu {
namespace {

// Best first. EMU128 is Highway's plain C++: every machine has it.
constexpr int64_t kTargets[] = {
#if HWY_ARCH_X86
    HWY_AVX3_DL, HWY_AVX3, HWY_AVX2, HWY_SSE4,
#endif
#if HWY_ARCH_ARM
    HWY_NEON,
#endif
    HWY_EMU128};

std::vector<int64_t> usable() {
  const int64_t machine = hwy::SupportedTargets() | HWY_EMU128;
  std::vector<int64_t> targets;
  for (const int64_t target : kTargets)
    if ((HWY_TARGETS & target) && (machine & target)) targets.push_back(target);
  return targets;
}

}  // namespace

std::vector<std::string> levels() {
  std::vector<std::string> names;
  for (const int64_t target : usable()) names.push_back(hwy::TargetName(target));
  return names;
}

std::string choose_level(const std::string& name) {
  const char* variable = std::getenv("WHIT_ISA");
  const bool from_variable = name.empty() && variable && *variable;
  const std::string wanted = from_variable ? variable : name;
  const std::vector<std::string> known = levels();
  if (wanted.empty()) return known.front();
  for (const std::string& level : known)
    if (level == wanted) return level;
  std::string list;
  for (const std::string& level : known) list += (list.empty() ? "" : " ") + level;
  throw Error(ErrorKind::usage, "this machine or build lacks the instruction-set level",
              from_variable ? "WHIT_ISA" : "--isa", wanted, "one of: " + list);
}

Kernels kernels_of(const std::string& level) {
  for (const int64_t target : usable()) {
    if (level != hwy::TargetName(target)) continue;
    Kernels kernels;
    fill_codes(target, kernels);
    fill_matmul(target, kernels);
    fill_vectors(target, kernels);
#define KERNEL(name, result, parameters) WHIT_CHECK(kernels.name != nullptr);
#include "runtime/cpu/kernels.def"
#undef KERNEL
    return kernels;
  }
  throw Error(ErrorKind::usage, "unknown instruction-set level", "--isa", level);
}

}  // namespace whit::cpu
