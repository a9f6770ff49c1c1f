// Any bytes are a GGUF file that is read or an Error; what is read can be unpacked.
#include <vector>

#include "format/container.h"
#include "format/gguf.h"
#include "model/spec/load.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace whit;
  const auto bytes = std::as_bytes(std::span(data, size));
  try {
    const GgufFile gguf = GgufFile::parse(bytes, "fuzz");
    try {
      verify_checksums(gguf, bytes, "fuzz");
    } catch (const Error& error) {
      if (error.kind() != ErrorKind::integrity) __builtin_trap();
    }
    // Checksums do not stop a hostile file: go on without.
    Model model;
    model.metadata = model_metadata(gguf);
    model.tensors = stored_tensors(gguf);
    for (const StoredTensor& tensor : model.tensors) {
      if (tensor.shape.cols > 1 << 16) continue;
      std::vector<float> row(tensor.shape.cols);
      unpack_rows({&tensor, 0, tensor.shape.rows}, tensor.shape.rows - 1, 1, row);
    }
    describe(model);
  } catch (const Error& error) {
    if (error.kind() != ErrorKind::input && error.kind() != ErrorKind::numeric) __builtin_trap();
  }
  return 0;
}
