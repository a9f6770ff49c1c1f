#include <gtest/gtest.h>

#include <set>

#include "methods/stages.h"

namespace whit {
namespace {

TEST(Methods, EachRowIsCompleteAndItsNameUnique) {
  std::set<std::string> names;
  for (const MethodRow& row : method_rows()) {
    EXPECT_TRUE(names.insert(row.name).second) << row.name;
    EXPECT_FALSE(row.summary.empty()) << row.name;
    EXPECT_FALSE(row.needs.empty()) << row.name;
    EXPECT_TRUE(row.status == "stable" || row.status == "trial") << row.name;
    for (const OptionDescription& option : row.options) EXPECT_FALSE(option.text.empty()) << row.name << option.name;
  }
}

TEST(Methods, StagesAreInTheOrderOfARecipe) {
  ASSERT_EQ(stage_rows().size(), 9u);
  EXPECT_EQ(stage_rows()[0].name, "basis");
  EXPECT_EQ(stage_rows()[5].name, "quantize");
  EXPECT_TRUE(stage_rows()[2].whole_model);
  EXPECT_FALSE(stage_rows()[5].whole_model);
}

TEST(Methods, UnknownNameGetsTheNearestOne) {
  try {
    make_quantizer("gtpq", Json::object());
    FAIL();
  } catch (const Error& error) {
    EXPECT_EQ(error.kind(), ErrorKind::usage);
    EXPECT_NE(std::string(error.what()).find("gptq"), std::string::npos) << error.what();
  }
}

TEST(Methods, AMethodOfAnotherStageIsRefused) {
  EXPECT_THROW(make_quantizer("knapsack", Json::object()), Error);
  EXPECT_THROW(make_allocator("rtn", Json::object()), Error);
  EXPECT_NO_THROW(make_allocator("knapsack", Json::object()));
}

}  // namespace
}  // namespace whit
