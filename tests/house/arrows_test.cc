// Rooms include only what their arrows allow, and CMake links exactly the arrows. ARCHITECTURE.md is where they are drawn.
#include <gtest/gtest.h>

#include <sstream>

#include "house/tree.h"

namespace whit::house {
namespace {

std::string cmake_name(std::string room) {
  for (char& c : room) c = c == '/' ? '_' : c;
  return room;
}

// The words after ARROWS in the whit_room() calls of one CMakeLists.txt.
std::set<std::string> linked_arrows(const std::string& cmake) {
  std::set<std::string> found;
  std::string code;
  for (const std::string& line : lines(cmake)) code += line.substr(0, line.find('#')) + "\n";
  for (size_t at = code.find("whit_room("); at != std::string::npos; at = code.find("whit_room(", at + 1)) {
    size_t end = at + 10;
    for (int depth = 1; end < code.size() && depth > 0; ++end) depth += code[end] == '(' ? 1 : code[end] == ')' ? -1 : 0;
    std::istringstream words(code.substr(at + 10, end - at - 11));
    bool in_arrows = false;
    for (std::string word; words >> word;) {
      if (word == "ARROWS" || word == "SOURCES" || word == "LIBRARIES") {
        in_arrows = word == "ARROWS";
      } else if (in_arrows) {
        found.insert(word);
      }
    }
  }
  return found;
}

TEST(Arrows, HaveNoCycle) {
  const Arrows arrows = drawn_arrows();
  for (const auto& [room, targets] : arrows) {
    for (const std::string& target : targets) {
      if (target == "*") continue;
      EXPECT_TRUE(arrows.contains(target)) << room << " points at " << target << ", which has no line of its own";
      EXPECT_FALSE(reach(arrows, target).contains(room)) << room << " -> " << target << " closes a cycle";
    }
  }
}

TEST(Arrows, EveryFolderOfSrcIsARoom) {
  const Arrows arrows = drawn_arrows();
  for (const std::string& file : files("src")) {
    if (!is_source(file)) continue;
    EXPECT_NE(room_of(arrows, file.substr(4)), "") << file << " lies in no room of ARCHITECTURE.md";
  }
}

TEST(Arrows, IncludesFollowThem) {
  const Arrows arrows = drawn_arrows();
  for (const Include& include : includes("src")) {
    if (!include.quoted || include.target.starts_with("hwy/")) continue;
    const std::string from = room_of(arrows, include.file.substr(4));
    const std::string to = room_of(arrows, include.target);
    if (to.empty()) {
      ADD_FAILURE() << include.file << ":" << include.line << ": \"" << include.target
                    << "\" names no room: write our headers from src/ on, and those of libraries in <>";
      continue;
    }
    EXPECT_TRUE(exists("src/" + include.target)) << include.file << ":" << include.line << ": no " << include.target;
    EXPECT_TRUE(reach(arrows, from).contains(to))
        << include.file << ":" << include.line << ": " << from << " may not include " << to << " (\"" << include.target
        << "\"); the arrows are in ARCHITECTURE.md";
  }
}

TEST(Arrows, CMakeLinksExactlyThem) {
  const Arrows arrows = drawn_arrows();
  for (const auto& [room, targets] : arrows) {
    const std::string cmake = "src/" + room + "/CMakeLists.txt";
    if (!exists(cmake) || targets.contains("*")) continue;
    std::set<std::string> wanted;
    for (const std::string& target : targets) wanted.insert(cmake_name(target));
    std::set<std::string> linked = linked_arrows(text(cmake));
    linked.erase("base");  // comes with whit_room
    EXPECT_EQ(linked, wanted) << cmake << ": the ARROWS of whit_room(" << cmake_name(room) << ") are not those drawn";
  }
}

// A method never includes another method; what methods share lives in methods/math.
TEST(Arrows, MethodsStandAlone) {
  static const std::set<std::string> stages = {"importance", "allocate",    "transform", "prune",
                                               "quantize",   "reconstruct", "tune",      "cache"};
  const auto stage_of = [](const std::string& path) {  // "quantize" of "methods/quantize/gptq.cc"
    const auto slash = path.find('/', 8);
    return path.starts_with("methods/") && slash != std::string::npos ? path.substr(8, slash - 8) : std::string();
  };
  for (const std::string& file : files("src/methods")) {
    if (!stages.contains(stage_of(file.substr(4)))) continue;
    EXPECT_FALSE(file.ends_with(".h")) << file << ": a method is one .cc; shared mathematics goes to methods/math";
  }
  for (const Include& include : includes("src/methods")) {
    EXPECT_FALSE(stages.contains(stage_of(include.target)))
        << include.file << ":" << include.line << ": includes a method (" << include.target << ")";
  }
}

TEST(Comparators, SeeAWrongArrow) {
  const Arrows arrows = {{"format", {}}, {"spec", {"format"}}, {"runtime", {"spec"}}, {"cli", {"*"}}};
  EXPECT_TRUE(reach(arrows, "runtime").contains("format"));
  EXPECT_FALSE(reach(arrows, "format").contains("spec"));
  EXPECT_TRUE(reach(arrows, "cli").contains("runtime"));
  EXPECT_EQ(linked_arrows("# whit_room(x ARROWS no)\nwhit_room(a SOURCES b.cc\n ARROWS c d # e\n LIBRARIES f)"),
            (std::set<std::string>{"c", "d"}));
}

}  // namespace
}  // namespace whit::house
