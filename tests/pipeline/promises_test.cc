// What a job says of itself before it starts and when it is done: sizes, contexts, and what the file is worth.
#include <gtest/gtest.h>

#include "base/file.h"
#include "data/text.h"
#include "data/tokenizer.h"
#include "evaluate/evaluate.h"
#include "model/torch/executor.h"
#include "pipeline/compress.h"
#include "pipeline/phases.h"
#include "pipeline/toys.h"

namespace whit {
namespace {

const std::filesystem::path kData = std::filesystem::path(WHIT_TESTS_DIR) / "data";

class Promises : public tests::FolderTest {
 protected:
  void SetUp() override {
    FolderTest::SetUp();
    write_file(folder_ / "text.txt", tests::toy_text(7, 9000), false);
    const std::filesystem::path texts = std::filesystem::path(WHIT_TESTS_DIR) / "../.whit/data";  // where set-up leaves them
    if (std::filesystem::exists(texts)) ::setenv("WHIT_DATA", texts.c_str(), 0);
  }
  CompressRequest request(const std::string& model, const std::string& preset, const std::string& name) const {
    return tests::toy_compression(kData / model, preset_recipe(preset), folder_, name);
  }
  // stories260K with another value in its metadata.
  template <class Value>
  std::filesystem::path stories_with(const char* key, Value value) const {
    const ModelPtr plain = load_model(tests::kStories);
    ModelOutput output;
    output.metadata = plain->metadata;
    output.metadata.set(key, value);
    for (const StoredTensor& tensor : plain->tensors)
      output.tensors.push_back({tensor.name, tensor.shape, tensor.dimensions, {}, tensor.format, [&tensor] {
                                  return std::make_shared<const Packed>(copy_packed({&tensor, 0, tensor.shape.rows}));
                                }});
    AtomicFile file(folder_ / "changed.gguf", true);
    write_model_file(file, output);
    file.commit();
    return folder_ / "changed.gguf";
  }
  static Json run(const CompressRequest& request) {
    SilentProgress silent;
    return compress(request, silent);
  }
};

// A model that answers is calibrated on what it writes itself, others on novels; a text that was asked for is taken.
TEST_F(Promises, TheUsualTextFollowsTheModel) {
  const auto phases = [&](const std::filesystem::path& model, const char* data) {
    CompressRequest job = request("models/stories260K.gguf", "gptq-3", "out.gguf");
    job.model = model;
    job.recipe.calibrate.data = data;
    job.dry_run = true;
    return run(job).at("predicted_seconds").dump();
  };
  const std::filesystem::path chats = stories_with("tokenizer.chat_template", std::string("{{ messages[0].content }}"));
  EXPECT_EQ(CalibrateOptions{}.data, "auto");
  EXPECT_NE(phases(chats, "auto").find("writing text"), std::string::npos);
  EXPECT_EQ(phases(tests::kStories, "auto").find("writing text"), std::string::npos);
  EXPECT_EQ(phases(chats, "novels").find("writing text"), std::string::npos);
  EXPECT_NE(phases(tests::kStories, "self").find("writing text"), std::string::npos);
}

TEST(Phases, AreNumberedWithOneTime) {
  tests::StopAfter shown(1 << 20);
  PhasedProgress progress(shown);
  progress.expect({{"text", 30}, {"measure", 100}, {"make", 20}});
  progress.begin("measure: first", 1);  // the text was there
  progress.begin("measure: second", 1);
  progress.begin("something else", 1);
  progress.begin("make", 1);
  EXPECT_EQ(shown.phases,
            "2 of 3: measure: first (about 2.0 min in all)\n2 of 3: measure: second (about 2.0 min in all)\n"
            "something else\n3 of 3: make (about 20 s in all)\n");
  progress.expect({{"measure", 3}, {"learn", -1}});
  shown.phases.clear();
  progress.begin("measure", 1);
  EXPECT_EQ(shown.phases, "1 of 2: measure\n") << "one is not known, so the whole is not";
}

TEST_F(Promises, AContextThatTheModelDoesNotHave) {
  CompressRequest job = request("models/stories260K.gguf", "gptq-3", "out.gguf");
  const uint64_t known = load_model(job.model)->spec.context;
  job.recipe.calibrate.context = static_cast<int>(known) + 1;
  EXPECT_THROW(run(job), Error) << "asked for";
  // The usual length, by a model that knows less, becomes less, and that is said.
  job.model = stories_with("llama.context_length", uint32_t{64});
  job.recipe.calibrate.context = CalibrateOptions{}.context;
  tests::StopAfter never(1 << 20);
  compress(job, never);
  EXPECT_NE(never.notes.find("windows of 64 tokens: the model knows no longer context"), std::string::npos) << never.notes;
}

// A size above the original's: a copy, or no more bytes than it has, and never without a word.
TEST_F(Promises, MoreThanTheOriginalHasIsNotMadeOfIt) {
  tests::StopAfter never(1 << 20);
  CompressRequest fit = request("models/stories260K.gguf", "fit", "all.gguf");
  fit.budget = "300MB";
  const Json all = compress(fit, never);
  EXPECT_TRUE(all.at("lossless").get<bool>());
  EXPECT_NE(never.notes.find("every tensor keeps its bytes"), std::string::npos) << never.notes;
  if (all.at("file_bytes").get<uint64_t>() > std::filesystem::file_size(fit.model)) {
    EXPECT_NE(never.notes.find("becomes larger than the original"), std::string::npos) << never.notes;
  }
  // GPTQ's packing has no place in such a file: its 4 bits would become 8.
  fit.model = folder_ / "gptq";
  std::filesystem::copy(kData / "llama_gptq", fit.model);
  Json tokenizer = Json::parse(tests::tokenizer_of_one());
  tokenizer["model"]["vocab"] = {{"a", 0}, {"b", 1}};
  write_file(fit.model / "tokenizer.json", tokenizer.dump(), false);
  std::string text;
  Rng rng(3);
  for (int i = 0; i < 8000; ++i) text += rng.below(3) == 0 ? 'a' : 'b';
  write_file(folder_ / "a.txt", text, false);
  fit.recipe.calibrate.data = (folder_ / "a.txt").string();
  fit.recipe.calibrate.tokens = 256;
  fit.recipe.calibrate.context = 32;
  fit.output = folder_ / "packed.gguf";
  tests::StopAfter other(1 << 20);
  const Json packed = compress(fit, other);
  EXPECT_LE(packed.at("file_bytes").get<uint64_t>(), load_model(fit.model)->file_bytes) << other.notes;
  EXPECT_NE(other.notes.find("a larger file is not made of it"), std::string::npos) << other.notes;
}

TEST_F(Promises, ATextThatRepeatsItselfLeavesNothingToMeasureOn) {
  CompressRequest fit = request("models/stories260K.gguf", "fit", "out.gguf");
  fit.budget = "200KB";
  std::string text;
  for (int i = 0; i < 4000; ++i) text += "dog ";
  fit.recipe.calibrate.data = (folder_ / "dogs.txt").string();
  write_file(fit.recipe.calibrate.data, text, false);
  try {
    run(fit);
    ADD_FAILURE() << "was made";
  } catch (const Error& error) {
    EXPECT_EQ(error.kind(), ErrorKind::input) << error.what();
  }
}

// Ten windows of another text after writing: the numbers of `whit eval`, and the bytes are those of a run without.
TEST_F(Promises, WhatWasMadeIsChecked) {
  ThreadPool pool(2);
  for (const auto& [preset, speaks] : {std::pair{"rtn-4", true}, {"lowrank-1.0", false}}) {
    const std::string name = preset;
    CompressRequest job = request("models/stories260K.gguf", name, name + ".gguf");
    const Json plain = run(job);
    EXPECT_TRUE(plain.at("check").is_null());
    job.output = folder_ / (name + "-checked.gguf");
    job.check = true;
    tests::StopAfter never(1 << 20);
    const Json made = compress(job, never);
    EXPECT_EQ(read_file(job.output), read_file(folder_ / (name + ".gguf")));
    const Json& check = made.at("check");
    ASSERT_FALSE(check.is_null()) << never.notes;
    EXPECT_EQ(check.at("windows"), 10);
    EXPECT_EQ(check.at("speaks"), speaks) << check.dump();
    EXPECT_EQ(never.notes.find("will hardly speak") == std::string::npos, speaks) << never.notes;
    EXPECT_LE(made.at("peak_bytes").get<double>(), 1.1 * made.at("predicted_peak_bytes").get<double>());

    if (speaks) continue;  // one is enough: this takes the seconds of the test
    const ModelPtr before = load_model(job.model), after = load_model(job.output);
    const TokenWindows windows = judging_windows(*make_tokenizer(before->metadata), default_judging_text(),
                                                 check.at("context").get<uint64_t>(), 10);
    const Candidate base{"before", make_torch_scorer(before), &windows}, file{"after", make_torch_scorer(after), &windows};
    SilentProgress silent;
    const Judgements judged = evaluate(std::span(&file, 1), &base, pool, silent);
    EXPECT_NEAR(check.at("kl_mean").get<double>(), judged.models[0].kl_mean, 1e-3 * judged.models[0].kl_mean);
    EXPECT_NEAR(check.at("perplexity_half").get<double>(), judged.models[0].perplexity_half,
                1e-3 * judged.models[0].perplexity_half);
    EXPECT_NEAR(check.at("base_perplexity_half").get<double>(), judged.base->perplexity_half,
                1e-3 * judged.base->perplexity_half);
  }
}

// Whoever stops the check has the file.
TEST_F(Promises, AStoppedCheckLeavesTheFile) {
  class StopInCheck final : public Progress {
   public:
    void begin(const std::string& phase, double) override { checking = phase.find("check") != std::string::npos; }
    void advance(double) override {}
    void note(const std::string&) override {}
    void end() override {}
    void check_interrupt() override {
      if (checking) throw Error(ErrorKind::interrupted, "stopped");
    }
    bool checking = false;
  } stop;
  CompressRequest job = request("models/stories260K.gguf", "rtn-4", "out.gguf");
  job.check = true;
  try {
    compress(job, stop);
    ADD_FAILURE() << "was not stopped";
  } catch (const Error& error) {
    EXPECT_EQ(error.kind(), ErrorKind::interrupted);
    EXPECT_NE(error.message().find("complete"), std::string::npos) << error.what();
  }
  EXPECT_EQ(load_model(job.output)->integrity, "ok");
  EXPECT_FALSE(std::filesystem::exists(job.output.string() + ".journal"));
}

}  // namespace
}  // namespace whit
