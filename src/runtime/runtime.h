// The inference executor: no torch; weights multiplied as they are stored; kernels chosen at load for this machine.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "base/threads.h"
#include "model/spec/model.h"
#include "model/spec/scorer.h"

namespace whit {

enum class ActivationType { fp32, int8 };

struct RuntimeOptions {
  std::string isa;  // "" best of the machine; a name of available_isas(), else ErrorKind::usage
  ActivationType activations = ActivationType::fp32;
};

// Levels that this machine can run, best first ("AVX3_ZEN4", "AVX3_DL", "AVX3", "AVX2", "SSE4", "EMU128", ...).
std::vector<std::string> available_isas();

// The pool must outlive the scorer. Several sessions may be open; they take turns on the pool.
std::shared_ptr<const Scorer> make_runtime(ModelPtr model, ThreadPool& pool, const RuntimeOptions& options = {});
// The level that make_runtime would take for these options.
std::string isa_in_use(const RuntimeOptions& options);

}  // namespace whit
