#include "model/spec/load.h"

#include <fmt/format.h>

#include <system_error>

#include "model/spec/what_is_this.h"

namespace whit {

ModelPtr load_model(const std::filesystem::path& path, const LoadOptions& options) {
  refuse_what_is_no_model(path);
  std::error_code error;
  if (std::filesystem::is_directory(path, error)) return load_folder_model(path, options);
  return load_gguf_model(path, options);
}

ModelPtr load_model(const std::filesystem::path& path, const LoadOptions& options, Progress& progress) {
  ModelPtr model = load_model(path, options);
  for (const std::string& note : model->notes) progress.note(fmt::format("{}: {}", path.string(), note));
  return model;
}

}  // namespace whit
