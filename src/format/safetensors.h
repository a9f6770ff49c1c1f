// safetensors: a JSON header, then one buffer that the tensors cover exactly.
#pragma once

#include <filesystem>
#include <functional>
#include <map>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "base/file.h"

namespace whit {

struct SafetensorsEntry {
  std::string name, dtype;
  std::vector<uint64_t> shape;  // row-major, outermost first
  std::span<const std::byte> data;
};

// Throws ErrorKind::input (names file and tensor) for every violation of the format, ErrorKind::io for the file.
struct SafetensorsFile {
  std::shared_ptr<const MappedFile> file;
  std::vector<SafetensorsEntry> tensors;
  std::map<std::string, std::string> metadata;

  static SafetensorsFile open(const std::filesystem::path& path);
  static SafetensorsFile parse(std::span<const std::byte> bytes, const std::string& name);
  const SafetensorsEntry* find(std::string_view name) const noexcept;
};

// A tensor to be written. `write` streams its floats; they are stored as `dtype`: F32, F16 or BF16, rounded to nearest.
struct SafetensorsOutput {
  std::string name;
  std::vector<uint64_t> shape;
  std::function<void(const std::function<void(std::span<const float>)>& sink)> write;
  std::string dtype = "F32";
};
// Bytes of the tensor's data.
uint64_t safetensors_bytes(const SafetensorsOutput& tensor);
// The whole file, to a file that was opened for it; `metadata` is kept under __metadata__ where it is not empty.
// A finite weight that F16 cannot hold is ErrorKind::numeric and names the tensor.
void write_safetensors(AtomicFile& file, std::span<const SafetensorsOutput> tensors,
                       const std::map<std::string, std::string>& metadata = {});
void write_safetensors(const std::filesystem::path& path, std::span<const SafetensorsOutput> tensors, bool overwrite);

}  // namespace whit
