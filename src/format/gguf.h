// The GGUF v3 container (shared by ordinary files and ours): key-values, tensor infos, aligned data.
#pragma once

#include <filesystem>
#include <functional>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "base/file.h"
#include "base/keyvalue.h"
#include "format/format.h"

namespace whit {

struct GgufTensor {
  std::string name;
  std::vector<uint64_t> dimensions;  // contiguous one first, as in the file
  int32_t type = 0;                  // a number we may not know; its data is then only skipped
  uint64_t offset = 0;               // from the start of the data section
  std::span<const std::byte> data;   // empty for an unknown type
};

// Parsed and bounds-checked; every size was verified against the file before it was used.
// Throws ErrorKind::input (damaged, hostile, version) or ErrorKind::io.
struct GgufFile {
  std::shared_ptr<const MappedFile> file;
  uint32_t version = 3;
  uint64_t alignment = 32;
  KeyValues metadata;
  std::vector<GgufTensor> tensors;
  uint64_t header_bytes = 0;  // header, key-values and tensor infos, without the padding before the data
  uint64_t data_start = 0;
  uint64_t header_checksum_at = 0;  // where the value of whit.checksum.header stands; 0: the file has none

  static GgufFile open(const std::filesystem::path& path);
  // For fuzzing and tests: the same checks over bytes in memory (`name` stands for the path in messages).
  static GgufFile parse(std::span<const std::byte> bytes, const std::string& name);
  const GgufTensor* find(std::string_view name) const noexcept;
};

enum class Integrity { ok, absent };  // damage is an Error(ErrorKind::integrity) that names the tensor or "header"

// Verifies the header's checksum, then each tensor's, the zero padding and the end of the file.
// absent only for a file without any whit. key.
Integrity verify_checksums(const GgufFile& gguf);
// The same over the bytes that `gguf` was parsed from; `name` stands for the file.
Integrity verify_checksums(const GgufFile& gguf, std::span<const std::byte> bytes, const std::string& name);

// One tensor to be written. `write` appends exactly `bytes` bytes to the sink; it may stream.
struct GgufOutput {
  std::string name;
  std::vector<uint64_t> dimensions;
  GgmlType type;
  uint64_t bytes;
  std::function<void(const std::function<void(std::span<const std::byte>)>& sink)> write;
};

// Exact size of the file that write_gguf makes, and the file. `checksums`: add whit.checksum.* keys (always for files
// with any whit. key). Alignment 64 for ours, else 32. The output appears complete or not at all.
uint64_t gguf_file_bytes(const KeyValues& metadata, std::span<const GgufOutput> tensors, bool checksums,
                         uint64_t alignment);
void write_gguf(AtomicFile& out, KeyValues metadata, std::span<const GgufOutput> tensors, bool checksums,
                uint64_t alignment);

}  // namespace whit
