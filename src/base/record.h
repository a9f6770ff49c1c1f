// A small durable file: a JSON header, bytes that it describes, and a checksum over both. What the cache and the
// journal keep. Layout, little-endian: u64 bytes of the header, the header, the body, u64 XXH3 of everything before.
#pragma once

#include <cstddef>
#include <filesystem>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "base/file.h"
#include "base/hash.h"
#include "base/options.h"

namespace whit {

struct Record {
  Json header;
  std::span<const std::byte> body;  // inside `file`
  std::shared_ptr<const MappedFile> file;
};

// Written complete or not at all; replaces what is there. Piece by piece, so that a large body need not be held as a whole.
class RecordWriter {
 public:
  RecordWriter(const std::filesystem::path& path, const Json& header);
  void write(std::span<const std::byte> bytes);
  void commit();

 private:
  AtomicFile file_;
  Xxh3 sum_;
};
// The same in one call.
void write_record(const std::filesystem::path& path, const Json& header,
                  std::span<const std::span<const std::byte>> body);

// What a damaged record is called in messages, and what to do about it.
struct RecordName {
  std::string what, hint;
};
// Checks the checksum and that the header can be read; damage is ErrorKind::integrity.
Record open_record(const std::filesystem::path& path, const RecordName& name);
// The same error, for a body that does not fit its header.
[[noreturn]] void damaged_record(const std::filesystem::path& path, const RecordName& name, const std::string& found);

}  // namespace whit
