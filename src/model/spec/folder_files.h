// The files that make a folder a model: one list for who reads them and for who puts a new model in an older one's
// place.
#pragma once

#include <filesystem>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace whit {

inline constexpr std::string_view kTemplatesFolder = "additional_chat_templates";  // of *.jinja

// Texts that are read here, where they are there: config.json and what says of tokens, chats and answers.
std::span<const std::string_view> folder_texts() noexcept;
// The files of a folder that belong to the model in it, for whit or for another reader of such folders, which would
// take them for a new model's: names, config.json first. ErrorKind::io for anything else under such a name. No folder:
// none.
std::vector<std::string> model_files(const std::filesystem::path& folder);

}  // namespace whit
