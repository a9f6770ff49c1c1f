// What files of some other programs begin with.
#pragma once

#include <string_view>

namespace whit {

// The program that packed it: "zip" "gzip" "bzip2" "xz" "zstd" "7z" "rar"; empty for anything else.
std::string_view packed_as(std::string_view head);
// A pickle of protocol 2 to 5.
bool begins_as_pickle(std::string_view head);
// The length of a safetensors header, below 4 GiB, and the header's brace. Ask this first: the length's own bytes may be
// any program's mark.
bool begins_as_safetensors(std::string_view head);

// "a picture (PNG)", "a database (SQLite)" and the like: what no text and no model begins with; empty for anything else.
std::string_view foreign_kind(std::string_view head);

}  // namespace whit
