// The repository as the house tests see it: its files, their #includes, the rooms and the arrows between them.
#pragma once

#include <filesystem>
#include <map>
#include <set>
#include <string>
#include <string_view>
#include <vector>

namespace whit::house {

// Files below `folder` (relative to the root of the repository), relative, sorted; builds and downloads are left out.
std::vector<std::string> files(std::string_view folder);
bool exists(std::string_view path);
std::string text(std::string_view path);
std::vector<std::string> lines(std::string_view text);
bool ends_with_any(std::string_view path, std::initializer_list<std::string_view> endings);
bool is_source(std::string_view path);  // C++ and CUDA, headers too

struct Include {
  std::string file;    // "src/runtime/session.cc"
  int line = 0;
  std::string target;  // "data/tokenizer.h"
  bool quoted = false;
};
std::vector<Include> includes(std::string_view folder);

// Room -> rooms it points at, as ARCHITECTURE.md draws them ("*": all). `base` is everybody's and not among them.
using Arrows = std::map<std::string, std::set<std::string>>;
Arrows drawn_arrows();
// All that can be reached along arrows, the room itself and base among them.
std::set<std::string> reach(const Arrows& arrows, const std::string& room);
// "runtime" of "runtime/cpu/dot.h"; "" when the path lies in no room.
std::string room_of(const Arrows& arrows, std::string_view path_below_src);

}  // namespace whit::house
