// The type numbers of GGUF tensor infos, with the sizes of their blocks. Types without a Format are known by size only,
// so that a file that holds them can be listed and its offsets checked.
#pragma once

#include <cstdint>

namespace whit {

struct GgmlTypeRow {
  int32_t number;
  const char* name;
  uint32_t block_weights, block_bytes;
};

// Null for a number that no known file may have.
const GgmlTypeRow* ggml_type_row(int32_t number) noexcept;

}  // namespace whit
