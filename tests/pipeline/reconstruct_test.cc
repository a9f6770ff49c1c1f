// Blocks that learn inside the walk: at the same bytes the held-out error of every block and the final divergence fall,
// for every format; a run repeats, goes on where it stopped, and a later step begins where the blocks ended.
#include "pipeline/reconstruct.h"

#include <gtest/gtest.h>

#include <cmath>

#include "base/file.h"
#include "data/text.h"
#include "data/tokenizer.h"
#include "model/torch/executor.h"
#include "pipeline/compress.h"
#include "pipeline/toys.h"
#include "pipeline/tune.h"

namespace whit {
namespace {

using tests::kStories;
using tests::StopAfter;

class ReconstructTest : public tests::FolderTest {
 protected:
  void SetUp() override {
    FolderTest::SetUp();
    write_file(folder_ / "text.txt", tests::toy_text(7, 20000), false);
  }

  CompressRequest request(const std::string& preset, const std::string& name, Json blockwise = nullptr) {
    CompressRequest request = tests::toy_compression(kStories, preset_recipe(preset), folder_, name);
    request.recipe.calibrate.context = 64;
    request.threads = 1;
    if (!blockwise.is_null() && !blockwise.contains("batch")) blockwise["batch"] = 128;  // seven steps an epoch
    if (!blockwise.is_null())
      request.recipe.steps.push_back(
          {"blockwise", {}, nullptr, make_reconstructor("blockwise", blockwise)->options(), {}, {}, {}, 0});
    return request;
  }

  Json run(const CompressRequest& request) {
    SilentProgress silent;
    return compress(request, silent);
  }

  // Windows of a text that no run has seen.
  CalibrationWindows judging_windows() const {
    const auto tokenizer = make_tokenizer(load_model(kStories)->metadata);
    return calibration_windows(*tokenizer, tests::toy_text(8, 4000), 1024, 128, 0);
  }
  // An eighth of the windows of request().
  CalibrationWindows held_out_windows() const {
    const auto tokenizer = make_tokenizer(load_model(kStories)->metadata);
    CalibrationWindows windows = calibration_windows(*tokenizer, read_file(folder_ / "text.txt"), 1024, 64, 0);
    windows.windows = {windows.windows.at(7), windows.windows.at(15)};
    return windows;
  }

  // The relative squared error of each block's output, both models on their own stream.
  std::vector<double> block_errors(const std::filesystem::path& file) const {
    return block_errors(file, judging_windows());
  }
  static std::vector<double> block_errors(const std::filesystem::path& file, const CalibrationWindows& windows) {
    const ModelPtr original = load_model(kStories), made = load_model(file);
    const std::vector<int32_t> ids = windows.ids();
    Activations a{windows.windows.size(), windows.context, embed(*original, ids, windows.context)}, b = a;
    b.values = embed(*made, ids, windows.context);
    std::vector<double> errors;
    for (uint64_t block = 0; block < original->spec.layers; ++block) {
      run_block(original->spec, block, load_block(*original, block), a, {});
      run_block(made->spec, block, load_block(*made, block), b, {});
      double sum = 0;
      for (size_t t = 0; t < a.values.rows; ++t) {
        double difference = 0, size = 0;
        for (size_t j = 0; j < a.values.cols; ++j) {
          difference += std::pow(b.values.row(t)[j] - a.values.row(t)[j], 2);
          size += std::pow(a.values.row(t)[j], 2);
        }
        sum += difference / size;
      }
      errors.push_back(sum / static_cast<double>(a.values.rows));
    }
    return errors;
  }

  // Mean KL(original || file) in nats over the same windows.
  double divergence(const std::filesystem::path& file) const {
    double sum = 0;
    const Matrix a = logits(kStories), b = logits(file);
    for (size_t t = 0; t < a.rows; ++t) {
      const auto log_sum = [&](const float* row) {
        double s = 0;
        for (size_t j = 0; j < a.cols; ++j) s += std::exp(row[j]);
        return std::log(s);
      };
      const double p = log_sum(a.row(t)), q = log_sum(b.row(t));
      for (size_t j = 0; j < a.cols; ++j) sum += std::exp(a.row(t)[j] - p) * (a.row(t)[j] - p - (b.row(t)[j] - q));
    }
    return sum / static_cast<double>(a.rows);
  }

  Matrix logits(const std::filesystem::path& file) const {
    const auto scorer = make_torch_scorer(load_model(file));
    const CalibrationWindows windows = judging_windows();
    Matrix rows(windows.windows.size() * windows.context, scorer->spec().vocabulary);
    for (size_t w = 0; w < windows.windows.size(); ++w)
      scorer->open(windows.context)->feed(windows.windows[w], 0, [&](size_t position, std::span<const float> row) {
        std::copy(row.begin(), row.end(), rows.row(w * windows.context + position));
      });
    return rows;
  }
};

Vectors norms(const std::filesystem::path& file) {
  const ModelPtr model = load_model(file);
  Vectors norms;
  for (const StoredTensor& tensor : model->tensors)
    if (tensor.name.ends_with("norm.weight")) {
      std::vector<float>& values = norms[tensor.name];
      values.resize(tensor.shape.count());
      unpack_rows({&tensor, 0, tensor.shape.rows}, 0, tensor.shape.rows, values);
    }
  return norms;
}

class ReconstructFormats : public ReconstructTest, public testing::WithParamInterface<const char*> {};

TEST_P(ReconstructFormats, LowersErrorsAndDivergenceAtTheSameBytes) {
  const char* const preset = GetParam();
  run(request(preset, "plain.gguf"));
  const Json result = run(request(preset, "tuned.gguf", {{"epochs", 6}}));
  EXPECT_EQ(result.at("file_bytes"), result.at("predicted_bytes")) << preset;
  // The file grows by what its manifest tells of the step.
  EXPECT_LE(std::filesystem::file_size(folder_ / "tuned.gguf"),
            std::filesystem::file_size(folder_ / "plain.gguf") + 512)
      << preset;
  const Json& blocks = result.at("reconstruct");
  const std::vector<double> before = block_errors(folder_ / "plain.gguf"), after = block_errors(folder_ / "tuned.gguf");
  const std::vector<double> held_out = block_errors(folder_ / "tuned.gguf", held_out_windows());
  ASSERT_EQ(blocks.size(), before.size());
  for (size_t block = 0; block < before.size(); ++block) {
    const double start = blocks[block].at("held_out_start"), end = blocks[block].at("held_out");
    EXPECT_LT(end, start) << preset << " " << block;
    // What was reported is what the file does, up to the rounding of scales.
    EXPECT_NEAR(end, held_out[block], 0.03 * end) << preset << " " << block;
    EXPECT_LT(after[block], before[block]) << preset << " " << block;
    std::printf("%s blk.%zu: held out %.4f -> %.4f; on another text %.4f instead of %.4f\n", preset, block, start, end,
                after[block], before[block]);
  }
  const double plain = divergence(folder_ / "plain.gguf"), tuned = divergence(folder_ / "tuned.gguf");
  std::printf("%s: KL %.4f instead of %.4f\n", preset, tuned, plain);
  EXPECT_LT(tuned, 0.7 * plain) << preset;
}

const auto kPreset = [](const auto& info) {
  std::string name = info.param;
  std::erase_if(name, [](char c) { return c == '-' || c == '.'; });
  return name;
};
// Codes, factors and signs; the others are in pipeline_reconstruct_every_format_test (CMakeLists.txt).
INSTANTIATE_TEST_SUITE_P(Kinds, ReconstructFormats, testing::Values("rtn-2", "lowrank-1.0", "nm-sign-2-8"), kPreset);
INSTANTIATE_TEST_SUITE_P(Others, ReconstructFormats, testing::Values("rotated-2", "stbllm-4-8"), kPreset);

TEST_F(ReconstructTest, UnitByUnitAndOnThePrefix) {
  run(request("rotated-2", "plain.gguf"));
  const std::vector<double> before = block_errors(folder_ / "plain.gguf");
  for (const Json& options : {Json{{"order", "unit"}, {"epochs", 2}}, Json{{"target", "prefix"}, {"epochs", 2}}}) {
    run(request("rotated-2", "tuned.gguf", options));
    const std::vector<double> after = block_errors(folder_ / "tuned.gguf");
    std::printf("%s: last block %.4f instead of %.4f, KL %.4f instead of %.4f\n", options.dump().c_str(), after.back(),
                before.back(), divergence(folder_ / "tuned.gguf"), divergence(folder_ / "plain.gguf"));
    EXPECT_LT(after.back(), before.back()) << options.dump();
    EXPECT_LT(divergence(folder_ / "tuned.gguf"), divergence(folder_ / "plain.gguf")) << options.dump();
    std::filesystem::remove(folder_ / "tuned.gguf");
  }
}

TEST_F(ReconstructTest, TheRecipeInTheFileGivesTheSameBytes) {
  const Json quick = {{"epochs", 2}};
  run(request("gptq-2", "a.gguf", quick));
  const Json manifest = Json::parse(load_model(folder_ / "a.gguf")->metadata.string("whit.manifest"));
  CompressRequest again = request("gptq-2", "b.gguf");
  const std::string data = again.recipe.calibrate.data;
  again.recipe = parse_recipe(recipe_to_toml(recipe_from_json(manifest.at("recipe"), "manifest")), "toml");
  again.recipe.calibrate.data = data;
  run(again);
  EXPECT_TRUE(read_file(folder_ / "a.gguf") == read_file(folder_ / "b.gguf"));
}

// Stopped over and over, at moments that fall anywhere, it ends in the same bytes; no finished block is trained again.
TEST_F(ReconstructTest, AStoppedRunGoesOnToTheSameBytes) {
  for (const char* order : {"block", "unit"}) {
    const Json options = {{"epochs", 1}, {"order", order}};
    StopAfter never(1 << 30);
    compress(request("rotated-2", "whole.gguf", options), never);
    const CompressRequest stopped = request("rotated-2", "stopped.gguf", options);
    const int block = never.asked / 5 + 8;  // opportunities of one block, with room
    int stops = 0, asked = 0;
    for (int at = 0;; at += 1 + block / 3) {
      StopAfter stop(std::min(at, 2 * block));
      try {
        compress(stopped, stop);
        asked += stop.asked;
        break;
      } catch (const Error& error) {
        ASSERT_EQ(error.kind(), ErrorKind::interrupted) << error.what();
        EXPECT_FALSE(std::filesystem::exists(stopped.output));
        asked += stop.asked;
        ++stops;
      }
      ASSERT_LT(stops, 60);
    }
    EXPECT_GE(stops, 4) << order;
    EXPECT_LE(asked, never.asked + stops * block) << order << ": more than one block was done again at a stop";
    EXPECT_TRUE(read_file(stopped.output) == read_file(folder_ / "whole.gguf")) << order;
    for (const char* name : {"whole.gguf", "stopped.gguf"}) std::filesystem::remove(folder_ / name);
  }
}

// A block that was killed between its units and its own entry is not finished.
TEST_F(ReconstructTest, ABlockIsDurableAsAWhole) {
  const Json quick = {{"epochs", 1}};
  StopAfter never(1 << 30);
  compress(request("rtn-2", "whole.gguf", quick), never);
  const CompressRequest stopped = request("rtn-2", "stopped.gguf", quick);
  StopAfter stop(never.asked / 2);
  EXPECT_THROW(compress(stopped, stop), Error);
  const auto journal = folder_ / "stopped.gguf.journal";
  ASSERT_TRUE(std::filesystem::exists(journal / "blk.0.block"));
  ASSERT_FALSE(std::filesystem::exists(journal / "blk.4.block"));
  std::filesystem::remove(journal / "blk.0.block");
  StopAfter going_on(1 << 30);
  compress(stopped, going_on);
  EXPECT_NE(going_on.notes.find("blk.0: held-out error"), std::string::npos) << going_on.notes;
  EXPECT_TRUE(read_file(stopped.output) == read_file(folder_ / "whole.gguf"));
}

// A step that trains the whole model afterwards begins with the blocks' codes, latents, scales and norms.
TEST_F(ReconstructTest, ATuneStepGoesOnFromThere) {
  write_file(folder_ / "short.txt", tests::toy_text(9, 1500), false);
  const auto with_distill = [&](CompressRequest request, const std::string& rates) {
    request.recipe.steps.push_back(
        parse_recipe("whit = 1\n[[step]]\nmethod = \"distill\"\nevaluations = 1\n" + rates, "test").steps[0]);
    request.recipe.tune.data = (folder_ / "short.txt").string();
    request.recipe.tune.tokens = 1024;
    request.recipe.tune.batch = 512;
    request.recipe.tune.context = 64;
    return request;
  };
  // Long enough that the processor's rounding does not decide how far below the other start this is (a third of it).
  const Json longer = {{"epochs", 16}}, quick = {{"epochs", 3}};
  const std::string preset = "lowrank-1.0";
  const double alone = run(with_distill(request(preset, "one.gguf"), "")).at("tune").at("held_out_start");
  const double both = run(with_distill(request(preset, "both.gguf", longer), "")).at("tune").at("held_out_start");
  std::printf("distill begins at %.4f instead of %.4f\n", both, alone);
  EXPECT_LT(both, 0.8 * alone);
  // It begins where the file of the blocks alone stands.
  const double begun = run(with_distill(request(preset, "begun.gguf", quick), "")).at("tune").at("held_out_start");
  run(request(preset, "blocks.gguf", quick));
  TuneRequest still;
  still.model = folder_ / "blocks.gguf";
  still.against = kStories;
  still.output = folder_ / "tuned.gguf";
  still.cache = folder_ / "cache";
  still.threads = 1;
  still.options = with_distill(request(preset, "unused.gguf"), "").recipe.tune;
  still.method_options = {{"evaluations", 1}};
  SilentProgress silent;
  EXPECT_NEAR(begun, tune(still, silent).at("tune").at("held_out_start").get<double>(), 1e-4 * begun);
  // Without rates the file is that of the blocks alone.
  run(with_distill(request(preset, "still.gguf", quick), "codes = 0.0\nfactors = 0.0\nscales = 0.0\n"));
  EXPECT_EQ(block_errors(folder_ / "still.gguf"), block_errors(folder_ / "blocks.gguf"));
  EXPECT_EQ(norms(folder_ / "still.gguf"), norms(folder_ / "blocks.gguf"));
  EXPECT_NE(norms(folder_ / "blocks.gguf"), norms(kStories));
}

// Units that keep the source's bytes keep them, and a block of nothing else is left alone.
TEST_F(ReconstructTest, WhatIsCopiedStays) {
  CompressRequest some = request("rtn-2", "some.gguf", {{"epochs", 2}});
  some.recipe.steps[0].tensors = {"blk.1.ffn_gate_up.weight", "blk.1.ffn_down.weight", "blk.3.*"};
  some.recipe.steps.erase(some.recipe.steps.begin() + 1);
  const Json result = run(some);
  ASSERT_EQ(result.at("reconstruct").size(), 2u);
  EXPECT_EQ(result.at("reconstruct")[0].at("block"), 1);
  EXPECT_EQ(result.at("reconstruct")[1].at("block"), 3);
  const ModelPtr original = load_model(kStories), made = load_model(some.output);
  for (const char* name :
       {"token_embd.weight", "blk.0.ffn_down.weight", "blk.1.attn_q.weight", "blk.1.attn_output.weight"})
    EXPECT_EQ(unpack_dense(made->find(name)).data, unpack_dense(original->find(name)).data) << name;
  const std::vector<double> held_out = block_errors(some.output, held_out_windows());
  for (const Json& block : result.at("reconstruct")) {
    const double told = block.at("held_out");
    EXPECT_NEAR(told, held_out.at(block.at("block").get<size_t>()), 0.03 * told) << block;
  }
  const Vectors before = norms(kStories), after = norms(some.output);
  EXPECT_EQ(after.at("blk.0.ffn_norm.weight"), before.at("blk.0.ffn_norm.weight"));
  EXPECT_EQ(after.at("output_norm.weight"), before.at("output_norm.weight"));
  EXPECT_NE(after.at("blk.1.ffn_norm.weight"), before.at("blk.1.ffn_norm.weight"));
}

TEST_F(ReconstructTest, WhatCannotBeIsRefusedBeforeTheWalk) {
  const auto refused = [&](CompressRequest wrong, const std::string& named) {
    wrong.dry_run = true;
    try {
      run(wrong);
    } catch (const Error& error) {
      return error.kind() == ErrorKind::usage && std::string(error.what()).find(named) != std::string::npos;
    }
    return false;
  };
  CompressRequest one = request("rtn-2", "out.gguf", Json::object());
  one.recipe.calibrate.tokens = 64;
  EXPECT_TRUE(refused(one, "calibrate: tokens"));
  CompressRequest original = request("gptq-2", "out.gguf", {{"order", "unit"}});
  original.recipe.calibrate.prefix = "original";
  EXPECT_TRUE(refused(original, "calibrate: prefix"));
  EXPECT_THROW(parse_recipe("whit = 1\n[[step]]\nmethod = \"blockwise\"\ntensors = \"blk.*\"\n", "test"), Error);
  EXPECT_THROW(parse_recipe("whit = 1\n[[step]]\nmethod = \"blockwise\"\nepochs = 0\n", "test"), Error);
}

TEST_F(ReconstructTest, StatisticsOfTheOriginalsStreamGoTogetherWithIt) {
  CompressRequest original = request("nm-sign-2-8", "out.gguf", {{"epochs", 2}});
  original.recipe.calibrate.prefix = "original";
  const Json blocks = run(original).at("reconstruct");
  for (const Json& block : blocks)
    EXPECT_LT(block.at("held_out").get<double>(), block.at("held_out_start").get<double>());
}

TEST_F(ReconstructTest, TheMemoryOfTheStepIsPromised) {
  CompressRequest plain = request("rtn-2", "out.gguf"), trained = request("rtn-2", "out.gguf", {{"batch", 1 << 20}});
  plain.dry_run = trained.dry_run = true;
  plain.recipe.calibrate.tokens = trained.recipe.calibrate.tokens = 16384;
  const Json a = run(plain), b = run(trained);
  EXPECT_GT(b.at("predicted_peak_bytes").get<uint64_t>(), a.at("predicted_peak_bytes").get<uint64_t>());
}

}  // namespace
}  // namespace whit
