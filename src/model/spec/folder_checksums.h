// whit.json of a folder that whit wrote: checksums of its other files, so that damage is found on load as in our GGUF
// files.
// {"whit": 1, "files": {"config.json": "0123456789abcdef", ...}}: XXH3-64 of each file, 16 lower-case hex digits.
#pragma once

#include <filesystem>
#include <span>
#include <string>

namespace whit {

inline constexpr const char* kFolderChecksums = "whit.json";

// Its text for these files of `folder`.
std::string folder_checksums(const std::filesystem::path& folder, std::span<const std::string> files);
// False where the folder has no whit.json. ErrorKind::integrity naming a file that is missing or is another one;
// ErrorKind::input for a whit.json that cannot be read.
bool verify_folder(const std::filesystem::path& folder);

}  // namespace whit
