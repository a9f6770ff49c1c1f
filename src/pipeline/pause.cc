#include "pipeline/pause.h"

#include <chrono>
#include <cstdlib>
#include <thread>

namespace whit {

void pause_point(Progress& progress) {
  if (const char* delay = std::getenv("WHIT_TEST_DELAY_MS"))
    std::this_thread::sleep_for(std::chrono::milliseconds(std::atoi(delay)));
  progress.check_interrupt();
}

}  // namespace whit
