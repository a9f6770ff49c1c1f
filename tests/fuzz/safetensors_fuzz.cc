// Any bytes are a safetensors file whose tensors cover it, or an input Error.
#include "base/error.h"
#include "format/safetensors.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace whit;
  try {
    const SafetensorsFile file = SafetensorsFile::parse(std::as_bytes(std::span(data, size)), "fuzz");
    uint64_t sum = 0;
    for (const SafetensorsEntry& entry : file.tensors) {
      sum += entry.data.size();
      if (!entry.data.empty() && (entry.data.front() == std::byte{1}) + (entry.data.back() == std::byte{1}) > 2)
        __builtin_trap();
    }
    if (sum > size) __builtin_trap();
  } catch (const Error& error) {
    if (error.kind() != ErrorKind::input) __builtin_trap();
  }
  return 0;
}
