#include "model/spec/load.h"

#include <system_error>

namespace whit {

ModelPtr load_model(const std::filesystem::path& path, const LoadOptions& options) {
  std::error_code error;
  if (std::filesystem::is_directory(path, error)) return load_folder_model(path, options);
  return load_gguf_model(path, options);
}

}  // namespace whit
