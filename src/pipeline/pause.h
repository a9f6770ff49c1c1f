// Where long work can be stopped: between two units of work that are durable or cheap to do again.
#pragma once

#include "base/progress.h"

namespace whit {

// Throws when the user interrupted. Waits for WHIT_TEST_DELAY_MS milliseconds first, where that is set: tests of kill and
// resume slow a run with it, so that every phase lasts long enough to be hit.
void pause_point(Progress& progress);

}  // namespace whit
