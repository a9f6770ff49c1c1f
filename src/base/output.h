// Where an output may go. Verbs ask before any work is done, AtomicFile asks again.
#pragma once

#include <filesystem>
#include <span>

namespace whit {

// The file that will be written: where `path` is a symbolic link, what it leads to. ErrorKind::io for what exists and
// may not be overwritten, for folders, pipes and devices (also /dev/stdout), for a folder that is missing or cannot be
// written to.
std::filesystem::path output_target(const std::filesystem::path& path, bool overwrite);

// ErrorKind::usage where `output` is one of `inputs`, by whatever name, or a file of an input folder (where a GGUF
// belongs to nothing). Inputs that do not exist are none.
void check_not_an_input(const std::filesystem::path& output, std::span<const std::filesystem::path> inputs);

// Both.
void check_output(const std::filesystem::path& output, bool overwrite, std::span<const std::filesystem::path> inputs);

// Whether a name ends in .gguf, in small or large letters.
bool is_gguf_name(const std::filesystem::path& path);

}  // namespace whit
