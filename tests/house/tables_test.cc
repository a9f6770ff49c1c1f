// A method is one file, one test, one row; a format is a row and a reference decoder. None without the others.
#include <gtest/gtest.h>

#include <regex>

#include "house/tree.h"

namespace whit::house {
namespace {

struct Row {
  std::string stage, name;
};

// WHIT_METHOD(quantize, gptq, ...) -> {quantize, gptq}
std::vector<Row> rows_of(const std::string& table, const std::string& macro) {
  std::string code;
  for (const std::string& line : lines(table)) {
    if (!line.starts_with("//")) code += line + "\n";
  }
  const std::regex row(macro + R"(\(\s*(\w+)\s*,\s*(\w+))");
  std::vector<Row> found;
  for (auto it = std::sregex_iterator(code.begin(), code.end(), row); it != std::sregex_iterator(); ++it) {
    found.push_back({(*it)[1], (*it)[2]});
  }
  return found;
}

TEST(MethodsTable, ARowHasAFileAndATest) {
  const auto rows = rows_of(text("src/methods/methods.def"), "WHIT_METHOD");
  ASSERT_GE(rows.size(), 3u) << "the table was not understood";
  for (const Row& row : rows) {
    EXPECT_TRUE(exists("src/methods/" + row.stage + "/" + row.name + ".cc")) << "row " << row.name << " has no file";
    const std::string test = "tests/methods/" + row.stage + "/" + row.name + "_test.cc";
    ASSERT_TRUE(exists(test)) << "row " << row.name << " has no test (" << test << ")";
    EXPECT_NE(text(test).find('"' + row.name + '"'), std::string::npos)
        << test << ": should reach the method by its name, as a recipe does";
  }
}

TEST(MethodsTable, AFileHasARow) {
  const auto rows = rows_of(text("src/methods/methods.def"), "WHIT_METHOD");
  std::set<std::string> stages, known;
  static const std::regex stage_row(R"(\nWHIT_STAGE\(\s*(\w+))");
  const std::string table = text("src/methods/stages.def");
  for (auto it = std::sregex_iterator(table.begin(), table.end(), stage_row); it != std::sregex_iterator(); ++it) {
    stages.insert((*it)[1]);
  }
  for (const Row& row : rows) {
    EXPECT_TRUE(stages.contains(row.stage)) << "row " << row.name << ": no stage " << row.stage << " in stages.def";
    EXPECT_TRUE(known.insert(row.stage + "/" + row.name + ".cc").second) << "row " << row.name << " is there twice";
  }
  for (const std::string& stage : stages) {
    for (const std::string& file : files("src/methods/" + stage)) {
      if (!file.ends_with(".cc")) continue;
      EXPECT_TRUE(known.contains(file.substr(std::string("src/methods/").size()))) << file << " has no row in methods.def";
    }
  }
}

// A header of a method's file: which paper, and where we differ from it.
TEST(MethodsTable, AFileSaysWhatItIs) {
  for (const Row& row : rows_of(text("src/methods/methods.def"), "WHIT_METHOD")) {
    const std::string file = "src/methods/" + row.stage + "/" + row.name + ".cc";
    if (exists(file)) {
      EXPECT_TRUE(text(file).starts_with("//")) << file << ": begins without saying what it is";
    }
  }
}

TEST(Comparators, ReadRows) {
  const auto rows = rows_of("// WHIT_METHOD(a, b)\nWHIT_METHOD(quantize, rtn, \"\")\nWHIT_METHOD(\n  prune, wanda,\n", "WHIT_METHOD");
  ASSERT_EQ(rows.size(), 2u);
  EXPECT_EQ(rows[0].name, "rtn");
  EXPECT_EQ(rows[1].stage, "prune");
}

}  // namespace
}  // namespace whit::house
