// Where an output may go. Verbs ask before any work is done, AtomicFile asks again.
#pragma once

#include <filesystem>
#include <span>
#include <string>

namespace whit {

// The file that will be written: where `path` is a symbolic link, what it leads to. ErrorKind::io for what exists and
// may not be overwritten, for folders, pipes and devices (also /dev/stdout), for a folder that is missing or cannot be
// written to.
std::filesystem::path output_target(const std::filesystem::path& path, bool overwrite);

// ErrorKind::usage where `output` is one of `inputs`, by whatever name, or would be a file of an input folder (where a
// GGUF and a folder belong to nothing). Inputs that do not exist are none.
void check_not_an_input(const std::filesystem::path& output, std::span<const std::filesystem::path> inputs,
                        bool makes_folder = false);

// Both.
void check_output(const std::filesystem::path& output, bool overwrite, std::span<const std::filesystem::path> inputs);

// Both, for a GGUF file of that name: ErrorKind::usage for an ending of other programs' files.
void check_gguf_output(const std::filesystem::path& output, bool overwrite,
                       std::span<const std::filesystem::path> inputs);

// ErrorKind::usage for a name that ends as files of weights do which are not written alone: .safetensors, .bin ...;
// ErrorKind::io for "-".
void refuse_foreign_name(const std::filesystem::path& output, const std::string& hint);

// Whether a name ends in .gguf, in small or large letters.
bool is_gguf_name(const std::filesystem::path& path);

}  // namespace whit
