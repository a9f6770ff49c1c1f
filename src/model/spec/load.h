// The readers behind load_model, one file each; used by load.cc only.
#pragma once

#include <filesystem>

#include "model/spec/model.h"

namespace whit {

ModelPtr load_gguf_model(const std::filesystem::path& path, const LoadOptions& options);
ModelPtr load_folder_model(const std::filesystem::path& path);

// From the GGUF keys of `model.metadata` and the tensors. Throws ErrorKind::input naming what it found.
ModelSpec llama_spec(const Model& model);
// That the tensors are exactly those that the description needs: none missing, none of another shape, none unknown.
void check_tensors(const Model& model);

}  // namespace whit
