#include "base/output.h"

#include <unistd.h>

#include <cerrno>
#include <climits>
#include <cstring>
#include <string>

#include "base/error.h"
#include "base/names.h"

namespace whit {
namespace {

namespace fs = std::filesystem;

constexpr int kMostLinks = 40;     // as Linux itself
constexpr size_t kOwnEnding = 16;  // .tmp-PID, .journal

fs::path folder_of(const fs::path& path) { return path.has_parent_path() ? path.parent_path() : fs::path("."); }

std::string small_ending(const fs::path& path) { return small_letters(path.extension().string()); }

const char* kind_of(fs::file_type type) {
  switch (type) {
    case fs::file_type::directory:
      return "a folder";
    case fs::file_type::fifo:
      return "a pipe";
    case fs::file_type::socket:
      return "a socket";
    default:
      return "a device";
  }
}

[[noreturn]] void refuse(const fs::path& path, const std::string& found, const std::string& hint) {
  throw Error(ErrorKind::io, "the output cannot be written there", path.string(), found, hint);
}

// Names below /proc lead to what this process has open already: replacing it would take a stream for a file.
bool leads_to_stream(const fs::path& path) {
  std::error_code ignored;
  return fs::weakly_canonical(folder_of(path), ignored).string().starts_with("/proc");
}

}  // namespace

fs::path output_target(const fs::path& path, bool overwrite) {
  if (path.empty()) refuse(path, "an empty name", "give the output a name");
  if (path == "-") refuse(path, "standard output", "outputs are whole files: give a file's name");
  if (path.filename().empty()) refuse(path, "the name of a folder", "a file is written: give its name");
  std::error_code error;
  fs::path target = path;
  for (int links = 0; fs::is_symlink(fs::symlink_status(target, error)); ++links) {
    if (links == kMostLinks) refuse(path, "a symbolic link that leads in a circle", "another name");
    // Before it is followed: a stream may lead to a file.
    if (leads_to_stream(target)) refuse(path, "a stream", "outputs are whole files: give a file's name");
    target = folder_of(target) / fs::read_symlink(target, error);
  }
  if (leads_to_stream(target)) refuse(path, "a stream", "outputs are whole files: give a file's name");
  const fs::file_status status = fs::symlink_status(target, error);
  if (fs::exists(status) && !fs::is_regular_file(status))
    refuse(path, kind_of(status.type()), "outputs are whole files: give a file's name");
  if (!overwrite && fs::exists(fs::symlink_status(path, error)))
    throw Error(ErrorKind::io, "the output exists already", path.string(), {}, "--force overwrites it");
  const fs::path folder = folder_of(target);
  if (!fs::is_directory(folder, error))
    refuse(path, folder.string() + ": " + std::strerror(fs::exists(folder, error) ? ENOTDIR : ENOENT),
           "check the path");
  if (::access(folder.c_str(), W_OK | X_OK) != 0)
    refuse(path, std::strerror(errno), "choose a folder that you may write to, or check the permissions");
  if (target.filename().string().size() + kOwnEnding > NAME_MAX)
    refuse(path, std::strerror(ENAMETOOLONG), "a shorter name");
  return target;
}

void check_not_an_input(const fs::path& output, std::span<const fs::path> inputs, bool makes_folder) {
  std::error_code error;
  for (const fs::path& input : inputs) {
    if (input.empty() || !fs::exists(input, error)) continue;
    const bool same = fs::equivalent(output, input, error);
    const bool inside = fs::is_directory(input, error) && !fs::is_directory(output, error) && !is_gguf_name(output) &&
                        fs::equivalent(folder_of(output), input, error);
    if (same || (inside && !makes_folder))
      throw Error(ErrorKind::usage, inside ? "the output would become a file of the input" : "the output is the input",
                  output.string(), input.string(), "another name for the output");
  }
}

void check_output(const fs::path& output, bool overwrite, std::span<const fs::path> inputs) {
  check_not_an_input(output, inputs);
  output_target(output, overwrite);
}

void check_gguf_output(const fs::path& output, bool overwrite, std::span<const fs::path> inputs) {
  refuse_foreign_name(output, "NAME.gguf: a GGUF is written; whit convert makes a folder of it");
  check_output(output, overwrite, inputs);
}

void refuse_foreign_name(const fs::path& output, const std::string& hint) {
  if (output == "-") refuse(output, "standard output", hint);
  const std::string ending = small_ending(output);
  for (const char* other : {".safetensors", ".bin", ".pt", ".pth", ".onnx", ".ggml", ".json"})
    if (ending == other) throw Error(ErrorKind::usage, "such a file is not written", "output", output.string(), hint);
}

bool is_gguf_name(const fs::path& path) { return small_ending(path) == ".gguf"; }

}  // namespace whit
