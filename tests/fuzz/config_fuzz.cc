// Any text is a config.json that is understood, or an input Error.
#include <cmath>

#include "base/error.h"
#include "base/json.h"
#include "model/spec/config.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace whit;
  try {
    const FolderConfig config =
        read_config(parse_json({reinterpret_cast<const char*>(data), size}, "fuzz"), "fuzz", "fuzz");
    if (!family_of_gguf(config.metadata.string("general.architecture"))) __builtin_trap();
    for (const auto& [name, divisors] : config.divisors)
      for (const float divisor : divisors)
        if (!std::isfinite(divisor) || divisor <= 0) __builtin_trap();
  } catch (const Error& error) {
    if (error.kind() != ErrorKind::input) __builtin_trap();
  }
  return 0;
}
