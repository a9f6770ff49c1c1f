// Which instruction-set levels were compiled, which of them this machine has, and their kernel tables.
#pragma once

#include <string>
#include <vector>

#include "runtime/cpu/kernels.h"

namespace whit::cpu {

// Names as Highway gives them, best first.
std::vector<std::string> levels();
// The level asked for: `name`, else environment variable WHIT_ISA, else the best. ErrorKind::usage when the machine (or
// this build) lacks it.
std::string choose_level(const std::string& name);
// The kernels of a level of levels().
Kernels kernels_of(const std::string& level);

// Each kernel source fills its rows; `target` is a HWY_<target> number. (dispatch.cc)
void fill_codes(int64_t target, Kernels& kernels);
void fill_matmul(int64_t target, Kernels& kernels);
void fill_vectors(int64_t target, Kernels& kernels);

}  // namespace whit::cpu
