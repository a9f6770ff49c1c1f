// Every model of tests/data through compress: some presets, stopped and gone on with, --fit, rotated, tuned.
#include "pipeline/models.h"

namespace whit {
namespace {

using namespace tests;

TEST_P(Models, RotationsLeaveLogits) {
  const ModelPtr model = load_model(kData / GetParam());
  const Matrix expected = logits(make_torch_scorer(model));
  Recipe recipe = parse_recipe(
      "whit = 1\n[[step]]\nmethod = \"rotate\"\ntensors = \"blk.*\"\n"
      "[[step]]\nmethod = \"rtn\"\ntensors = \"blk.*\"\nformat = \"f32\"\n",
      "test");
  expect_whole(request(recipe, "rotated.gguf"));
  EXPECT_LT(difference(logits(make_torch_scorer(load_model(folder_ / "rotated.gguf"))), expected), 1e-4);
  recipe = parse_recipe(
      "whit = 1\n[[step]]\nmethod = \"merge_rotations\"\n"
      "[[step]]\nmethod = \"rtn\"\ntensors = \"blk.*\"\nformat = \"f32\"\n",
      "test");
  const CompressRequest merged = request(recipe, "merged.gguf");
  if (!merges(model->spec)) {
    EXPECT_THROW(run(merged), Error);
    return;
  }
  expect_whole(merged);
  EXPECT_LT(difference(logits(make_torch_scorer(load_model(merged.output))), expected), 1e-4);
}

TEST_P(Models, SomePresets) { expect_presets({"gptq-3", "q4_0", "copy-f16", "lowrank-1.0"}); }

TEST_P(Models, GoesOnToTheSameBytes) {
  const CompressRequest whole = request(preset_recipe("gptq-3"), "whole.gguf"),
                        stopped = request(preset_recipe("gptq-3"), "stopped.gguf");
  run(whole);
  tests::StopAfter stop(40);
  try {
    compress(stopped, stop);
  } catch (const Error& error) {
    EXPECT_EQ(error.kind(), ErrorKind::interrupted) << error.what();
  }
  run(stopped);
  EXPECT_EQ(read_file(whole.output), read_file(stopped.output));
}

TEST_P(Models, FitsASize) {
  CompressRequest job = request(preset_recipe("fit"), "fit.gguf");
  const ModelPtr model = load_model(kData / GetParam());
  const uint64_t bytes = std::filesystem::file_size(kData / GetParam() / "tokenizer.json") / 2 + model->spec.weights();
  job.budget = std::to_string(bytes) + "B";
  const Json result = run(job);
  EXPECT_LE(result["file_bytes"].get<uint64_t>(), bytes);
  ThreadPool pool(1);
  const ModelPtr made = load_model(job.output);
  EXPECT_LT(difference(logits(make_runtime(made, pool)), logits(make_torch_scorer(made))), 1e-4);
}

TEST_P(Models, TrainingLowersTheHeldOutLoss) {
  const CompressRequest job = request(preset_recipe("rtn-2"), "start.gguf");
  run(job);
  const TuneRequest tuning = toy_tuning(job.output, job.model, folder_, "tuned.gguf", 5120);
  SilentProgress silent;
  const Json report = tune(tuning, silent).at("tune");
  EXPECT_LT(report.at("held_out").get<double>(), 0.97 * report.at("held_out_start").get<double>());
  EXPECT_GT(report.at("held_out").get<double>(), 0.0);
}

// One of each kind of block: these are the fast test, which leaves the others to pipeline_every_model_test
// (CMakeLists.txt, by the names of the two lists). Rotations are fast enough for all of them.
std::vector<std::string> one_of_each_kind() {
  return {"gemma3_capped", "gpt2", "llama_gqa", "opt_project", "phi3_long", "qwen2_bias"};
}
std::vector<std::string> the_others() {
  std::vector<std::string> names = reference_models();
  for (const std::string& name : one_of_each_kind())
    if (std::erase(names, name) != 1) throw std::logic_error("no model " + name);
  return names;
}
const auto kName = [](const auto& info) { return info.param; };
INSTANTIATE_TEST_SUITE_P(Kinds, Models, testing::ValuesIn(one_of_each_kind()), kName);
INSTANTIATE_TEST_SUITE_P(Others, Models, testing::ValuesIn(the_others()), kName);

}  // namespace
}  // namespace whit
