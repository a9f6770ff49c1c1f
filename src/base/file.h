// Files: read-only maps, whole reads, and writes that are either complete or absent.
#pragma once

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <functional>
#include <memory>
#include <span>
#include <string>
#include <string_view>

#include "base/last_words.h"

namespace whit {

// A read-only map of a whole file. Throws ErrorKind::io when it cannot be opened. An empty file has an empty span.
// Where another process cuts the file short, reading on is SIGBUS, whose handler finds the name (last_words.h).
class MappedFile {
 public:
  static std::shared_ptr<const MappedFile> open(const std::filesystem::path& path);
  ~MappedFile();
  MappedFile(const MappedFile&) = delete;
  MappedFile& operator=(const MappedFile&) = delete;

  std::span<const std::byte> bytes() const noexcept { return bytes_; }
  const std::filesystem::path& path() const noexcept { return path_; }

 private:
  MappedFile() = default;
  std::filesystem::path path_;
  std::span<const std::byte> bytes_;
  std::unique_ptr<Remembered> remembered_;
};

// The whole file as bytes; of a pipe or a device, all to its end. `limit`: what is larger is an input error.
std::string read_file(const std::filesystem::path& path, uint64_t limit = uint64_t{1} << 32);

// Takes away PATH.tmp-PID, files and folders, of writers of PATH that were killed: their lock went with them.
void remove_abandoned(const std::filesystem::path& path);

// Writes to PATH.tmp-PID beside the target; commit() flushes, syncs, renames and syncs the folder.
// A writer that is destroyed without commit() removes its temporary file, and so does a signal that ends the process;
// that of a killed one goes with the next AtomicFile of that path. A symbolic link is followed. Every failure is
// ErrorKind::io and names path and reason (full disk, read-only folder); the target is untouched.
class AtomicFile {
 public:
  // overwrite false: an existing target is ErrorKind::io, found before anything is written and again at commit.
  AtomicFile(const std::filesystem::path& path, bool overwrite);
  ~AtomicFile();
  AtomicFile(const AtomicFile&) = delete;
  AtomicFile& operator=(const AtomicFile&) = delete;

  void write(std::span<const std::byte> bytes);
  void write(std::string_view text) { write(std::as_bytes(std::span(text.data(), text.size()))); }
  void write_at(uint64_t offset, std::span<const std::byte> bytes);  // over bytes already written
  uint64_t size() const noexcept { return size_; }
  void commit();

 private:
  void flush();
  std::filesystem::path path_, temporary_;
  std::unique_ptr<Remembered> remembered_;
  std::string buffer_;
  int descriptor_ = -1;
  bool overwrite_;
  uint64_t size_ = 0;
};

// AtomicFile in one call.
void write_file(const std::filesystem::path& path, std::string_view content, bool overwrite);

}  // namespace whit
