#include "pipeline/recipe.h"

#include <gtest/gtest.h>

#include "base/file.h"
#include "format/format_options.h"

namespace whit {
namespace {

constexpr const char* kExample = R"(
whit = 1
[calibrate]
data = "text.txt"
tokens = 4096
[[step]]
method = "gptq"
tensors = "blk.*"
format = { name = "grid", bits = 3, group = 64 }
[[step]]
method = "rtn"
tensors = "token_embd.weight"
format = { name = "grid", bits = 6, group = 32 }
)";

Error error_of(const std::string& toml) {
  try {
    parse_recipe(toml, "test");
  } catch (const Error& error) {
    return error;
  }
  ADD_FAILURE() << "accepted: " << toml;
  return Error(ErrorKind::internal, "none");
}

UnitSpec unit(const std::string& name, std::vector<std::string> members) {
  UnitSpec spec;
  spec.name = name;
  spec.members = std::move(members);
  return spec;
}

TEST(Recipe, ReadsAndKeepsEverything) {
  const Recipe recipe = parse_recipe(kExample, "test");
  EXPECT_EQ(recipe.calibrate.data, "text.txt");
  EXPECT_EQ(recipe.calibrate.tokens, 4096);
  ASSERT_EQ(recipe.steps.size(), 2u);
  EXPECT_EQ(recipe.steps[0].method, "gptq");
  EXPECT_EQ(recipe.steps[1].tensors, std::vector<std::string>{"token_embd.weight"});
  // TOML -> JSON -> TOML -> JSON stands still: a manifest's recipe is the recipe.
  const Json json = recipe_to_json(recipe);
  EXPECT_EQ(recipe_to_json(parse_recipe(recipe_to_toml(recipe), "again")), json);
  EXPECT_EQ(recipe_to_json(recipe_from_json(json, "json")), json);
}

TEST(Recipe, EveryPresetIsAValidRecipe) {
  ASSERT_GE(presets().size(), 12u);
  for (const Preset& preset : presets()) EXPECT_NO_THROW(preset_recipe(preset.name)) << preset.name;
  EXPECT_THROW(preset_recipe("gtpq-4"), Error);
  // N:M as the papers write it.
  EXPECT_EQ(recipe_to_json(preset_recipe("stbllm-4:8")), recipe_to_json(preset_recipe("stbllm-4-8")));
}

TEST(Recipe, TheLaterMatchWins) {
  const Recipe recipe = parse_recipe(std::string(kExample) + R"(
[[step]]
method = "rtn"
tensors = "blk.1.ffn_down.weight"
format = "q8_0"
)",
                                     "test");
  const auto steps = [&](const std::string& name) { return steps_for(recipe, unit(name, {name})); };
  ASSERT_EQ(steps("blk.0.ffn_down.weight").size(), 1u);
  EXPECT_EQ(steps("blk.0.ffn_down.weight")[0]->method, "gptq");
  EXPECT_EQ(steps("blk.1.ffn_down.weight")[0]->format->label(), "q8_0");
  EXPECT_TRUE(steps("output.weight").empty());
}

TEST(Recipe, AGlobThatCutsAStackIsRefused) {
  const Recipe recipe = parse_recipe(R"(
whit = 1
[[step]]
method = "rtn"
tensors = "blk.*.attn_v.weight"
format = "q8_0"
)",
                                     "test");
  const UnitSpec qkv =
      unit("blk.0.attn_qkv.weight", {"blk.0.attn_q.weight", "blk.0.attn_k.weight", "blk.0.attn_v.weight"});
  EXPECT_THROW(steps_for(recipe, qkv), Error);
}

TEST(Recipe, NonsenseIsRefusedWithTheNearestName) {
  const std::string head = "whit = 1\n[[step]]\nmethod = \"rtn\"\ntensors = \"*\"\nformat = \"q8_0\"\n";
  EXPECT_EQ(error_of("whit = 2").kind(), ErrorKind::usage);
  EXPECT_EQ(error_of("whit = 1").kind(), ErrorKind::usage);
  EXPECT_NE(error_of(head + "damp = 3\n").found().find("damp"), std::string::npos);
  EXPECT_NE(error_of("whit = 1\ncalibrat = 1\n").hint().find("calibrate"), std::string::npos);
  EXPECT_NE(error_of("whit = 1\n[calibrate]\ntoken = 5\n" + head.substr(9)).hint().find("tokens"), std::string::npos);
  EXPECT_NE(error_of("whit = 1\n[[step]]\nmethod = \"gtpq\"\n").hint().find("gptq"), std::string::npos);
  EXPECT_NE(error_of("whit = 1\n[[step]]\nmethod = \"rtn\"\ntensors = \"*\"\nformat = \"q8_1\"\n").hint().find("q8_0"),
            std::string::npos);
  EXPECT_EQ(error_of("whit = 1\n[[step]]\nmethod = \"rtn\"\ntensors = 5\nformat = \"q8_0\"\n").kind(),
            ErrorKind::usage);
  EXPECT_EQ(error_of("whit = 1\n[[step]]\nmethod = \"rtn\"\ntensors = \"*\"\n").kind(), ErrorKind::usage);
  EXPECT_EQ(error_of("whit = 1\nwhen = 2020-01-01\n").kind(), ErrorKind::usage);
  EXPECT_EQ(error_of("whit = = 1").kind(), ErrorKind::usage);
  std::string deep = "whit = 1\nx = ";
  for (int i = 0; i < 5000; ++i) deep += '[';
  EXPECT_EQ(error_of(deep).kind(), ErrorKind::usage);
}

// What would have no effect beside the other steps is refused by name.
TEST(Recipe, NothingVanishesSilently) {
  const std::string rtn = "[[step]]\nmethod = \"rtn\"\ntensors = \"*\"\nformat = \"q8_0\"\n";
  const std::string distill = "[[step]]\nmethod = \"distill\"\n", blocks = "[[step]]\nmethod = \"blockwise\"\n";
  const std::string choose =
      "[[step]]\nmethod = \"knapsack\"\nquantizer = \"rtn\"\nformats = [\"q8_0\"]\nembedding_formats = [\"q8_0\"]\n";
  const auto refused = [](const std::string& steps, const std::string& name) {
    const Error error = error_of("whit = 1\n" + steps);
    EXPECT_EQ(error.kind(), ErrorKind::usage) << steps;
    EXPECT_NE((error.found() + error.where()).find(name), std::string::npos) << error.what();
  };
  refused(rtn + distill + distill, "distill and distill");
  refused(rtn + blocks + blocks, "blockwise and blockwise");
  refused(choose + choose, "knapsack and knapsack");
  refused(choose + rtn, "rtn");
  refused("[tune]\ntokens = 5\n" + rtn, "tune");
  parse_recipe("whit = 1\n[tune]\ntokens = 5\n" + rtn + distill, "test");
  parse_recipe("whit = 1\n[tune]\ndata = \"self\"\n" + choose, "test");  // for --minutes
}

TEST(Recipe, SizesAndNumbersOfTokensAreTexts) {
  const std::string allocate = R"(
whit = 1
[calibrate]
tokens = "32k"
[tune]
tokens = "5M"
text_tokens = "0.5M"
[[step]]
method = "knapsack"
quantizer = "rtn"
formats = ["q4_0"]
embedding_formats = ["q8_0"]
budget = )";
  const Recipe recipe = parse_recipe(allocate + "\"1.5mb\"", "test");
  EXPECT_EQ(recipe.calibrate.tokens, 32000);
  EXPECT_EQ(recipe.tune.tokens, 5000000);
  EXPECT_EQ(recipe.tune.text_tokens, 500000);
  EXPECT_EQ(recipe.steps[0].budget, 1500000u);
  EXPECT_EQ(parse_recipe(allocate + "61900000", "test").steps[0].budget, 61900000u);
  EXPECT_NE(std::string(error_of(allocate + "\"much\"").what()).find("60MiB, 45MB"), std::string::npos);
  EXPECT_EQ(error_of(allocate + "1.5").kind(), ErrorKind::usage);
}

TEST(Budget, UnitsAndNonsense) {
  EXPECT_EQ(parse_budget("60MiB", 1), 60u * 1048576u);
  EXPECT_EQ(parse_budget("45MB", 1), 45000000u);
  EXPECT_EQ(parse_budget("1234567", 1), 1234567u);
  EXPECT_EQ(parse_budget("0.5GB", 1), 500000000u);
  EXPECT_EQ(parse_budget("12mb", 1), 12000000u);
  EXPECT_EQ(parse_budget("3.1bpw", 134515008), 52124565u);  // floor(3.1 x 134515008 / 8)
  for (const char* bad : {"", "MB", "-5MB", "0", "5 apples", "nan", "inf", "1e300GB", "12mbit"})
    EXPECT_THROW(parse_budget(bad, 1000), Error) << bad;
}

// docs/recipes.md says what is true.
TEST(RecipesPage, EveryTomlBlockIsARecipe) {
  const std::string page = read_file(WHIT_SOURCE_DIR "/docs/recipes.md", 1 << 20);
  const std::string fence = "```toml\n";
  size_t blocks = 0;
  for (size_t at = page.find(fence); at != std::string::npos; at = page.find(fence, at), ++blocks) {
    at += fence.size();
    EXPECT_NO_THROW(parse_recipe(page.substr(at, page.find("```", at) - at), "docs/recipes.md")) << page.substr(at, 200);
  }
  EXPECT_GE(blocks, 5u);
}

TEST(RecipesPage, NamesEveryKeyWithItsDefault) {
  const std::string page = read_file(WHIT_SOURCE_DIR "/docs/recipes.md", 1 << 20);
  const auto section = [&](const std::string& title) {
    const size_t begin = page.find(title);
    return page.substr(begin, page.find("\n##", begin + title.size()) - begin);
  };
  const auto named = [&](const std::string& title, const std::vector<OptionDescription>& options) {
    const std::string text = section(title);
    for (const OptionDescription& option : options) {
      const std::string key = "\n| `" + option.name + "` | ";
      const size_t at = text.find(key);
      ASSERT_NE(at, std::string::npos) << title << ": " << option.name;
      if (option.name == "data_hash") continue;
      const std::string fallback = text.substr(at + key.size(), text.find(" |", at + key.size()) - at - key.size());
      EXPECT_TRUE(fallback == option.fallback || fallback == "`" + option.fallback + "`") << option.name << ": " << fallback;
    }
  };
  named("### [calibrate]", describe_options<CalibrateOptions>());
  named("### [tune]", describe_options<TuneOptions>());
  for (const char* key : {"method", "tensors", "format", "budget", "quantizer", "formats", "embedding_formats"})
    EXPECT_NE(section("### [[step]]").find("\n| `" + std::string(key) + "` | "), std::string::npos) << key;
  const std::string formats = section("## Formats");
  for (const FormatRow& row : format_rows()) {
    const size_t at = formats.find("\n| `" + row.name + "` | ");
    EXPECT_EQ(at == std::string::npos, format_options(row.name).empty()) << row.name;
    const std::string line = at == std::string::npos ? "" : formats.substr(at, formats.find('\n', at + 1) - at);
    for (const OptionDescription& option : format_options(row.name)) {
      // nm_grid refers to grid for what it shares with it.
      const std::string where = row.name == "nm_grid" ? formats : line;
      EXPECT_NE(where.find("`" + option.name), std::string::npos) << row.name << ": " << option.name;
    }
  }
  for (const MethodRow& method : method_rows())
    if (method.stage != Stage::quantize) {
      EXPECT_NE(page.find(method.name), std::string::npos) << method.name;
    }
}

}  // namespace
}  // namespace whit
