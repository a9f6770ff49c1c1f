#include <dlfcn.h>
#include <stdlib.h>
#include <unistd.h>

#include <cstdio>
#include <string_view>

#include "cli/verbs.h"

namespace {

// Two libraries under LibTorch read their settings from the environment while they are loaded, before main(); so the program
// sets them and starts itself once more. A user's own settings stay; where the second start fails, the first one goes on, only
// slower.
// - OpenMP's threads, which element-wise operations use, wait for their next piece of work by spinning, on the cores that the
//   pool needs for the products between: training took up to four times as long.
// - An OpenBLAS that is older than the processor takes kernels of 2004 ("Prescott"): products took up to eight times as long.
#if defined(WHIT_LEARN) && defined(__linux__)
bool uses_torch(int argc, char** argv) {
  const std::string_view verb = argc > 1 ? argv[1] : "";
  for (int i = 2; verb == "eval" && i < argc; ++i)
    if (std::string_view(argv[i]).ends_with("torch")) return true;
  return verb == "compress" || verb == "calibrate" || verb == "tune";
}

// The kernels that fit this processor, or null where OpenBLAS chose well, by itself or by the user's wish.
const char* better_kernels() {
#if defined(__x86_64__)
  const auto chosen = reinterpret_cast<const char* (*)()>(::dlsym(RTLD_DEFAULT, "openblas_get_corename"));
  if (!chosen || std::string_view(chosen()) != "Prescott" || ::getenv("OPENBLAS_CORETYPE")) return nullptr;
  if (__builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512bw") &&
      __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("avx512cd"))
    return "SkylakeX";
  if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma")) return "Haswell";
#endif
  return nullptr;
}

void start_again_with_better_settings(int argc, char** argv) {
  if (!uses_torch(argc, argv)) return;
  const bool spins = !::getenv("OMP_WAIT_POLICY");
  const char* kernels = better_kernels();
  if (!spins && !kernels) return;
  if (spins) ::setenv("OMP_WAIT_POLICY", "PASSIVE", 1);
  if (kernels) ::setenv("OPENBLAS_CORETYPE", kernels, 1);
  ::execv("/proc/self/exe", argv);
}
#else
void start_again_with_better_settings(int, char**) {}
#endif

}  // namespace

int main(int argc, char** argv) {
  start_again_with_better_settings(argc, argv);
  const int code = whit::run_program(argc, argv);
#ifdef WHIT_LEARN
  // At exit OpenBLAS waits for threads of its own, which never come under a limit on memory (`ulimit -v`): the work was done
  // and the program hung.
  std::fflush(nullptr);
  ::_exit(code);
#else
  return code;
#endif
}
