// The readers behind load_model, one file each; used by load.cc and the fuzzers only.
#pragma once

#include <filesystem>
#include <map>
#include <nlohmann/json.hpp>
#include <set>
#include <string>

#include "model/spec/model.h"

namespace whit {

ModelPtr load_gguf_model(const std::filesystem::path& path, const LoadOptions& options);
ModelPtr load_folder_model(const std::filesystem::path& path);
// Of model.safetensors.index.json: each file of weights, a plain name inside the folder, with its tensors. Else
// ErrorKind::input; `where` stands for the file.
std::map<std::string, std::set<std::string>> index_files(const nlohmann::json& json, const std::string& where);

// From the GGUF keys of `model.metadata` and the tensors. Throws ErrorKind::input naming what it found.
ModelSpec llama_spec(const Model& model);
// That the tensors are exactly those that the description needs: none missing, none of another shape, none unknown.
void check_tensors(const Model& model);

}  // namespace whit
