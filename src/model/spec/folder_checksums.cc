#include "model/spec/folder_checksums.h"

#include <fmt/format.h>

#include "base/error.h"
#include "base/file.h"
#include "base/hash.h"
#include "base/json.h"
#include "model/spec/folder_files.h"

namespace whit {
namespace {

constexpr uint64_t kLargest = 16 << 20;
constexpr const char* kHint =
    "the folder is damaged: make or fetch it again (--no-verify reads it all the same; without whit.json nothing is "
    "checked)";

std::string checksum(const std::filesystem::path& file) {
  return fmt::format("{:016x}", xxh3_64(MappedFile::open(file)->bytes()));
}

}  // namespace

std::string folder_checksums(const std::filesystem::path& folder, std::span<const std::string> files) {
  nlohmann::json sums = nlohmann::json::object();
  for (const std::string& file : files) sums[file] = checksum(folder / file);
  return nlohmann::json{{"whit", 1}, {"files", sums}}.dump(2) + "\n";
}

bool verify_folder(const std::filesystem::path& folder) {
  const std::filesystem::path path = folder / kFolderChecksums;
  if (!std::filesystem::exists(path)) return false;
  const nlohmann::json json = parse_json(read_file(path, kLargest), path.string(), 4);
  const auto refuse = [&](const char* what) {
    throw Error(ErrorKind::input, what, path.string(), {}, "the file is damaged, or made by a newer whit");
  };
  if (!json.is_object() || json.size() != 2 || !json.contains("whit") || json["whit"] != 1)
    refuse("this is no table of checksums that is read here");
  if (!json.contains("files") || !json["files"].is_object()) refuse("the table of checksums has no files");
  for (const auto& [name, sum] : json["files"].items()) {
    std::string_view bare = name;
    if (bare.starts_with(kTemplatesFolder) && bare.substr(kTemplatesFolder.size()).starts_with('/'))
      bare.remove_prefix(kTemplatesFolder.size() + 1);  // the one folder in a folder
    if (bare.empty() || bare.find_first_of(std::string_view("/\\\0", 3)) != std::string::npos || !sum.is_string())
      refuse("the table of checksums names a file that cannot be");
    const std::filesystem::path file = folder / name;
    if (!std::filesystem::is_regular_file(file))
      throw Error(ErrorKind::integrity, "the folder lacks a file", file.string(), {}, kHint);
    if (const std::string found = checksum(file), wanted = sum.get<std::string>(); found != wanted)
      throw Error(ErrorKind::integrity, "a file does not match its checksum", file.string(),
                  fmt::format("{}, wanted {}", found, wanted.substr(0, 16)), kHint);
  }
  return true;
}

}  // namespace whit
