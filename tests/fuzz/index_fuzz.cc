// Any text is a model.safetensors.index.json whose files lie inside the folder, or an input Error.
#include "base/error.h"
#include "base/json.h"
#include "model/spec/load.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace whit;
  try {
    const auto json = parse_json({reinterpret_cast<const char*>(data), size}, "fuzz");
    size_t tensors = 0;
    for (const auto& [file, names] : index_files(json, "fuzz")) {
      if (file.empty() || file.find_first_of(std::string_view("/\\\0", 3)) != std::string::npos) __builtin_trap();
      tensors += names.size();
    }
    if (tensors != json.at("weight_map").size()) __builtin_trap();
  } catch (const Error& error) {
    if (error.kind() != ErrorKind::input) __builtin_trap();
  }
  return 0;
}
