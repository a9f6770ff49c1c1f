// --fit over formats that need training: which family at which rate, and plans that meet a size.
#include "pipeline/family.h"

#include <gtest/gtest.h>

#include "base/file.h"
#include "pipeline/compress.h"
#include "pipeline/toys.h"

namespace whit {
namespace {

TEST(Family, TheTableSaysWhichIsBestAtARate) {
  const auto best = [](double rate) { return family_offers(rate).front(); };
  EXPECT_EQ(best(0.7).family, "factors");
  EXPECT_TRUE(best(0.7).measured);
  EXPECT_EQ(best(2.3).family, "rotated");
  EXPECT_EQ(best(3.2).family, "rotated");
  EXPECT_EQ(best(4.9).family, "grids");
  EXPECT_FALSE(best(0.3).measured);
  EXPECT_NEAR(best(1.088).kl, 1.226, 1e-9);
  for (double rate = 0.4; rate < 5; rate += 0.1) {
    EXPECT_EQ(family_offers(rate).size(), 3u);
    EXPECT_GE(best(rate).kl, best(rate + 0.1).kl) << "more bits are never worse, at " << rate;
  }
}

class FamilyTest : public tests::FolderTest {
 protected:
  void SetUp() override {
    FolderTest::SetUp();
    write_file(folder_ / "text.txt", tests::toy_text(7, 6000), false);
  }

  CompressRequest request(const std::string& budget, double minutes) const {
    CompressRequest fit;
    fit.model = tests::kStories;
    fit.output = folder_ / (budget + ".gguf");
    fit.cache = folder_ / "cache";
    fit.recipe = preset_recipe("fit");
    fit.recipe.calibrate.data = (folder_ / "text.txt").string();
    fit.recipe.calibrate.tokens = 1024;
    fit.recipe.calibrate.context = 128;
    fit.recipe.tune.data = "self+" + fit.recipe.calibrate.data;
    fit.recipe.tune.text_tokens = 2048;
    fit.recipe.tune.context = 128;
    fit.recipe.tune.batch = 256;
    fit.threads = 1;
    fit.budget = budget;
    fit.minutes = minutes;
    return fit;
  }
  static std::string chosen(const Json& result) {
    for (const Json& row : result.at("families"))
      if (row.at("verdict") == "chosen") return row.at("family");
    return "none";
  }

  SilentProgress progress_;
};

TEST_F(FamilyTest, EverySizeIsMetAndNearlyUsed) {
  // Units of this model are so small that 8 ranks of one are up to a hundredth of the file.
  const std::pair<const char*, const char*> cases[] = {{"40KB", "factors"}, {"52KB", "factors"}, {"60KB", "factors"},
                                                       {"95KB", "factors"}, {"110KB", "rotated"}, {"130KB", "rotated"}};
  for (const auto& [budget, family] : cases) {
    CompressRequest fit = request(budget, 1);
    fit.dry_run = true;
    const Json result = compress(fit, progress_);
    const auto bytes = result.at("predicted_bytes").get<double>();
    EXPECT_LE(bytes, static_cast<double>(parse_budget(budget, 1))) << budget;
    EXPECT_GE(bytes, 0.95 * static_cast<double>(parse_budget(budget, 1))) << budget;
    EXPECT_EQ(chosen(result), family) << budget;
  }
}

TEST_F(FamilyTest, TrainsWhatItChose) {
  const CompressRequest fit = request("60KB", 0.05);
  const Json result = compress(fit, progress_);
  EXPECT_EQ(chosen(result), "factors");
  EXPECT_LE(std::filesystem::file_size(fit.output), 60000u);
  EXPECT_LT(result.at("tune").at("held_out").get<double>(), result.at("tune").at("held_out_start").get<double>());
  const ModelPtr made = load_model(fit.output);
  EXPECT_EQ(made->find("blk.0.attn_q.weight").tensor->format->name(), "lowrank_sign");
}

TEST_F(FamilyTest, WithoutTimeGridsAreTakenWhereTheyFit) {
  CompressRequest fit = request("200KB", 0);
  fit.dry_run = true;
  EXPECT_FALSE(compress(fit, progress_).contains("families"));
  fit.budget = "60KB";
  EXPECT_EQ(chosen(compress(fit, progress_)), "factors");
  fit.budget = "5KB";
  try {
    compress(fit, progress_);
    ADD_FAILURE() << "5 KB are too few";
  } catch (const Error& error) {
    EXPECT_EQ(error.kind(), ErrorKind::budget);
    EXPECT_NE(error.hint().find("smallest file"), std::string::npos);
  }
}

}  // namespace
}  // namespace whit
