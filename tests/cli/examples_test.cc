// The help of every verb ends with an example, and the example runs; so do the recipes of docs/recipes.md.
#include <gtest/gtest.h>

#include <filesystem>
#include <utility>

#include "cli/program.h"

namespace whit {
namespace {

// In this process, which has LibTorch at hand, where the line asks nothing of a shell.
Outcome call_line(const std::string& line, const std::filesystem::path& folder) {
  if (line.find_first_of("<>|;&") != std::string::npos || line.find('\n') != line.size() - 1)
    return call_shell(line, folder);
  std::vector<std::string> words;
  std::string word;
  bool quoted = false;
  for (const char c : line) {
    if (c == '"')
      quoted = !quoted;
    else if (quoted || (c != ' ' && c != '\n'))
      word += c;
    else if (!word.empty())
      words.push_back(std::exchange(word, {}));
  }
  EXPECT_EQ(words.front(), "whit");
  words.erase(words.begin());
  const std::filesystem::path before = std::filesystem::current_path();
  std::filesystem::current_path(folder);
  const Outcome outcome = call_whit(words);
  std::filesystem::current_path(before);
  return outcome;
}

TEST(Examples, OfHelpRun) {
  const Outcome help = call_whit({"--help"});
  ASSERT_EQ(help.code, 0);
  size_t verbs = 0;
  size_t at = help.out.find("Verbs:\n");
  ASSERT_NE(at, std::string::npos);
  at += 7;
  while (help.out.compare(at, 2, "  ") == 0) {
    const std::string verb = help.out.substr(at + 2, help.out.find(' ', at + 2) - at - 2);
    at = help.out.find('\n', at) + 1;
    ++verbs;
    const Outcome told = call_whit({verb, "--help"});
    EXPECT_EQ(told.code, 0) << verb;
    const size_t example = told.out.find("Example:\n  ");
    ASSERT_NE(example, std::string::npos) << verb;
    // In a folder of its own that looks like the project's.
    const TemporaryFolder folder;
    for (const char* name : {"tests", "README.md", "docs"})
      std::filesystem::create_symlink(std::filesystem::path(WHIT_SOURCE_DIR) / name, folder.path() / name);
    const Outcome outcome = call_line(told.out.substr(example + 11), folder.path());
    EXPECT_EQ(outcome.code, 0) << verb << "\n" << told.out.substr(example) << outcome.error;
    EXPECT_NE(outcome.out, "") << verb;
  }
  EXPECT_GE(verbs, 5u);
}

#ifdef WHIT_LEARN
TEST(Examples, RecipesOfTheirPageRun) {
  const std::string page = read_all(std::filesystem::path(WHIT_SOURCE_DIR) / "docs/recipes.md"), fence = "```toml\n";
  const TemporaryFolder folder;
  std::filesystem::create_symlink(std::filesystem::path(WHIT_SOURCE_DIR) / "docs", folder.path() / "docs");
  size_t recipes = 0;
  for (size_t at = page.find(fence); at != std::string::npos; at = page.find(fence, at)) {
    at += fence.size();
    const std::string name = "recipe" + std::to_string(++recipes);
    folder.file(name + ".toml", page.substr(at, page.find("```", at) - at));
    const Outcome made =
        call_line("whit compress " WHIT_SOURCE_DIR "/tests/data/models/stories260K.gguf --data docs/cli.md " +
                      std::string("--no-check --recipe ") + name + ".toml -o " + name + ".gguf\n",
                  folder.path());
    EXPECT_EQ(made.code, 0) << name << "\n" << made.error;
    EXPECT_TRUE(std::filesystem::exists(folder.path() / (name + ".gguf"))) << name;
  }
  EXPECT_GE(recipes, 5u);
}
#endif

}  // namespace
}  // namespace whit
