// The default texts as set-up installs them. Skipped where they are not there.
#include <gtest/gtest.h>

#include <algorithm>
#include <filesystem>
#include <sstream>

#include "base/error.h"
#include "data/text.h"

namespace whit {
namespace {

TEST(Packages, Novels) {
  std::string text;
  try {
    text = default_calibration_text();
  } catch (const Error& error) {
    GTEST_SKIP() << error.what();
  }
  EXPECT_GT(text.size(), 3900000u);
  EXPECT_LT(text.size(), 4200000u);
  size_t before = 0;
  for (const char* title : {"EMMA\n", "MANSFIELD PARK\n", "NORTHANGER ABBEY\n", "Persuasion\n", "PRIDE AND PREJUDICE\n",
                            "SENSE AND SENSIBILITY\n"}) {
    const size_t at = text.find(title);
    ASSERT_NE(at, std::string::npos) << title;
    EXPECT_TRUE(at == 0 || at > before) << title;
    before = at;
  }
}

// The same novels, in another order and from another source, where a developer has them.
TEST(Packages, NovelsAreTheKnownOnes) {
  const auto path = std::filesystem::path(WHIT_SOURCE_DIR) / "../shared/data/text/janeausten.txt";
  std::string text;
  try {
    text = default_calibration_text();
  } catch (const Error& error) {
    GTEST_SKIP() << error.what();
  }
  if (!std::filesystem::exists(path)) GTEST_SKIP() << "no " << path;
  const auto lines = [](const std::string& whole) {
    std::vector<std::string> out;
    std::istringstream stream(whole);
    for (std::string line; std::getline(stream, line);)
      if (!line.empty()) out.push_back(line);
    std::sort(out.begin(), out.end());
    return out;
  };
  EXPECT_TRUE(lines(text) == lines(read_text(path)));
}

TEST(Packages, JargonFile) {
  std::string text;
  try {
    text = default_judging_text();
  } catch (const Error& error) {
    GTEST_SKIP() << error.what();
  }
  EXPECT_GT(text.size(), 1500000u);
  EXPECT_NE(text.find("The Jargon File"), std::string::npos);
}

}  // namespace
}  // namespace whit
