// Rotations through the whole of `compress`: logits that stay, files that both executors read, recipes that repeat.
#include <gtest/gtest.h>

#include <cmath>

#include "base/file.h"
#include "base/rng.h"
#include "format/gguf.h"
#include "logits.h"
#include "model/torch/executor.h"
#include "pipeline/compress.h"
#include "pipeline/toys.h"
#include "runtime/runtime.h"

namespace whit {
namespace {

const std::filesystem::path kData = std::filesystem::path(WHIT_TESTS_DIR) / "data";

class RotateTest : public tests::FolderTest {
 protected:
  void SetUp() override {
    FolderTest::SetUp();
    std::string text;
    const char* words[] = {"once", "upon", "a", "time", "there", "was", "little", "girl", "who", "liked"};
    Rng rng(7);
    for (int i = 0; i < 3000; ++i) text += std::string(words[rng.below(10)]) + (rng.below(9) == 0 ? ". " : " ");
    write_file(folder_ / "text.txt", text, false);
  }

  CompressRequest request(const std::filesystem::path& model, const std::string& recipe, const std::string& name) {
    CompressRequest result = tests::toy_compression(model, parse_recipe("whit = 1\n" + recipe, "test"), folder_, name);
    result.recipe.calibrate.tokens = 512;
    result.recipe.calibrate.context = 64;
    return result;
  }
  static Json run(const CompressRequest& request) {
    SilentProgress silent;
    return compress(request, silent);
  }

  static Matrix logits(const std::shared_ptr<const Scorer>& scorer) {
    const auto session = scorer->open(64);
    Matrix rows(24, scorer->spec().vocabulary);
    std::vector<int32_t> ids;
    for (int i = 0; i < 24; ++i) ids.push_back(3 + i * 17 % 400);
    const auto visit = [&](size_t position, std::span<const float> row) {
      std::copy(row.begin(), row.end(), rows.row(position));
    };
    session->feed(std::span(ids).first(20), 0, visit);  // as a prompt, then token by token
    for (size_t i = 20; i < ids.size(); ++i) session->feed(std::span(ids).subspan(i, 1), 0, visit);
    return rows;
  }
  // Both executors (torch with weights kept and unpacked while it runs) against the same logits, in units of their
  // standard deviation.
  static void expect_logits(const std::filesystem::path& path, const Matrix& expected, double bound) {
    const double deviation = tests::standard_deviation(expected.data);
    ThreadPool pool(2);
    const ModelPtr model = load_model(path);
    for (const auto& scorer : {make_torch_scorer(model), make_torch_scorer(model, false), make_runtime(model, pool)}) {
      const Matrix got = logits(scorer);
      for (size_t i = 0; i < got.data.size(); ++i)
        ASSERT_NEAR(got.data[i], expected.data[i], bound * deviation) << path << " " << scorer->executor() << " " << i;
    }
  }

};

std::string rotated_f32(bool inputs, bool outputs, bool ends) {
  const auto flag = [](bool value) { return std::string(value ? "true" : "false"); };
  std::string recipe = "[[step]]\nmethod = \"rotate\"\ntensors = \"blk.*\"\ninputs = " + flag(inputs) +
                       "\noutputs = " + flag(outputs) + "\nseed = 5\n";
  if (ends)
    recipe += "[[step]]\nmethod = \"rotate\"\ntensors = [\"token_embd.weight\", \"output.weight\"]\noutputs = false\n";
  return recipe +
         "[[step]]\nmethod = \"rtn\"\ntensors = [\"blk.*\", \"token_embd.weight\", \"output.weight\"]\n"
         "format = \"f32\"\n";
}

// The law of issue and design: before anything is rounded, logits are the original's.
TEST_F(RotateTest, LogitsStay) {
  for (const char* name :
       {"llama_gqa", "llama_tied_smollm", "llama31_rope", "llama2_sentencepiece", "models/stories260K.gguf"}) {
    const Matrix expected = logits(make_torch_scorer(load_model(kData / name)));
    for (const auto& [inputs, outputs, ends] :
         {std::tuple{true, true, true}, std::tuple{true, false, false}, std::tuple{false, true, false}}) {
      CompressRequest job = request(kData / name, rotated_f32(inputs, outputs, ends), "out.gguf");
      job.force = true;
      // A glob for an output matrix that is tied, and so not there, would be refused.
      if (!load_model(kData / name)->find("output.weight"))
        for (Step& step : job.recipe.steps) std::erase(step.tensors, "output.weight");
      const Json result = run(job);
      EXPECT_EQ(result["file_bytes"], result["predicted_bytes"]) << name;
      expect_logits(job.output, expected, 1e-4);
    }
    const ModelPtr made = load_model(folder_ / "out.gguf");
    EXPECT_EQ(made->weights, "whit");
    EXPECT_EQ(made->find("blk.0.attn_k.weight").tensor->rotation.outputs.size(), 3u);
  }
}

// The same law for rotations that are merged into the weights on both sides.
TEST_F(RotateTest, MergedRotationsLeaveLogits) {
  for (const char* name :
       {"llama_gqa", "llama_tied_smollm", "llama31_rope", "llama2_sentencepiece", "models/stories260K.gguf"}) {
    const Matrix expected = logits(make_torch_scorer(load_model(kData / name)));
    for (const char* what : {"", "values = false\n", "stream = false\n"}) {
      CompressRequest job = request(kData / name,
                                    std::string("[[step]]\nmethod = \"merge_rotations\"\nseed = 3\n") + what +
                                        "[[step]]\nmethod = \"rtn\"\ntensors = \"blk.*\"\nformat = \"f32\"\n",
                                    "out.gguf");
      job.force = true;
      const Json result = run(job);
      EXPECT_EQ(result["file_bytes"], result["predicted_bytes"]) << name;
      expect_logits(job.output, expected, 1e-4);
      const ModelPtr made = load_model(job.output);
      const bool stream = std::string(what) != "stream = false\n";
      EXPECT_EQ(made->spec.stream_rotation != nullptr, stream);
      EXPECT_FALSE(made->find("blk.0.attn_output.weight").tensor->rotation) << "merged";
      if (stream) EXPECT_EQ(made->vector("blk.0.attn_norm.weight", made->spec.width), std::vector<float>(made->spec.width, 1));
      // Other engines would not turn the stream; without that the file is an ordinary one.
      EXPECT_EQ(GgufFile::open(job.output).metadata.string("general.architecture"), stream ? "whit" : "llama");
    }
  }
}

TEST_F(RotateTest, AMergedModelWantsAFormatForWhatItTurned) {
  const CompressRequest job = request(kData / "models/stories260K.gguf",
                                      "[[step]]\nmethod = \"merge_rotations\"\n[[step]]\nmethod = \"rtn\"\n"
                                      "tensors = \"blk.0.*\"\nformat = \"f32\"\n",
                                      "out.gguf");
  try {
    run(job);
    FAIL();
  } catch (const Error& error) {
    EXPECT_EQ(error.kind(), ErrorKind::usage);
    EXPECT_EQ(error.where(), "blk.1.attn_qkv.weight");
  }
  EXPECT_FALSE(std::filesystem::exists(job.output));
}

class RotatePresetTest : public RotateTest, public testing::WithParamInterface<const char*> {};

TEST_P(RotatePresetTest, AFileOfGridsRepeatsFromItsManifestAndIsReadByBoth) {
  CompressRequest job = request(kData / "models/stories260K.gguf", rotated_f32(true, true, false), "whole.gguf");
  const CalibrateOptions calibrate = job.recipe.calibrate;
  job.recipe = preset_recipe(GetParam());
  job.recipe.calibrate = calibrate;
  run(job);
  const ModelPtr made = load_model(job.output);
  ThreadPool pool(2);
  const Matrix torch = logits(make_torch_scorer(made));
  expect_logits(job.output, torch, 2e-4);
  // Interrupted between two units it ends in the same bytes, rotation and all.
  CompressRequest stopped = job;
  stopped.output = folder_ / "stopped.gguf";
  tests::compress_in_pieces(stopped, 2);
  EXPECT_EQ(read_file(stopped.output), read_file(job.output));
  // The manifest's recipe makes it again.
  const Json manifest = Json::parse(made->metadata.string("whit.manifest"));
  CompressRequest again = job;
  again.output = folder_ / "again.gguf";
  again.recipe = parse_recipe(recipe_to_toml(recipe_from_json(manifest.at("recipe"), "manifest")), "toml");
  again.recipe.calibrate.data = calibrate.data;
  run(again);
  EXPECT_EQ(read_file(again.output), read_file(job.output));
}

INSTANTIATE_TEST_SUITE_P(Presets, RotatePresetTest, testing::Values("rotated-3", "merged-3"),
                         [](const auto& info) { return std::string(info.param).substr(0, 6); });

// A rotated file as a source: units that nothing is said about are copied with their rotation; others come back into
// the model's own basis first.
TEST_F(RotateTest, ARotatedFileIsASourceToo) {
  const auto stories = kData / "models/stories260K.gguf";
  CompressRequest first = request(stories, rotated_f32(true, true, false), "rotated.gguf");
  for (Step& step : first.recipe.steps) std::erase(step.tensors, "output.weight");
  run(first);
  const Matrix expected = logits(make_torch_scorer(load_model(stories)));
  const char* one = "[[step]]\nmethod = \"rtn\"\ntensors = \"blk.1.*\"\nformat = \"f16\"\n";
  run(request(folder_ / "rotated.gguf", one, "second.gguf"));
  expect_logits(folder_ / "second.gguf", expected, 2e-3);  // f16 rounds to 2^-11
  const ModelPtr second = load_model(folder_ / "second.gguf");
  EXPECT_TRUE(second->find("blk.0.attn_q.weight").tensor->rotation);
  EXPECT_FALSE(second->find("blk.1.attn_q.weight").tensor->rotation);
  EXPECT_EQ(second->find("blk.1.attn_q.weight").tensor->name, "blk.1.attn_q.weight") << "ordinary tensors again";
  // All units plain: an ordinary GGUF.
  const char* all = "[[step]]\nmethod = \"rtn\"\ntensors = \"blk.*\"\nformat = \"f16\"\n";
  run(request(folder_ / "rotated.gguf", all, "third.gguf"));
  EXPECT_NE(load_model(folder_ / "third.gguf")->weights, "whit");
  expect_logits(folder_ / "third.gguf", expected, 5e-3);
  // Rotated again by another seed.
  CompressRequest turned = request(folder_ / "rotated.gguf", rotated_f32(true, true, false), "turned.gguf");
  for (Step& step : turned.recipe.steps) std::erase(step.tensors, "output.weight");
  turned.recipe.steps[0].options["seed"] = 6;
  run(turned);
  expect_logits(turned.output, expected, 1e-4);
}

TEST_F(RotateTest, RefusedBeforeTheWork) {
  const auto refused = [&](const std::string& recipe, const std::string& named) {
    CompressRequest job = request(kData / "models/stories260K.gguf", recipe, "out.gguf");
    job.dry_run = true;
    try {
      run(job);
      ADD_FAILURE() << recipe;
    } catch (const Error& error) {
      EXPECT_EQ(error.kind(), ErrorKind::usage);
      EXPECT_NE(std::string(error.what()).find(named), std::string::npos) << error.what();
    }
  };
  const std::string rotate = "[[step]]\nmethod = \"rotate\"\ntensors = ";
  const std::string round = "[[step]]\nmethod = \"rtn\"\nformat = \"f32\"\ntensors = ";
  refused(rotate + "\"token_embd.weight\"\n" + round + "\"token_embd.weight\"\n", "token_embd.weight");
  EXPECT_THROW(parse_recipe("whit = 1\n" + rotate + "\"blk.*\"\nsides = 2\n" + round + "\"blk.*\"\n", "r"), Error);
  refused(rotate + "\"blk.0.attn_q.weight\"\n" + round + "\"blk.*\"\n", "blk.0.attn_qkv.weight");
}

}  // namespace
}  // namespace whit
