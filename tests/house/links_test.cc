// Documents point at files that exist.
#include <gtest/gtest.h>

#include <filesystem>
#include <regex>

#include "house/tree.h"

namespace whit::house {
namespace {

TEST(Documents, LinksLeadToFiles) {
  static const std::regex link(R"(\]\(([^)\s#]+)(#[^)]*)?\))");
  for (const std::string& file : files("")) {
    if (!file.ends_with(".md")) continue;
    const std::string content = text(file);
    for (auto it = std::sregex_iterator(content.begin(), content.end(), link); it != std::sregex_iterator(); ++it) {
      const std::string target = (*it)[1];
      if (target.find("://") != std::string::npos) continue;
      const auto path = (std::filesystem::path(file).parent_path() / target).lexically_normal();
      EXPECT_TRUE(exists(path.generic_string())) << file << ": (" << target << ") leads nowhere";
    }
  }
}

TEST(Documents, DecisionsAreListed) {
  const std::string list = text("docs/decisions/README.md");
  for (const std::string& file : files("docs/decisions")) {
    const std::string name = std::filesystem::path(file).filename();
    if (name == "README.md") continue;
    EXPECT_NE(list.find("(" + name + ")"), std::string::npos) << file << " is not listed in docs/decisions/README.md";
  }
}

}  // namespace
}  // namespace whit::house
