#include "base/toml.h"

#include <gtest/gtest.h>
#include <toml++/toml.h>

namespace whit {
namespace {

TEST(Toml, ARecipeReadsBackAsItWas) {
  const Json recipe = Json::parse(R"({"whit": 1, "calibrate": {"tokens": 8192, "seed": 0},
    "step": [{"method": "gptq", "tensors": "blk.*", "damp_ratio": 0.01, "act_order": true,
              "format": {"name": "grid", "bits": 3, "group": 64}},
             {"method": "rtn", "tensors": "token_embd.weight", "note": "quote \" and \\ and \n line", "format": "q8_0"}]})");
  const std::string text = json_to_toml(recipe);
  const toml::table table = toml::parse(text);
  EXPECT_EQ(table["whit"].value<int64_t>(), 1);
  EXPECT_EQ(table["calibrate"]["tokens"].value<int64_t>(), 8192);
  EXPECT_EQ(table["step"][0]["format"]["group"].value<int64_t>(), 64);
  EXPECT_EQ(table["step"][0]["damp_ratio"].value<double>(), 0.01);
  EXPECT_EQ(table["step"][0]["act_order"].value<bool>(), true);
  EXPECT_EQ(table["step"][1]["note"].value<std::string>(), "quote \" and \\ and \n line");
  EXPECT_NE(text.find("[[step]]"), std::string::npos) << text;
  EXPECT_NE(text.find("[calibrate]"), std::string::npos) << text;
}

}  // namespace
}  // namespace whit
