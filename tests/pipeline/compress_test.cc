// The main job on tiny real models: sizes are exact, runs repeat bit for bit, interruption loses nothing.
#include "pipeline/compress.h"

#include <gtest/gtest.h>

#include <cmath>
#include <cstring>
#include <fstream>

#include "base/file.h"
#include "base/half.h"
#include "base/rng.h"
#include "data/tokenizer.h"
#include "format/safetensors.h"
#include "model/torch/executor.h"
#include "pipeline/fit.h"
#include "runtime/runtime.h"

namespace whit {
namespace {

const std::filesystem::path kData = std::filesystem::path(WHIT_TESTS_DIR) / "data";

// Throws ErrorKind::interrupted at the n-th opportunity.
class StopAt final : public Progress {
 public:
  explicit StopAt(int n) : left_(n) {}
  void begin(const std::string&, double) override {}
  void advance(double) override {}
  void note(const std::string&) override {}
  void end() override {}
  void check_interrupt() override {
    if (left_-- == 0) throw Error(ErrorKind::interrupted, "stopped");
  }
  bool stopped() const { return left_ < 0; }

 private:
  int left_;
};

class CompressTest : public testing::Test {
 protected:
  void SetUp() override {
    folder_ = std::filesystem::temp_directory_path() / ("whit_compress_" + std::to_string(::getpid()) +
                                                        testing::UnitTest::GetInstance()->current_test_info()->name());
    std::filesystem::remove_all(folder_);
    std::filesystem::create_directories(folder_);
    std::string text;
    const char* words[] = {"once", "upon", "a",    "time", "there", "was", "little", "girl", "who", "liked",
                           "to",   "play", "with", "her",  "dog",   "and", "the",    "ball", "in",  "park"};
    Rng rng(7);
    for (int i = 0; i < 9000; ++i) text += std::string(words[rng.below(20)]) + (rng.below(9) == 0 ? ". " : " ");
    write_file(folder_ / "text.txt", text, false);
  }
  void TearDown() override { std::filesystem::remove_all(folder_); }

  CompressRequest request(const std::string& model, const std::string& preset, const std::string& name) {
    CompressRequest result;
    result.model = kData / model;
    result.output = folder_ / name;
    result.recipe = preset_recipe(preset);
    result.recipe.calibrate.data = (folder_ / "text.txt").string();
    result.recipe.calibrate.tokens = 1024;
    result.recipe.calibrate.context = 128;
    result.cache = folder_ / "cache";
    result.threads = 2;
    return result;
  }

  Json run(const CompressRequest& request) {
    SilentProgress silent;
    return compress(request, silent);
  }

  static Matrix logits(const std::filesystem::path& path) { return logits(make_torch_scorer(load_model(path))); }
  static Matrix logits(const std::shared_ptr<const Scorer>& scorer) {
    const auto session = scorer->open(64);
    Matrix rows(24, scorer->spec().vocabulary);
    std::vector<int32_t> ids;
    for (int i = 0; i < 24; ++i) ids.push_back(3 + i * 17 % 400);
    session->feed(ids, 0, [&](size_t position, std::span<const float> row) {
      std::copy(row.begin(), row.end(), rows.row(position));
    });
    return rows;
  }

  std::filesystem::path folder_;
};

TEST_F(CompressTest, CopyInF32GivesTheSameLogits) {
  for (const char* name : {"llama_gqa", "llama2_sentencepiece", "llama31_rope", "llama_tied_smollm"}) {
    run(request(name, "copy-f32", std::string(name) + ".gguf"));
    const Matrix expected = logits(kData / name), got = logits(folder_ / (std::string(name) + ".gguf"));
    // The same floats in the same order; only rotary divisors pass through F32.
    for (size_t i = 0; i < got.data.size(); ++i) ASSERT_NEAR(got.data[i], expected.data[i], 1e-5) << name << " " << i;
  }
}

// The folder with its matrices rounded to half or bfloat16 and stored as F32 again; norms stay, as in the GGUF.
void write_rounded_folder(const std::filesystem::path& from, const std::filesystem::path& to, bool bfloat) {
  std::filesystem::copy(from, to, std::filesystem::copy_options::recursive);
  std::string bytes = read_file(from / "model.safetensors");
  const auto file = SafetensorsFile::parse(std::as_bytes(std::span(bytes)), "model.safetensors");
  for (const SafetensorsEntry& tensor : file.tensors) {
    if (tensor.shape.size() != 2) continue;
    ASSERT_EQ(tensor.dtype, "F32");
    char* const at = bytes.data() + (reinterpret_cast<const char*>(tensor.data.data()) - bytes.data());
    for (size_t i = 0; i < tensor.data.size(); i += sizeof(float)) {
      float value;
      std::memcpy(&value, at + i, sizeof(value));
      value = bfloat ? bfloat16_to_float(float_to_bfloat16(value)) : half_to_float(float_to_half(value));
      std::memcpy(at + i, &value, sizeof(value));
    }
  }
  write_file(to / "model.safetensors", bytes, true);
}

TEST_F(CompressTest, CopyInHalfTypesIsTheModelRoundedToThem) {
  ThreadPool pool(2);
  for (const std::string name : {"llama_gqa", "llama2_sentencepiece", "llama_tied_smollm"})
    for (const std::string type : {"f16", "bf16"}) {
      const std::string file = name + type;
      run(request(name, "copy-" + type, file + ".gguf"));
      write_rounded_folder(kData / name, folder_ / file, type == "bf16");
      const Matrix original = logits(kData / name), expected = logits(folder_ / file);
      double square = 0, rounding = 0;
      for (size_t i = 0; i < expected.data.size(); ++i) {
        square += static_cast<double>(expected.data[i]) * expected.data[i];
        rounding = std::max(rounding, std::fabs(static_cast<double>(expected.data[i]) - original.data[i]));
      }
      const double bound = 2e-4 * std::sqrt(square / static_cast<double>(expected.data.size()));
      EXPECT_GT(rounding, bound) << file << ": the rounding is there to be seen";
      const ModelPtr made = load_model(folder_ / (file + ".gguf"));
      for (const auto& scorer : {make_torch_scorer(made), make_runtime(made, pool)}) {
        const Matrix got = logits(scorer);
        for (size_t i = 0; i < got.data.size(); ++i) ASSERT_NEAR(got.data[i], expected.data[i], bound) << file << i;
      }
    }
}

TEST_F(CompressTest, PredictedBytesAreTheFile) {
  const Json result = run(request("llama_gqa", "copy-f32", "out.gguf"));
  EXPECT_EQ(result["file_bytes"], result["predicted_bytes"]);
  EXPECT_EQ(std::filesystem::file_size(folder_ / "out.gguf"), result["file_bytes"].get<uint64_t>());
  EXPECT_FALSE(std::filesystem::exists(folder_ / "out.gguf.journal"));
}

TEST_F(CompressTest, TokenizersTravelWithTheFile) {
  for (const char* name : {"llama_gqa", "llama2_sentencepiece", "llama31_rope", "llama_tied_smollm"})
    for (const char* preset : {"copy-f32", "rtn-4"}) {  // an ordinary GGUF, and one of ours with a packed tokenizer
      const std::string file = std::string(name) + preset + ".gguf";
      run(request(name, preset, file));
      const Json reference = Json::parse(read_file(kData / name / "reference.json"));
      const auto tokenizer = make_tokenizer(load_model(folder_ / file)->metadata);
      for (const Json& item : reference.at("tokenize")) {
        const auto text = item.at("text").get<std::string>();
        EXPECT_EQ(tokenizer->encode(text, true, true), item.at("ids").get<std::vector<int32_t>>())
            << file << ": " << text;
      }
    }
}

TEST_F(CompressTest, SourceTypeIsCopied) {
  run(request("models/stories260K.gguf", "copy-f32", "a.gguf"));
  CompressRequest again = request("models/stories260K.gguf", "copy-f32", "b.gguf");
  again.model = folder_ / "a.gguf";
  const Json result = run(again);
  for (const Json& row : result["plan"]) EXPECT_EQ(row["method"], "copy");
}

TEST_F(CompressTest, DryRunPredictsTheExactBytesAndWritesNothing) {
  for (const char* preset : {"rtn-3", "gptq-2"}) {
    CompressRequest dry = request("models/stories260K.gguf", preset, "out.gguf");
    dry.dry_run = true;
    const Json predicted = run(dry);
    EXPECT_TRUE(predicted["file_bytes"].is_null());
    EXPECT_FALSE(std::filesystem::exists(folder_ / "out.gguf"));
    EXPECT_FALSE(std::filesystem::exists(folder_ / "out.gguf.journal"));
    const Json real = run(request("models/stories260K.gguf", preset, std::string(preset) + ".gguf"));
    EXPECT_EQ(real["file_bytes"], predicted["predicted_bytes"]);
  }
}

TEST_F(CompressTest, InterruptedAnywhereItEndsInTheSameBytes) {
  run(request("models/stories260K.gguf", "gptq-3", "whole.gguf"));
  const std::string whole = read_file(folder_ / "whole.gguf");
  const CompressRequest stopped = request("models/stories260K.gguf", "gptq-3", "stopped.gguf");
  int stops = 0;
  for (int at = 0;; ++at) {
    StopAt stop(at);
    try {
      compress(stopped, stop);
      break;
    } catch (const Error& error) {
      ASSERT_EQ(error.kind(), ErrorKind::interrupted) << error.what();
      EXPECT_FALSE(std::filesystem::exists(folder_ / "stopped.gguf"));
      ++stops;
    }
    ASSERT_LT(at, 200);
  }
  EXPECT_GE(stops, 6);
  EXPECT_EQ(read_file(folder_ / "stopped.gguf"), whole);
}

TEST_F(CompressTest, FitMeetsEveryBudgetAndTheRecipeRepeatsIt) {
  double last = 1e300;
  for (const char* budget : {"130KB", "180KB", "260KB", "400KB"}) {
    CompressRequest fit = request("models/stories260K.gguf", "fit", std::string(budget) + ".gguf");
    fit.budget = budget;
    const Json result = run(fit);
    EXPECT_LE(result["file_bytes"].get<uint64_t>(), parse_budget(budget, 1)) << budget;
    EXPECT_LT(result["predicted_loss"].get<double>(), last) << budget;
    last = result["predicted_loss"].get<double>();
  }
  const ModelPtr made = load_model(folder_ / "180KB.gguf");
  const Json manifest = Json::parse(made->metadata.string("whit.manifest"));
  CompressRequest again = request("models/stories260K.gguf", "copy-f32", "again.gguf");
  const auto data = again.recipe.calibrate.data;
  again.recipe = parse_recipe(recipe_to_toml(recipe_from_json(manifest.at("recipe"), "manifest")), "toml");
  again.recipe.calibrate.data = data;
  run(again);
  EXPECT_EQ(read_file(folder_ / "again.gguf"), read_file(folder_ / "180KB.gguf"));
  std::filesystem::remove_all(folder_ / "cache");
  again.output = folder_ / "cold.gguf";
  run(again);
  EXPECT_EQ(read_file(folder_ / "cold.gguf"), read_file(folder_ / "180KB.gguf"));
}

TEST_F(CompressTest, FitInterruptedAnywhereEndsInTheSameBytes) {
  CompressRequest whole = request("models/stories260K.gguf", "fit", "whole.gguf");
  whole.budget = "200KB";
  run(whole);
  CompressRequest stopped = whole;
  stopped.output = folder_ / "stopped.gguf";
  stopped.cache = folder_ / "other-cache";
  for (int at = 0; at < 200; at += 3) {
    StopAt stop(at);
    try {
      compress(stopped, stop);
      break;
    } catch (const Error& error) {
      ASSERT_EQ(error.kind(), ErrorKind::interrupted) << error.what();
    }
  }
  EXPECT_EQ(read_file(folder_ / "stopped.gguf"), read_file(folder_ / "whole.gguf"));
}

TEST_F(CompressTest, ImpossibleRequestsChangeNothing) {
  const auto kind_of = [&](const CompressRequest& request) {
    try {
      run(request);
    } catch (const Error& error) {
      return error.kind();
    }
    return ErrorKind::internal;
  };
  CompressRequest small = request("models/stories260K.gguf", "fit", "out.gguf");
  small.budget = "10KB";
  EXPECT_EQ(kind_of(small), ErrorKind::budget);
  CompressRequest no_size = small;
  no_size.budget = "";
  EXPECT_EQ(kind_of(no_size), ErrorKind::usage);
  CompressRequest two = request("models/stories260K.gguf", "rtn-4", "out.gguf");
  two.budget = "200KB";
  EXPECT_EQ(kind_of(two), ErrorKind::usage);
  CompressRequest tokens = request("models/stories260K.gguf", "gptq-4", "out.gguf");
  tokens.recipe.calibrate.tokens = 1 << 24;
  EXPECT_EQ(kind_of(tokens), ErrorKind::input);
  CompressRequest shape = request("models/stories260K.gguf", "q4_0", "out.gguf");  // ffn_down has rows of 172
  EXPECT_EQ(kind_of(shape), ErrorKind::input);
  CompressRequest folder = request("models/stories260K.gguf", "rtn-4", "missing/out.gguf");
  EXPECT_EQ(kind_of(folder), ErrorKind::io);
  EXPECT_FALSE(std::filesystem::exists(folder_ / "out.gguf"));
  write_file(folder_ / "out.gguf", "mine", false);
  EXPECT_EQ(kind_of(request("models/stories260K.gguf", "rtn-4", "out.gguf")), ErrorKind::io);
  EXPECT_EQ(read_file(folder_ / "out.gguf"), "mine");
}

}  // namespace
}  // namespace whit
