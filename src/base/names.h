// Help for whoever mistypes: the nearest known name.
#pragma once

#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace whit {

// The known name with the least edit distance, in any case of its letters; or one that begins so. "" if none is within a
// third of its length (at least 2 edits, of three or four letters 1).
std::string nearest_name(std::string_view name, std::span<const std::string> known);

// "did you mean X?", or the list of all known names.
std::string suggest_name(std::string_view name, std::span<const std::string> known);

// `text` with the letters A to Z made small.
std::string small_letters(std::string text);

// Glob with * (any run) and ? (one character), over the whole name.
bool glob_match(std::string_view pattern, std::string_view name) noexcept;

}  // namespace whit
