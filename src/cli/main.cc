#include <stdlib.h>
#include <unistd.h>

#include <string>

#include "cli/verbs.h"

namespace {

// OpenMP's threads, which LibTorch's element-wise operations use, wait for their next piece of work by spinning, on the
// cores that the pool needs for the products between: training took up to four times as long. Their runtime reads the
// wish for sleep from the environment while it is loaded, before main(), so the program starts itself once more with it.
// A user's own setting stays; where the second start fails, the first one goes on, only slower.
void let_openmp_sleep(int argc, char** argv) {
#if defined(WHIT_LEARN) && defined(__linux__)
  const std::string verb = argc > 1 ? argv[1] : "";
  if ((verb != "compress" && verb != "calibrate" && verb != "tune") || ::getenv("OMP_WAIT_POLICY")) return;
  ::setenv("OMP_WAIT_POLICY", "PASSIVE", /*overwrite=*/0);
  ::execv("/proc/self/exe", argv);
#else
  static_cast<void>(argc);
  static_cast<void>(argv);
#endif
}

}  // namespace

int main(int argc, char** argv) {
  let_openmp_sleep(argc, argv);
  return whit::run_program(argc, argv);
}
