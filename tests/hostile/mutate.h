// A model file taken apart, changed in ways that stay consistent, and written with checksums that are right again: random
// bytes never come past those.
#pragma once

#include <filesystem>
#include <string>
#include <vector>

#include "base/keyvalue.h"
#include "base/rng.h"

namespace whit::tests {

struct FileTensor {
  std::string name;
  std::vector<uint64_t> dimensions;
  int32_t type = 0;
  std::vector<std::byte> bytes;
};

struct FileParts {
  KeyValues keys;  // without checksums
  std::vector<FileTensor> tensors;
  KeyValues tokenizer;  // of a file of ours: what is packed in it
  uint64_t alignment = 32;
};

FileParts read_parts(const std::filesystem::path& path);
void write_parts(const FileParts& parts, const std::filesystem::path& path);
// One change; says which.
std::string mutate(FileParts& parts, Rng& rng);

// A tensor's offset in the file gets another value, the header its checksum.
std::string move_offset(const std::filesystem::path& path, Rng& rng);

}  // namespace whit::tests
