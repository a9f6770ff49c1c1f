// The readers behind load_model, one file each; used inside of this room and by the fuzzers only.
#pragma once

#include <filesystem>
#include <map>
#include <nlohmann/json.hpp>
#include <set>
#include <string>

#include "model/spec/model.h"

namespace whit {

ModelPtr load_gguf_model(const std::filesystem::path& path, const LoadOptions& options);
ModelPtr load_folder_model(const std::filesystem::path& path, const LoadOptions& options);
// Of model.safetensors.index.json: each file of weights, a plain name inside the folder, with its tensors. Else
// ErrorKind::input; `where` stands for the file.
std::map<std::string, std::set<std::string>> index_files(const nlohmann::json& json, const std::string& where);

// Fills in model.spec from the GGUF keys of `model.metadata` and the tensors, whose fused ones become stacks, and sees to it
// that they are exactly those that the description needs. ErrorKind::input naming what it found.
void describe(Model& model);

}  // namespace whit
