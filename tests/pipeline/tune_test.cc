// Training a small real model as it is stored: it helps, it repeats, it goes on where it stopped, and it keeps its
// size.
#include "pipeline/tune.h"

#include <gtest/gtest.h>

#include <filesystem>

#include "base/file.h"
#include "base/record.h"
#include "pipeline/compress.h"
#include "pipeline/toys.h"

namespace whit {
namespace {

using tests::kStories;
using tests::StopAfter;

class TuneTest : public tests::FolderTest {
 protected:
  void SetUp() override {
    FolderTest::SetUp();
    write_file(folder_ / "text.txt", tests::toy_text(7, 20000), false);
  }

  std::filesystem::path compressed(const std::string& preset) {
    CompressRequest request = tests::toy_compression(kStories, preset_recipe(preset), folder_, preset + ".gguf");
    request.threads = 1;
    SilentProgress silent;
    compress(request, silent);
    return request.output;
  }

  TuneRequest request(const std::filesystem::path& model, const std::string& name) {
    return tests::toy_tuning(model, kStories, folder_, name, 10240);
  }

  Json run(const TuneRequest& request) {
    SilentProgress silent;
    return tune(request, silent);
  }
};

class TuneFormats : public TuneTest, public testing::WithParamInterface<const char*> {};

TEST_P(TuneFormats, LowersTheHeldOutLoss) {
  const char* const preset = GetParam();
  const auto start = compressed(preset);
  TuneRequest first = request(start, std::string(preset) + "-tuned.gguf");
  const int64_t steps = 20;
  first.options.tokens = steps * first.options.batch;
  first.options.text_tokens = 10240;
  const Json result = run(first);
  const Json& report = result.at("tune");
  EXPECT_LT(report.at("held_out").get<double>(), 0.9 * report.at("held_out_start").get<double>()) << preset;
  EXPECT_EQ(report.at("steps"), steps);
  // The same formats: the file grows by what its manifest tells of the training.
  const auto before = std::filesystem::file_size(start), after = result.at("file_bytes").get<uint64_t>();
  EXPECT_LE(after, before + 2048) << preset;
  // What was measured is what the file holds.
  TuneRequest again = request(folder_ / (std::string(preset) + "-tuned.gguf"), "again.gguf");
  again.method_options["codes"] = again.method_options["factors"] = again.method_options["scales"] = 0;
  again.options.tokens = 512;
  again.options.text_tokens = 10240;  // so that the same windows are held out
  again.force = true;
  EXPECT_NEAR(run(again).at("tune").at("held_out_start").get<double>(), report.at("held_out").get<double>(), 2e-2)
      << preset;
}

const auto kPreset = [](const auto& info) {
  std::string name = info.param;
  std::erase_if(name, [](char c) { return c == '-' || c == '.'; });
  return name;
};
// Codes, factors and rotated codes; the others are in pipeline_tune_every_format_test (CMakeLists.txt).
INSTANTIATE_TEST_SUITE_P(Kinds, TuneFormats, testing::Values("rtn-2", "lowrank-1.0", "merged-2"), kPreset);
INSTANTIATE_TEST_SUITE_P(Others, TuneFormats, testing::Values("rotated-2", "nm-sign-2-8"), kPreset);

TEST_F(TuneTest, WhatIsNotLearnedStaysAsItIs) {
  const std::filesystem::path mixed = folder_ / "mixed.gguf";
  tests::write_mixed_types(mixed);
  StopAfter never(1 << 20);
  const Json report = tune(request(mixed, "tuned.gguf"), never).at("tune");
  EXPECT_NE(never.notes.find("5 of 21 units stay as they are"), std::string::npos) << never.notes;
  EXPECT_LT(report.at("held_out").get<double>(), report.at("held_out_start").get<double>());
  const ModelPtr before = load_model(mixed), after = load_model(folder_ / "tuned.gguf");
  const auto stored = [](const ModelPtr& model, const char* name) {
    const Packed packed = copy_packed(model->find(name));
    return packed.format->label() +
           std::string(reinterpret_cast<const char*>(packed.parts[0].data()), packed.parts[0].size());
  };
  for (const char* name : {"blk.0.attn_q.weight", "blk.4.attn_v.weight"})
    EXPECT_EQ(stored(before, name), stored(after, name));
  EXPECT_NE(stored(before, "blk.0.ffn_up.weight"), stored(after, "blk.0.ffn_up.weight"));
}

TEST_F(TuneTest, TheSameCommandGivesTheSameBytes) {
  const auto start = compressed("rtn-2");
  for (const char* name : {"a.gguf", "b.gguf"}) {
    TuneRequest job = request(start, name);
    job.options.tokens = 5120;
    run(job);
  }
  EXPECT_EQ(read_file(folder_ / "a.gguf"), read_file(folder_ / "b.gguf"));
  EXPECT_FALSE(std::filesystem::exists(folder_ / "a.gguf.journal"));
}

TEST_F(TuneTest, AStoppedRunGoesOnToTheSameBytes) {
  ::setenv("WHIT_TEST_CHECKPOINT_SECONDS", "0", 1);
  const auto start = compressed("lowrank-1.0");
  run(request(start, "whole.gguf"));
  for (const int at : {3, 19}) {
    const TuneRequest stopped = request(start, "stopped" + std::to_string(at) + ".gguf");
    StopAfter stop(at);
    EXPECT_THROW(tune(stopped, stop), Error);
    EXPECT_FALSE(std::filesystem::exists(stopped.output));
    EXPECT_TRUE(std::filesystem::exists(stopped.output.string() + ".journal/tune.checkpoint"));
    TuneRequest other = stopped;
    other.options.seed = 5;
    EXPECT_THROW(run(other), Error) << "a checkpoint of other options is refused";
    run(stopped);
    EXPECT_EQ(read_file(stopped.output), read_file(folder_ / "whole.gguf")) << at;
  }
  ::unsetenv("WHIT_TEST_CHECKPOINT_SECONDS");
}

// No periodic checkpoint is due in these seconds: the one that is gone on from was made when the run was stopped.
TEST_F(TuneTest, StoppedBeforeTheFirstCheckpointItGoesOnFromThatStep) {
  const auto start = compressed("rtn-2");
  run(request(start, "whole.gguf"));
  TuneRequest stopped = request(start, "stopped.gguf");
  StopAfter stop(8);
  try {
    tune(stopped, stop);
    ADD_FAILURE() << "was not stopped";
  } catch (const Error& error) {
    EXPECT_EQ(error.kind(), ErrorKind::interrupted);
  }
  const Record checkpoint = open_record(stopped.output.string() + ".journal/tune.checkpoint", {"damaged", ""});
  const auto step = checkpoint.header.at("state").at("step").get<int>();
  EXPECT_GE(step, 2);
  EXPECT_LT(step, 20);
  StopAfter never(1 << 20);
  const Json report = tune(stopped, never).at("tune");
  EXPECT_NE(never.notes.find("going on after step " + std::to_string(step) + " of 20"), std::string::npos)
      << never.notes;
  EXPECT_EQ(never.resumed, step) << "what was done before is no measure of speed";
  // Nor in the report: the tokens of this process in its seconds.
  EXPECT_NEAR(report.at("tokens_per_second").get<double>() * report.at("seconds").get<double>(), (20 - step) * 512, 50);
  EXPECT_EQ(read_file(stopped.output), read_file(folder_ / "whole.gguf"));
}

TEST_F(TuneTest, TooLittleTimeIsRefusedAndNothingWritten) {
  TuneRequest hurried = request(compressed("rtn-2"), "hurried.gguf");
  hurried.options.tokens = 0;
  hurried.minutes = 1e-5;
  try {
    run(hurried);
    ADD_FAILURE() << "0.6 ms are too short";
  } catch (const Error& error) {
    EXPECT_EQ(error.kind(), ErrorKind::budget) << error.what();
    EXPECT_NE(error.found().find("a schedule needs 20"), std::string::npos) << error.found();
    EXPECT_NE(error.hint().find("--minutes "), std::string::npos) << error.hint();
  }
  EXPECT_FALSE(std::filesystem::exists(hurried.output));
  EXPECT_FALSE(std::filesystem::exists(hurried.output.string() + ".journal"));
  hurried.allow_short = true;
  EXPECT_EQ(run(hurried).at("tune").at("steps"), 1);
}

TEST_F(TuneTest, HowMuchTheFileGrowsIsSaidBefore) {
  TuneRequest dry = request(compressed("rtn-2"), "out.gguf");
  dry.options.tokens = 2048;
  dry.dry_run = true;
  StopAfter never(1 << 20);
  const Json said = tune(dry, never);
  EXPECT_NE(never.notes.find("more than the model: what its manifest tells"), std::string::npos) << never.notes;
  EXPECT_GT(said.at("predicted_seconds").at("in_all").get<double>(), 0);
  EXPECT_FALSE(std::filesystem::exists(dry.output.string() + ".journal"));
  dry.dry_run = false;
  const auto made = run(dry).at("file_bytes").get<uint64_t>();
  EXPECT_LE(made, said.at("predicted_bytes").get<uint64_t>());
  EXPECT_GE(made + 512, said.at("predicted_bytes").get<uint64_t>());
}

TEST_F(TuneTest, AContextThatTheModelDoesNotHaveIsSaid) {
  TuneRequest wide = request(compressed("rtn-2"), "wide.gguf");
  const uint64_t longest = load_model(kStories)->spec.context;
  wide.options.context = static_cast<int>(longest) + 1;
  EXPECT_THROW(run(wide), Error);
}

// The time is for training: the text, which the original writes, is not counted. Stopped on the way, the run keeps what
// it made of the time: the checkpoint says how many tokens of text and of training.
TEST_F(TuneTest, AGivenTimeIsForTrainingAlone) {
  ::setenv("WHIT_TEST_CHECKPOINT_SECONDS", "0", 1);
  TuneRequest timed = request(compressed("rtn-2"), "timed.gguf");
  timed.options.data = "self";
  timed.options.tokens = 0;
  timed.minutes = 0.05;
  timed.allow_short = true;  // a busy machine
  StopAfter whole(1 << 20);
  const Json result = tune(timed, whole);
  const Json& report = result.at("tune");
  // A busy machine may take longer than it promised itself, not many times as long.
  EXPECT_LT(report.at("seconds").get<double>(), 12);
  EXPECT_GT(report.at("seconds_in_all").get<double>(), report.at("seconds").get<double>());
  EXPECT_GE(report.at("tokens").get<int64_t>(), 512);
  EXPECT_LT(report.at("held_out").get<double>(), report.at("held_out_start").get<double>());
  EXPECT_NE(whole.notes.find("expected time: writing text"), std::string::npos) << whole.notes;
  EXPECT_NE(whole.phases.find("1 of 3: writing text (about "), std::string::npos) << whole.phases;
  EXPECT_NE(whole.phases.find("2 of 3: tune (about "), std::string::npos) << whole.phases;

  timed.output = folder_ / "stopped.gguf";
  StopAfter early(1, "tune (about");
  EXPECT_THROW(tune(timed, early), Error);
  const Record checkpoint = open_record(folder_ / "stopped.gguf.journal/tune.checkpoint", {"damaged", ""});
  const int64_t tokens = checkpoint.header.at("tokens").get<int64_t>();
  EXPECT_GT(checkpoint.header.at("text_tokens").get<int64_t>(), 0);
  EXPECT_EQ(run(timed).at("tune").at("tokens").get<int64_t>(), tokens);
  ::unsetenv("WHIT_TEST_CHECKPOINT_SECONDS");
}

TEST_F(TuneTest, AdaptsToATextWithoutTheOriginal) {
  TuneRequest alone = request(compressed("rtn-2"), "alone.gguf");
  alone.against.clear();
  const Json report = run(alone).at("tune");
  EXPECT_LT(report.at("held_out").get<double>(), 0.9 * report.at("held_out_start").get<double>());
}

TEST_F(TuneTest, AStepOfARecipe) {
  CompressRequest request;
  request.model = kStories;
  request.recipe = preset_recipe("lowrank-1.0");
  request.recipe.calibrate.data = (folder_ / "text.txt").string();
  request.recipe.calibrate.tokens = 1024;
  request.recipe.calibrate.context = 128;
  request.recipe.steps.push_back(
      parse_recipe("whit = 1\n[[step]]\nmethod = \"distill\"\nevaluations = 2\n", "test").steps[0]);
  request.recipe.tune.data = (folder_ / "text.txt").string();
  request.recipe.tune.tokens = 5120;
  request.recipe.tune.batch = 512;
  request.recipe.tune.context = 64;
  request.cache = folder_ / "cache";
  request.threads = 2;  // the others run in one: beside each other they are faster so
  request.output = folder_ / "a.gguf";
  SilentProgress silent;
  const Json result = compress(request, silent);
  EXPECT_LT(result.at("tune").at("held_out").get<double>(), result.at("tune").at("held_out_start").get<double>());
  EXPECT_LE(result.at("file_bytes").get<uint64_t>(), result.at("predicted_bytes").get<uint64_t>());
  // The recipe in the file, with the text named again, gives the same bytes.
  const Json manifest = Json::parse(load_model(folder_ / "a.gguf")->metadata.string("whit.manifest"));
  CompressRequest again = request;
  again.recipe = recipe_from_json(manifest.at("recipe"), "manifest");
  again.recipe.calibrate.data = again.recipe.tune.data = (folder_ / "text.txt").string();
  again.output = folder_ / "b.gguf";
  compress(again, silent);
  EXPECT_EQ(read_file(folder_ / "a.gguf"), read_file(folder_ / "b.gguf"));
}

}  // namespace
}  // namespace whit
