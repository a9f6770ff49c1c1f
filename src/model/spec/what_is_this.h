// What a path holds that is given as a model and is none: for errors that name what is there and what to give instead.
#pragma once

#include <filesystem>

namespace whit {

// ErrorKind::io or input for a path that is not there, a file that cannot be a GGUF file, a folder without config.json or
// weights: with what it is, where that can be seen. Nothing for anything else: the readers have their own errors.
void refuse_what_is_no_model(const std::filesystem::path& path);

// A file of a folder whose bytes are something else altogether: empty, a web page, an archive, a pickle. ErrorKind::input.
void refuse_foreign_file(const std::filesystem::path& path);

}  // namespace whit
