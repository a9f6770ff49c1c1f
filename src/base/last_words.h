// What a signal handler must find when the process is about to end: which file is mapped where, and which outputs are
// not finished. A handler reaches nothing but globals, so this table is one; its entries are added and taken away by
// the objects that own a map or a temporary file.
#pragma once

#include <cstddef>
#include <filesystem>
#include <span>

namespace whit {

class Remembered {
 public:
  // A file that is mapped at `bytes`.
  Remembered(const std::filesystem::path& path, std::span<const std::byte> bytes);
  // A temporary file, or a folder that holds nothing but temporary files.
  explicit Remembered(const std::filesystem::path& temporary);
  ~Remembered();
  Remembered(const Remembered&) = delete;
  Remembered& operator=(const Remembered&) = delete;

  struct Entry;

 private:
  Entry* entry_ = nullptr;  // null where the name is too long to be kept
};

// Both may be called by a signal handler, from any thread.
const char* mapped_file_at(const void* address) noexcept;  // its name, printable; null where no file is mapped
void remove_temporaries() noexcept;

}  // namespace whit
