// The readers behind load_model, one file each; used by load.cc only.
#pragma once

#include <filesystem>

#include "model/spec/model.h"

namespace whit {

ModelPtr load_gguf_model(const std::filesystem::path& path, const LoadOptions& options);
ModelPtr load_folder_model(const std::filesystem::path& path);

// Fills in model.spec from the GGUF keys of `model.metadata` and the tensors, whose fused ones become stacks, and sees to it
// that they are exactly those that the description needs. ErrorKind::input naming what it found.
void describe(Model& model);

}  // namespace whit
