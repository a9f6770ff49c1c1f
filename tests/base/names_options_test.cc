// Help for mistyped names, globs, options from JSON and back, and what an error says.
#include <gtest/gtest.h>

#include "base/options.h"

namespace whit {
namespace {

TEST(Names, TheNearestIsOffered) {
  const std::vector<std::string> known = {"gptq", "rtn", "knapsack"};
  EXPECT_EQ(nearest_name("gtpq", known), "gptq");
  EXPECT_EQ(nearest_name("knapsak", known), "knapsack");
  EXPECT_EQ(nearest_name("something else", known), "");
  EXPECT_EQ(nearest_name("anything", {}), "");
  const std::vector<std::string> options = {"-h", "--threads", "grid", "ria", "q4_k", "gptq-4"};
  EXPECT_EQ(nearest_name("gird", options), "grid");  // two letters changed places
  EXPECT_EQ(nearest_name("GPTQ-4", options), "gptq-4");
  EXPECT_EQ(nearest_name("Q4_K_M", options), "q4_k");
  EXPECT_EQ(nearest_name("--thr", options), "--threads");
  EXPECT_EQ(nearest_name("-x", options), "");
  EXPECT_EQ(nearest_name("rixx", options), "");
  EXPECT_EQ(nearest_name(std::string(100000, 'x'), known), "");  // hostile lengths cost nothing
  EXPECT_NE(suggest_name("something else", known).find("knapsack"), std::string::npos);
}

TEST(Names, GlobsMatchTheWholeName) {
  EXPECT_TRUE(glob_match("blk.*", "blk.0.attn_q.weight"));
  EXPECT_TRUE(glob_match("blk.?.attn_*.weight", "blk.7.attn_output.weight"));
  EXPECT_FALSE(glob_match("blk.?.attn_*.weight", "blk.17.attn_output.weight"));
  EXPECT_FALSE(glob_match("blk", "blk.0"));
  EXPECT_TRUE(glob_match("*", ""));
  EXPECT_FALSE(glob_match("", "x"));
  EXPECT_TRUE(glob_match("**a*b", "xxaxxab"));
  EXPECT_FALSE(glob_match("*a*b", "xxaxxabc"));
  // No exponential walk: this would not end otherwise.
  EXPECT_FALSE(glob_match("*a*a*a*a*a*a*a*a*a*a*a*a*b", std::string(5000, 'a')));
}

struct Knobs {
  int bits = 4;
  int64_t seed = 0;
  double damp = 0.01;
  bool order = true;
  std::string range = "search";
  template <class V>
  void visit(V& v) {
    v("bits", bits, "bits of a code", Range{2, 8});
    v("seed", seed, "any");
    v("damp", damp, "share of the mean diagonal", Range{0, 1});
    v("order", order, "largest first");
    v("range", range, "how the range is found", Choices{{"minmax", "search"}});
  }
};

std::string refusal(const char* json, std::string* found = nullptr) {
  Knobs knobs;
  try {
    read_options(knobs, Json::parse(json), "step 2 (gptq)");
  } catch (const Error& error) {
    EXPECT_EQ(error.kind(), ErrorKind::usage);
    EXPECT_NE(error.where().find("step 2 (gptq)"), std::string::npos);
    if (found) *found = error.found();
    return error.what();
  }
  return "";
}

TEST(Options, AreReadAndWrittenAlike) {
  Knobs knobs;
  read_options(knobs, Json::parse(R"({"bits": 3, "range": "minmax", "damp": 1, "order": false, "seed": -5})"), "here");
  EXPECT_EQ(knobs.bits, 3);
  EXPECT_EQ(knobs.damp, 1.0);
  const Json written = write_options(knobs);
  EXPECT_EQ(written.dump(), R"({"bits":3,"seed":-5,"damp":1.0,"order":false,"range":"minmax"})");
  Knobs again;
  read_options(again, written, "here");
  EXPECT_EQ(write_options(again), written);
}

TEST(Options, RefuseNonsense) {
  EXPECT_NE(refusal(R"({"bitz": 3})").find("did you mean 'bits'"), std::string::npos);
  EXPECT_NE(refusal(R"({"bits": 9})").find("2 to 8"), std::string::npos);
  EXPECT_NE(refusal(R"({"bits": 3.5})"), "");
  EXPECT_NE(refusal(R"({"bits": "3"})"), "");
  EXPECT_NE(refusal(R"({"bits": true})"), "");
  EXPECT_NE(refusal(R"({"bits": 18446744073709551615})"), "");
  EXPECT_NE(refusal(R"({"seed": 18446744073709551615})"), "");
  EXPECT_NE(refusal(R"({"bits": 4294967300})"), "");  // 4 in 32 bits
  EXPECT_NE(refusal(R"({"damp": null})"), "");
  EXPECT_NE(refusal(R"({"damp": -0.1})"), "");
  EXPECT_NE(refusal(R"({"order": 1})"), "");
  EXPECT_NE(refusal(R"({"range": "serch"})").find("did you mean 'search'"), std::string::npos);
  EXPECT_NE(refusal(R"([3])"), "");
  Knobs knobs;
  EXPECT_THROW(read_options(knobs, Json{{"damp", std::nan("")}}, "here"), Error);
}

TEST(Options, DescribeThemselves) {
  const auto lines = describe_options<Knobs>();
  ASSERT_EQ(lines.size(), 5u);
  EXPECT_EQ(lines[0].limits, "2 to 8");
  EXPECT_EQ(lines[0].fallback, "4");
  EXPECT_EQ(lines[4].limits, "minmax | search");
}

TEST(Error, SaysAllFourParts) {
  const Error error(ErrorKind::budget, "the budget cannot be met", "--fit", "1MB", "at least 36 MB");
  for (const char* part : {"the budget cannot be met", "--fit", "1MB", "at least 36 MB"}) {
    EXPECT_NE(std::string(error.what()).find(part), std::string::npos) << error.what();
  }
  EXPECT_EQ(error.exit_code(), 4);
  EXPECT_THROW(WHIT_CHECK(1 + 1 == 3), Error);
  try {
    WHIT_CHECK(1 + 1 == 3);
  } catch (const Error& mistake) {
    EXPECT_EQ(mistake.exit_code(), 1);
  }
}

}  // namespace
}  // namespace whit
