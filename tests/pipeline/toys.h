// What tests of whole jobs share: a small real model, a text of its words, a run that is stopped.
#pragma once

#include <gtest/gtest.h>
#include <unistd.h>

#include <filesystem>
#include <string>

#include "base/error.h"
#include "base/file.h"
#include "base/progress.h"
#include "base/rng.h"
#include "pipeline/compress.h"
#include "pipeline/tune.h"

namespace whit::tests {

inline const std::filesystem::path kStories = std::filesystem::path(WHIT_TESTS_DIR) / "data/models/stories260K.gguf";

// Words that the model knows, in a drawn order.
inline std::string toy_text(uint64_t seed, int count) {
  const char* words[] = {"once", "upon", "a",    "time", "there", "was", "little", "girl", "who", "liked",
                         "to",   "play", "with", "her",  "dog",   "and", "the",    "ball", "in",  "park"};
  std::string text;
  Rng rng(seed);
  for (int i = 0; i < count; ++i) text += std::string(words[rng.below(20)]) + (rng.below(9) == 0 ? ". " : " ");
  return text;
}

// tokenizer.json of llama_gqa with one token left: "a".
inline std::string tokenizer_of_one() {
  Json tokenizer = Json::parse(read_file(std::filesystem::path(WHIT_TESTS_DIR) / "data/llama_gqa/tokenizer.json"));
  tokenizer["model"]["vocab"] = {{"a", 0}};
  tokenizer["model"]["merges"] = Json::array();
  tokenizer["added_tokens"] = Json::array();
  return tokenizer.dump();
}

// An empty folder of the test's own.
class FolderTest : public testing::Test {
 protected:
  void SetUp() override {
    const auto* test = testing::UnitTest::GetInstance()->current_test_info();
    folder_ = std::filesystem::temp_directory_path() /
              (std::string("whit_") + test->test_suite_name() + test->name() + std::to_string(::getpid()));
    std::filesystem::remove_all(folder_);
    std::filesystem::create_directories(folder_);
  }
  void TearDown() override { std::filesystem::remove_all(folder_); }

  std::filesystem::path folder_;
};

// Throws ErrorKind::interrupted at the n-th opportunity, counted from the note that holds `from`.
class StopAfter final : public Progress {
 public:
  explicit StopAfter(int n, std::string from = "") : left_(n), from_(std::move(from)) {}
  void begin(const std::string& phase, double) override { phases += phase + "\n"; }
  void advance(double) override {}
  void resume(double units) override { resumed = units; }
  void note(const std::string& text) override { notes += text + "\n"; }
  void end() override {}
  void check_interrupt() override {
    ++asked;
    if ((notes + phases).find(from_) != std::string::npos && left_-- == 0) throw Error(ErrorKind::interrupted, "stopped");
  }

  bool stopped() const { return left_ < 0; }

  int asked = 0;
  std::string notes, phases;
  double resumed = 0;  // what an earlier run had done of the last phase that says so

 private:
  int left_;
  std::string from_;
};

// Runs a job again and again, each time interrupted `step` opportunities later than before, until one run ends.
inline void compress_in_pieces(const CompressRequest& job, int step) {
  for (int at = 0; at < 200; at += step) {
    StopAfter stop(at);
    try {
      compress(job, stop);
      return;
    } catch (const Error& error) {
      ASSERT_EQ(error.kind(), ErrorKind::interrupted) << error.what();
    }
  }
}

// stories260K in Q4_0, but values of attention in Q8_0 and rows of no whole blocks in F32.
inline void write_mixed_types(const std::filesystem::path& path) {
  const ModelPtr plain = load_model(kStories);
  ModelOutput output;
  output.metadata = plain->metadata;
  for (const StoredTensor& tensor : plain->tensors) {
    const bool blocks = tensor.dimensions == 2 && tensor.shape.cols % 32 == 0;
    const bool fine = tensor.name.find("attn_v") != std::string::npos;
    const FormatPtr format = make_format(!blocks ? "f32" : fine ? "q8_0" : "q4_0");
    output.tensors.push_back({tensor.name, tensor.shape, tensor.dimensions, {}, format, [&tensor, format] {
                                std::vector<float> values(tensor.shape.count());
                                unpack_rows({&tensor, 0, tensor.shape.rows}, 0, tensor.shape.rows, values);
                                return std::make_shared<const Packed>(pack_rounded(format, tensor.shape, values));
                              }});
  }
  AtomicFile file(path, false);
  write_model_file(file, output);
  file.commit();
}

// A recipe on `model`, calibrated on the text.txt of `folder`, where output and cache lie too.
inline CompressRequest toy_compression(const std::filesystem::path& model, Recipe recipe,
                                       const std::filesystem::path& folder, const std::string& name) {
  CompressRequest result;
  result.model = model;
  result.output = folder / name;
  result.recipe = std::move(recipe);
  result.recipe.calibrate.data = (folder / "text.txt").string();
  result.recipe.calibrate.tokens = 1024;
  result.recipe.calibrate.context = 128;
  result.cache = folder / "cache";
  result.threads = 2;
  return result;
}

// Training `model` beside `original` on a toy text, in steps of 512 tokens, in one thread.
inline TuneRequest toy_tuning(const std::filesystem::path& model, const std::filesystem::path& original,
                              const std::filesystem::path& folder, const std::string& name, int64_t tokens) {
  TuneRequest request;
  request.model = model;
  request.against = original;
  request.output = folder / name;
  request.options.data = (folder / "text.txt").string();
  request.options.tokens = tokens;
  request.options.batch = 512;
  request.options.context = 64;
  request.method_options = make_tuner("distill", {{"evaluations", 2}})->options();
  request.cache = folder / "cache";
  request.threads = 1;
  return request;
}

}  // namespace whit::tests
