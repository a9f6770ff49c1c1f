#include "model/spec/load.h"

#include <system_error>

#include "base/error.h"

namespace whit {

ModelPtr load_model(const std::filesystem::path& path, const LoadOptions& options) {
  std::error_code error;
  if (std::filesystem::is_directory(path, error))
    throw Error(ErrorKind::input, "folders are not read yet", path.string());
  return load_gguf_model(path, options);
}

}  // namespace whit
