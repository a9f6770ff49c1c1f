// What every file of the repository must be: about the project alone, and short enough to read.
#include <gtest/gtest.h>

#include <algorithm>
#include <iostream>

#include "house/tree.h"

namespace whit::house {
namespace {

bool is_text(std::string_view path) {
  if (path.starts_with("tests/data/") || path.starts_with("tests/fuzz/corpus")) return false;
  return is_source(path) || ends_with_any(path, {".md", ".txt", ".cmake", ".json", ".toml", ".sh", ".py", ".html", ".js",
                                                 ".yml", ".yaml", ".svg", "/run", ".clang-format", ".clang-tidy",
                                                 ".gitignore", "CMakeLists.txt"});
}

// Paths of one developer's machine and hosts of registries. Written in halves, so that this file has none of them.
TEST(Text, NamesNoMachineAndNoRegistry) {
  const std::vector<std::string> words = {
      std::string("/wo") + "rk/",     std::string("/tm") + "p/wt",      std::string(".lib") + "rary",
      std::string("/hom") + "e/",     std::string("/roo") + "t/",       std::string("python") + "hosted.org",
      std::string("pypi") + ".org",   std::string("deb.deb") + "ian.",  std::string("snapshot.deb") + "ian.",
      std::string("/tm") + "p/setup", std::string("/tm") + "p/brief",
  };
  for (const std::string& file : files("")) {
    if (!is_text(file)) continue;
    int number = 0;
    for (const std::string& line : lines(text(file))) {
      ++number;
      for (const std::string& word : words) {
        EXPECT_EQ(line.find(word), std::string::npos) << file << ":" << number << ": '" << word << "'\n  " << line;
      }
    }
  }
}

TEST(Text, HasNoTabsOrTrailingBlanksInSources) {
  for (const std::string& file : files("")) {
    if (!is_source(file) || file.starts_with("tests/data/")) continue;
    int number = 0;
    for (const std::string& line : lines(text(file))) {
      ++number;
      EXPECT_EQ(line.find('\t'), std::string::npos) << file << ":" << number << ": a tab";
      EXPECT_FALSE(line.ends_with(' ') || line.ends_with('\r')) << file << ":" << number << ": blanks at the end";
    }
  }
}

// A source begins by saying what it is.
TEST(Text, HeadersBeginWithTheirPurpose) {
  for (const std::string& file : files("src")) {
    if (!file.ends_with(".h")) continue;
    EXPECT_TRUE(text(file).starts_with("//")) << file << ": the first line should say what this header offers";
    EXPECT_TRUE(text(file).find("#pragma once") != std::string::npos || file.ends_with("-inl.h"))
        << file << ": no #pragma once";
  }
}

// A list, not a verdict: is each of these still one thing?
TEST(Text, ListsLongFiles) {
  std::vector<std::pair<size_t, std::string>> found;
  for (const std::string& file : files("src")) {
    if (!is_source(file)) continue;
    const size_t count = lines(text(file)).size();
    EXPECT_LE(count, 1000u) << file << ": nobody reads this in ten minutes";
    if (count > 400) found.emplace_back(count, file);
  }
  std::sort(found.rbegin(), found.rend());
  for (const auto& [count, file] : found) std::cout << "long file: " << count << " lines, " << file << "\n";
}

TEST(Text, ScriptsAreExecutable) {
  namespace fs = std::filesystem;
  for (const char* script : {"setup.sh", "test.sh", "demo.sh", ".ci/run"}) {
    if (!exists(script)) continue;
    const auto permissions = fs::status(fs::path(WHIT_SOURCE_DIR) / script).permissions();
    EXPECT_NE(permissions & fs::perms::owner_exec, fs::perms::none) << script;
  }
}

}  // namespace
}  // namespace whit::house
