// The tensors of a folder's weight files as matrices: dense ones, and those that quantizers stored in several tensors.
// Used by load_folder.cc only.
#pragma once

#include <memory>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "format/safetensors.h"
#include "format/tensor.h"

namespace whit {

// One tensor of one file.
struct FolderTensor {
  SafetensorsEntry entry;
  std::shared_ptr<const MappedFile> file;
  std::string where() const { return file->path().string() + ": tensor " + entry.name; }
};

struct FolderMatrix {
  std::string name;     // the folder's own, "model.layers.0.mlp.up_proj.weight"
  std::string where;    // for messages
  std::string kind;     // for people: "BF16", "GPTQ int4"
  StoredTensor tensor;  // without its name
};

// In the order of the tensors. `config` is config.json: its quantization_config (absent, gptq, awq, fp8 or
// compressed-tensors of plain floats) says what the parts mean; another kind is ErrorKind::input. A matrix whose parts
// are missing or of another shape, a part that belongs to no matrix, an unknown dtype: ErrorKind::input too.
std::vector<FolderMatrix> folder_matrices(const std::vector<FolderTensor>& tensors, const nlohmann::json& config,
                                          const std::string& config_where);

}  // namespace whit
