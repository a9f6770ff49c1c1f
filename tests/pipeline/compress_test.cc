// The main job on tiny real models: sizes are exact, runs repeat bit for bit, interruption loses nothing.
#include "pipeline/compress.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <fstream>
#include <set>

#include "base/file.h"
#include "base/half.h"
#include "base/rng.h"
#include "data/tokenizer.h"
#include "format/safetensors.h"
#include "model/torch/executor.h"
#include "pipeline/fit.h"
#include "pipeline/toys.h"
#include "runtime/runtime.h"

namespace whit {
namespace {

const std::filesystem::path kData = std::filesystem::path(WHIT_TESTS_DIR) / "data";

class CompressTest : public tests::FolderTest {
 protected:
  void SetUp() override {
    FolderTest::SetUp();
    write_file(folder_ / "text.txt", tests::toy_text(7, 9000), false);
  }

  CompressRequest request(const std::string& model, const std::string& preset, const std::string& name) {
    return tests::toy_compression(kData / model, preset_recipe(preset), folder_, name);
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
    tests::StopAfter stop(at);
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

TEST_F(CompressTest, AStepThatLaterOnesReplaceIsRefused) {
  CompressRequest job = request("models/stories260K.gguf", "copy-f32", "out.gguf");
  const std::string step = "[[step]]\nmethod = \"rtn\"\nformat = \"f16\"\ntensors = ";
  job.recipe = parse_recipe("whit = 1\n" + step + "\"blk.0.*\"\n" + step + "\"blk.*\"\n", "test");
  EXPECT_THROW(run(job), Error);
  job.recipe = parse_recipe("whit = 1\n" + step + "\"blk.*\"\n" + step + "\"blk.0.*\"\n", "test");
  run(job);
}

TEST_F(CompressTest, WhatBecomesLargerIsSaid) {
  const auto notes = [&](const char* model, const char* output) {
    CompressRequest job = request(model, "copy-f32", output);
    job.recipe = parse_recipe("whit = 1\n[[step]]\nmethod = \"rtn\"\ntensors = \"blk.*.ffn*\"\nformat = \"f16\"\n", "test");
    tests::StopAfter never(1 << 20);
    compress(job, never);
    return never.notes;
  };
  const std::filesystem::path quantized = folder_ / "gptq";
  std::filesystem::copy(kData / "llama_gptq", quantized);
  write_file(quantized / "tokenizer.json", tests::tokenizer_of_one(), false);
  EXPECT_EQ(notes("models/stories260K.gguf", "kept.gguf").find("become F32"), std::string::npos);
  const std::string said = notes(quantized.c_str(), "larger.gguf");
  EXPECT_NE(said.find("2 tensors that no step takes become F32 (0.0 MB)"), std::string::npos) << said;
}

// As llama.cpp makes them: value finer than query and key.
TEST_F(CompressTest, MembersOfDifferentTypesStayAsTheyAre) {
  const std::filesystem::path mixed = folder_ / "mixed.gguf";
  tests::write_mixed_types(mixed);
  CompressRequest job = request(mixed.c_str(), "copy-f32", "kept.gguf");
  job.recipe =
      parse_recipe("whit = 1\n[[step]]\nmethod = \"rtn\"\ntensors = \"blk.*.ffn*\"\nformat = \"f32\"\n", "test");
  tests::StopAfter never(1 << 20);
  const Json made = compress(job, never);
  EXPECT_EQ(never.notes.find("become F32"), std::string::npos) << never.notes;
  EXPECT_EQ(made.at("file_bytes"), made.at("predicted_bytes"));
  const ModelPtr before = load_model(mixed), after = load_model(folder_ / "kept.gguf");
  EXPECT_EQ(after->find("blk.0.attn_q.weight").tensor->format->name(), "q4_0");
  EXPECT_EQ(after->find("blk.0.attn_v.weight").tensor->format->name(), "q8_0");
  EXPECT_EQ(logits(folder_ / "kept.gguf").data, logits(mixed).data);
  // What a step takes is made of the right rows, and the manifest says the rest by silence.
  job.recipe = recipe_from_json(Json::parse(after->metadata.string("whit.manifest")).at("recipe"), "manifest");
  job.output = folder_ / "again.gguf";
  compress(job, never);
  EXPECT_EQ(read_file(folder_ / "again.gguf"), read_file(folder_ / "kept.gguf"));
  // As one matrix: what the plain reader of the stack gives is what the members give.
  for (const UnitSpec& unit : units_of(before->spec)) {
    if (unit.kind != "attn_qkv") continue;
    const Packed stack = copy_unit(*before, unit);
    std::vector<float> all(unit.rows * unit.cols), rows(3 * unit.cols);
    stack.format->unpack(stack.shape, stack.views(), 0, unit.rows, all.data());
    for (uint64_t first = 0; first + 3 <= unit.rows; ++first) {
      stack.format->unpack(stack.shape, stack.views(), first, 3, rows.data());
      ASSERT_TRUE(std::equal(rows.begin(), rows.end(), all.begin() + static_cast<ptrdiff_t>(first * unit.cols)))
          << first;
    }
    EXPECT_EQ(all, load_unit(*before, unit).weights.data);
  }
}

TEST_F(CompressTest, CalibratesOnTextOfItsOwnAndTheRecipeRepeatsIt) {
  CompressRequest fit = request("models/stories260K.gguf", "fit", "own.gguf");
  fit.recipe.calibrate.data = "self";
  fit.recipe.calibrate.tokens = 256;  // two windows: the model writes them twice
  fit.budget = "180KB";
  run(fit);
  fit.recipe.calibrate.data = (folder_ / "text.txt").string();
  fit.output = folder_ / "other.gguf";
  run(fit);
  EXPECT_NE(read_file(folder_ / "own.gguf"), read_file(folder_ / "other.gguf"));
  const ModelPtr made = load_model(folder_ / "own.gguf");
  CompressRequest again = request("models/stories260K.gguf", "copy-f32", "again.gguf");
  again.recipe = recipe_from_json(Json::parse(made->metadata.string("whit.manifest")).at("recipe"), "manifest");
  EXPECT_EQ(again.recipe.calibrate.data, "self");
  std::filesystem::remove_all(folder_ / "cache");
  run(again);
  EXPECT_EQ(read_file(folder_ / "again.gguf"), read_file(folder_ / "own.gguf"));
  again.recipe.calibrate.seed = 1;
  again.output = folder_ / "seed.gguf";
  EXPECT_THROW(run(again), Error) << "another text than the recipe was made with";
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
  tests::compress_in_pieces(stopped, 3);
  EXPECT_EQ(read_file(folder_ / "stopped.gguf"), read_file(folder_ / "whole.gguf"));
}

// The recipe that stands in the file's manifest, with the text that made it.
Recipe recipe_of(const std::filesystem::path& file, const std::string& data) {
  const Json manifest = Json::parse(load_model(file)->metadata.string("whit.manifest"));
  Recipe recipe = parse_recipe(recipe_to_toml(recipe_from_json(manifest.at("recipe"), "manifest")), "toml");
  recipe.calibrate.data = data;
  return recipe;
}

// Pruned, rounded, packed: every matrix of a block has the pattern in the file, the runtime multiplies by it as
// LibTorch does, and the sizes are those promised. Rows of 64 and of 172 (a last group of 4).
TEST_F(CompressTest, PrunedFilesAreSmallerAndRun) {
  ThreadPool pool(2);
  const auto f16 = run(request("models/stories260K.gguf", "copy-f16", "f16.gguf"))["file_bytes"].get<uint64_t>();
  uint64_t last = f16;
  for (const char* preset : {"wanda-4-8", "wanda-4-8-w4", "sparsegpt-4-8-w3"}) {
    const auto path = folder_ / (std::string(preset) + ".gguf");
    const Json result = run(request("models/stories260K.gguf", preset, path.filename()));
    EXPECT_EQ(result["file_bytes"], result["predicted_bytes"]);
    EXPECT_LT(result["file_bytes"].get<uint64_t>(), last) << preset;
    last = result["file_bytes"].get<uint64_t>();
    const ModelPtr model = load_model(path);
    for (const StoredTensor& tensor : model->tensors) {
      if (!tensor.name.starts_with("blk.") || tensor.dimensions != 2) continue;
      ASSERT_TRUE(tensor.format->pattern()) << tensor.name;
      std::vector<float> rows(tensor.shape.count());
      unpack_rows({&tensor, 0, tensor.shape.rows}, 0, tensor.shape.rows, rows);
      const auto zeros = static_cast<uint64_t>(std::count(rows.begin(), rows.end(), 0.0f));
      EXPECT_GE(zeros, tensor.shape.rows * (tensor.shape.cols - tensor.format->pattern()->kept(tensor.shape.cols)));
    }
    const Matrix learning = logits(make_torch_scorer(model)), running = logits(make_runtime(model, pool));
    for (size_t i = 0; i < running.data.size(); ++i) ASSERT_NEAR(running.data[i], learning.data[i], 2e-3) << preset;
  }
}

// From the recipe to logits: the sizes are those promised, the runtime multiplies by decoded rows as LibTorch does, and
// more sizes of rows than one block holds (64, 172) pass.
TEST_F(CompressTest, BinarizedFilesRun) {
  ThreadPool pool(2);
  for (const char* preset : {"billm", "arb-rc", "arb-rc-cgb", "stbllm-4:8", "stbllm-4:8-released"}) {
    const auto path = folder_ / (std::string(preset) + ".gguf");
    const Json result = run(request("models/stories260K.gguf", preset, path.filename()));
    EXPECT_EQ(result["file_bytes"], result["predicted_bytes"]);
    const ModelPtr model = load_model(path);
    const bool masked = std::string(preset).ends_with(":8");
    for (const StoredTensor& tensor : model->tensors) {
      if (!tensor.name.starts_with("blk.") || tensor.dimensions != 2) continue;
      EXPECT_EQ(tensor.format->name(), "binary_groups");
      EXPECT_EQ(tensor.format->pattern().has_value(), masked) << preset;
      const double paper = tensor.format->paper_bits(tensor.shape, tensor.parts);
      EXPECT_GT(paper, masked ? 0.5 : 1.0) << preset;
      EXPECT_LT(paper, tensor.format->bits_per_weight(tensor.shape) / 2) << preset;
    }
    const Matrix learning = logits(make_torch_scorer(model)), running = logits(make_runtime(model, pool));
    for (size_t i = 0; i < running.data.size(); ++i) ASSERT_NEAR(running.data[i], learning.data[i], 2e-3) << preset;
  }
}

// n of each block is decided from the original and stands resolved in the file: its recipe gives the same bytes.
TEST_F(CompressTest, LayerwiseMasksAreResolvedInTheManifest) {
  CompressRequest first = request("llama_gqa", "sparsegpt-4-8", "exact.gguf");
  first.recipe.calibrate.tokens = 512;
  first.recipe.steps[0].options["layerwise"] = "exact";
  const Json result = run(first);
  EXPECT_EQ(result["file_bytes"], result["predicted_bytes"]);
  uint64_t kept = 0, asked = 0;
  std::set<unsigned> seen;
  const ModelPtr model = load_model(first.output);
  for (const StoredTensor& tensor : model->tensors) {
    if (!tensor.name.starts_with("blk.") || tensor.dimensions != 2) continue;
    const NmPattern pattern = *tensor.format->pattern();
    seen.insert(pattern.n);
    kept += tensor.shape.rows * pattern.kept(tensor.shape.cols);
    asked += tensor.shape.rows * NmPattern{4, 8}.kept(tensor.shape.cols);
  }
  EXPECT_GT(seen.size(), 1u) << "all blocks keep the same";
  EXPECT_EQ(kept, asked);
  CompressRequest again = first;
  again.output = folder_ / "again.gguf";
  again.recipe = recipe_of(first.output, first.recipe.calibrate.data);
  std::filesystem::remove_all(folder_ / "cache");
  run(again);
  EXPECT_EQ(read_file(again.output), read_file(first.output));

  CompressRequest owl = first;
  owl.dry_run = true;
  owl.recipe.steps[0].options["layerwise"] = "owl";
  owl.recipe.steps[0].options["owl_threshold"] = 3.0;
  std::set<std::string> labels;
  EXPECT_TRUE(run(owl).at("plan").is_null()) << "a dry run measures nothing";
  SilentProgress silent;
  calibrate(owl, silent);
  const Json predicted = run(owl);
  for (const Json& row : predicted["plan"]) labels.insert(row["format"].get<std::string>());
  EXPECT_GT(labels.size(), 2u) << "all blocks keep the same";
}

TEST_F(CompressTest, MasksThatFormatsCannotStoreAreRefusedBeforeTheWalk) {
  const auto refused = [&](const char* preset, const auto& change) {
    CompressRequest wrong = request("models/stories260K.gguf", preset, "out.gguf");
    change(wrong.recipe.steps);
    wrong.dry_run = true;
    try {
      run(wrong);
    } catch (const Error& error) {
      return error.kind() == ErrorKind::usage && std::string(error.what()).find("blk.0.") != std::string::npos;
    }
    return false;
  };
  using Steps = std::vector<Step>;
  EXPECT_TRUE(refused("wanda-4-8", [](Steps& steps) { steps.erase(steps.begin()); })) << "no scores";
  EXPECT_TRUE(refused("sparsegpt-4-8", [](Steps& steps) { steps.erase(steps.begin()); })) << "no mask";
  EXPECT_TRUE(refused("sparsegpt-4-8", [](Steps& steps) { steps[0].options["n"] = 2; })) << "another mask";
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
