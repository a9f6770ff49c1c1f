#include "house/tree.h"

#include <algorithm>
#include <fstream>
#include <sstream>
#include <stdexcept>

namespace whit::house {
namespace {

namespace fs = std::filesystem;

const fs::path kRoot = WHIT_SOURCE_DIR;

bool is_left_out(const fs::path& relative) {
  static const std::set<std::string> folders = {".git", ".whit", "build", "report", "__pycache__", ".cache"};
  return folders.contains(relative.begin()->string()) || folders.contains(relative.filename().string());
}

std::string trimmed(std::string_view text) {
  const auto first = text.find_first_not_of(" \t\r");
  if (first == std::string_view::npos) return {};
  return std::string(text.substr(first, text.find_last_not_of(" \t\r") - first + 1));
}

}  // namespace

std::vector<std::string> files(std::string_view folder) {
  std::vector<std::string> found;
  const fs::path start = kRoot / folder;
  if (!fs::exists(start)) return found;
  for (auto it = fs::recursive_directory_iterator(start); it != fs::recursive_directory_iterator(); ++it) {
    const fs::path relative = fs::relative(it->path(), kRoot);
    if (it->is_directory() && is_left_out(relative)) {
      it.disable_recursion_pending();
    } else if (it->is_regular_file()) {
      found.push_back(relative.generic_string());
    }
  }
  std::sort(found.begin(), found.end());
  return found;
}

bool exists(std::string_view path) { return fs::exists(kRoot / path); }

std::string text(std::string_view path) {
  std::ifstream in(kRoot / path, std::ios::binary);
  if (!in) throw std::runtime_error("cannot read " + std::string(path));
  std::ostringstream out;
  out << in.rdbuf();
  return out.str();
}

std::vector<std::string> lines(std::string_view text) {
  std::vector<std::string> result;
  std::istringstream in{std::string(text)};
  for (std::string line; std::getline(in, line);) result.push_back(line);
  return result;
}

bool ends_with_any(std::string_view path, std::initializer_list<std::string_view> endings) {
  return std::any_of(endings.begin(), endings.end(), [&](std::string_view e) { return path.ends_with(e); });
}

bool is_source(std::string_view path) { return ends_with_any(path, {".h", ".cc", ".cu", ".cuh", ".inl", ".def"}); }

std::vector<Include> includes(std::string_view folder) {
  std::vector<Include> found;
  for (const std::string& file : files(folder)) {
    if (!is_source(file)) continue;
    int number = 0;
    for (const std::string& line : lines(text(file))) {
      ++number;
      std::string rest = trimmed(line);
      if (!rest.starts_with('#')) continue;
      rest = trimmed(std::string_view(rest).substr(1));
      if (!rest.starts_with("include")) continue;
      rest = trimmed(std::string_view(rest).substr(7));
      if (rest.empty() || (rest[0] != '"' && rest[0] != '<')) continue;
      const auto end = rest.find(rest[0] == '"' ? '"' : '>', 1);
      if (end == std::string::npos) continue;
      found.push_back({file, number, rest.substr(1, end - 1), rest[0] == '"'});
    }
  }
  return found;
}

Arrows drawn_arrows() {
  Arrows arrows;
  bool in_section = false, in_block = false;
  for (const std::string& line : lines(text("ARCHITECTURE.md"))) {
    if (line.starts_with("## ")) in_section = line == "## Rooms and arrows";
    if (!in_section) continue;
    if (line.starts_with("```")) {
      if (in_block) break;
      in_block = true;
      continue;
    }
    const auto arrow = line.find("->");
    if (!in_block || arrow == std::string::npos) continue;
    auto& targets = arrows[trimmed(line.substr(0, arrow))];
    std::istringstream rest(line.substr(arrow + 2));
    for (std::string target; rest >> target;) targets.insert(target);
  }
  if (arrows.empty()) throw std::runtime_error("ARCHITECTURE.md has no block of arrows below '## Rooms and arrows'");
  return arrows;
}

std::set<std::string> reach(const Arrows& arrows, const std::string& room) {
  std::set<std::string> seen = {"base", room};
  std::vector<std::string> pending = {room};
  while (!pending.empty()) {
    const std::string at = pending.back();
    pending.pop_back();
    const auto found = arrows.find(at);
    if (found == arrows.end()) continue;
    for (const std::string& target : found->second) {
      if (target == "*") {
        for (const auto& [every, unused] : arrows) seen.insert(every);
      } else if (seen.insert(target).second) {
        pending.push_back(target);
      }
    }
  }
  return seen;
}

std::string room_of(const Arrows& arrows, std::string_view path_below_src) {
  std::string best;
  const auto consider = [&](const std::string& room) {
    if (path_below_src.starts_with(room + "/") && room.size() > best.size()) best = room;
  };
  consider("base");
  for (const auto& [room, unused] : arrows) consider(room);
  return best;
}

}  // namespace whit::house
