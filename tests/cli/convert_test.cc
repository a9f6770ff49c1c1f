// whit convert: what it writes says the same as what it read.
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <set>

#include "base/file.h"
#include "base/half.h"
#include "base/options.h"
#include "cli/open.h"
#include "cli/program.h"
#include "format/format.h"
#include "format/container.h"
#include "format/safetensors.h"
#include "logits.h"
#include "model/spec/basis.h"
#include "reference_models.h"

namespace whit {
namespace {

const std::filesystem::path kData = WHIT_TESTS_DIR "/data";
const std::vector<std::string> kFixtures = reference_models();

Json convert(std::vector<std::string> arguments) {
  arguments.insert(arguments.begin(), "convert");
  arguments.insert(arguments.end(), {"--json", "-q"});
  const Outcome outcome = call_whit(arguments);
  EXPECT_EQ(outcome.code, 0) << outcome.error;
  return Json::parse(outcome.out, nullptr, false);
}

// [ids, vocabulary] of 24 ids of the model's vocabulary, by the runtime.
std::vector<float> logits(const std::filesystem::path& path) {
  const ModelPtr model = load_model(path);
  ThreadPool pool(1);
  const auto scorer = make_runtime(model, pool);
  const auto session = scorer->open(24);
  std::vector<int32_t> ids;
  for (int32_t i = 0; i < 24; ++i) ids.push_back((i * 37 + 5) % static_cast<int32_t>(model->spec.vocabulary));
  std::vector<float> all;
  session->feed(ids, 0, [&](size_t, std::span<const float> row) { all.insert(all.end(), row.begin(), row.end()); });
  return all;
}

std::vector<float> values(const TensorView& view) {
  std::vector<float> rows(view.rows * view.shape().cols);
  unpack_rows(view, 0, view.rows, rows);
  return rows;
}

TEST(Convert, FolderToGgufAndBackIsEqual) {
  for (const std::string& fixture : kFixtures) {
    SCOPED_TRACE(fixture);
    const TemporaryFolder folder;
    const std::string gguf = (folder.path() / "model.gguf").string(), back = (folder.path() / "back").string();
    convert({kData / fixture, gguf, "--type", "F32"});
    EXPECT_EQ(logits(gguf), logits(kData / fixture));
    const auto before = SafetensorsFile::open(kData / fixture / "model.safetensors");
    const std::string dtype = before.tensors.at(0).dtype;  // F32 holds BF16 exactly
    convert({gguf, back, "--type", dtype});
    EXPECT_EQ(logits(back), logits(kData / fixture));

    const auto after = SafetensorsFile::open(back + "/model.safetensors");
    EXPECT_EQ(after.metadata.at("format"), "pt");
    size_t added = 0;  // norms that the original leaves out, since they do nothing
    for (const SafetensorsEntry& entry : after.tensors) added += before.find(entry.name) == nullptr;
    EXPECT_EQ(added, fixture == "opt_plain" ? 8u : 0u);
    for (const SafetensorsEntry& entry : before.tensors) {
      const SafetensorsEntry* found = after.find(entry.name);
      ASSERT_NE(found, nullptr) << entry.name;
      EXPECT_EQ(found->shape, entry.shape) << entry.name;
      ASSERT_EQ(found->dtype, entry.dtype);
      EXPECT_EQ(std::memcmp(found->data.data(), entry.data.data(), entry.data.size()), 0) << entry.name;
    }
    const Json theirs = Json::parse(read_file(kData / fixture / "config.json")),
               ours = Json::parse(read_file(back + "/config.json"));
    for (const char* key : {"architectures",
                            "model_type",
                            "vocab_size",
                            "hidden_size",
                            "intermediate_size",
                            "num_hidden_layers",
                            "num_attention_heads",
                            "num_key_value_heads",
                            "head_dim",
                            "hidden_act",
                            "max_position_embeddings",
                            "rms_norm_eps",
                            "tie_word_embeddings",
                            "query_pre_attn_scalar",
                            "final_logit_softcapping",
                            "activation_function",
                            "scale_attn_weights",
                            "_remove_final_layer_norm",
                            "bos_token_id",
                            "eos_token_id",
                            "dtype"})
      // Mistral without a window is what GGUF calls llama, and comes back as such.
      if (theirs["model_type"] == "mistral" && ours["model_type"] == "llama" &&
          (key == std::string("architectures") || key == std::string("model_type")))
        EXPECT_TRUE(theirs["sliding_window"].is_null());
      else if (theirs.contains(key) && !theirs[key].is_null())
        EXPECT_EQ(ours.value(key, Json()).dump(), theirs[key].dump())
            << key;  // 24.0 is not 24: transformers refuses it
    for (const char* key : {"bos_token_id", "eos_token_id", "pad_token_id"}) EXPECT_TRUE(ours.contains(key)) << key;
    SilentProgress silent;
    const auto one = load_tokenizer(*load_model(kData / fixture), silent), two = load_tokenizer(*load_model(back), silent);
    const Json reference = Json::parse(read_file(kData / fixture / "reference.json"));  // outlives the loop over a part of it
    for (const Json& row : reference["tokenize"]) {
      const std::string text = row["text"].get<std::string>();
      EXPECT_EQ(two->encode(text, true, true), one->encode(text, true, true)) << text;
    }
    EXPECT_EQ(two->ends(), one->ends());
  }
}

TEST(Convert, TypesAreThoseThatWereAskedFor) {
  const TemporaryFolder folder;
  const ModelPtr original = load_model(kData / "llama_gqa");
  for (const std::string type : {"F16", "BF16", "Q8_0", "Q5_1", "Q5_0", "Q4_1", "Q4_0"}) {
    SCOPED_TRACE(type);
    const std::string file = (folder.path() / (type + ".gguf")).string();
    const Json json = convert({kData / "llama_gqa", file, "--type", "Q4_K," + type});  // rows of 64 and 160
    std::string lower = type;
    for (char& c : lower) c = static_cast<char>(std::tolower(c));
    EXPECT_EQ(json["types"], Json({{lower, 23}}));
    EXPECT_EQ(json["file_bytes"], std::filesystem::file_size(file));
    const ModelPtr model = load_model(file);
    EXPECT_EQ(model->integrity, "ok");
    for (const StoredTensor& tensor : model->tensors) {
      const TensorView view{&tensor, 0, tensor.shape.rows};
      EXPECT_EQ(tensor.format->name(), tensor.dimensions == 1 ? "f32" : lower) << tensor.name;
      const std::vector<float> now = values(view), was = values(original->find(tensor.name));
      double error = 0, power = 0;
      for (size_t i = 0; i < now.size(); ++i) {
        error += std::pow(double{now[i]} - double{was[i]}, 2);
        power += std::pow(double{was[i]}, 2);
      }
      // Uniform levels of a group of 32 normal weights, which reach to 2.1 deviations: step^2 / 12, without loss of
      // generality at 4 bits.
      const double step = 2 * 2.1 / 15;
      EXPECT_LT(error / power, 1.2 * step * step / 12) << tensor.name;
      if (tensor.dimensions == 1) EXPECT_EQ(error, 0) << tensor.name;
    }
  }
}

TEST(Convert, ShardsAreTheWhole) {
  const TemporaryFolder folder;
  const std::string base = folder.path().string();
  convert({kData / "llama_gqa", base + "/whole.gguf", "--type", "Q8_0"});
  const Json parts = convert({kData / "llama_gqa", base + "/parts.gguf", "--type", "Q8_0", "--shards", "3"});
  ASSERT_EQ(parts["files"].size(), 3u);
  EXPECT_EQ(parts["files"][1], base + "/parts-00002-of-00003.gguf");
  const std::string first = base + "/parts-00001-of-00003.gguf";
  EXPECT_EQ(logits(first), logits(base + "/whole.gguf"));
  const ModelPtr model = load_model(first);
  EXPECT_EQ(model->file_bytes, parts["file_bytes"]);
  EXPECT_EQ(model->integrity, "ok");
  EXPECT_FALSE(model->metadata.has("split.count"));
  convert({first, base + "/merged.gguf"});
  EXPECT_EQ(logits(base + "/merged.gguf"), logits(base + "/whole.gguf"));

  const auto error = [](const std::string& path) {
    try {
      load_model(path);
    } catch (const Error& caught) {
      return std::string(caught.what());
    }
    return std::string();
  };
  EXPECT_NE(error(base + "/parts-00002-of-00003.gguf").find("not the first file"), std::string::npos);
  std::filesystem::copy(base + "/parts-00003-of-00003.gguf", base + "/parts-00002-of-00003.gguf",
                        std::filesystem::copy_options::overwrite_existing);
  EXPECT_NE(error(first).find("another number than its name"), std::string::npos) << error(first);
  std::filesystem::remove(base + "/parts-00002-of-00003.gguf");
  EXPECT_NE(error(first).find("parts-00002-of-00003.gguf"), std::string::npos) << error(first);

  const Json sharded = convert({kData / "llama_gqa", base + "/shards", "--max-shard-size", "300KiB"});
  EXPECT_EQ(sharded["files"].size(), 4u);
  for (const Json& file : sharded["files"]) EXPECT_LT(std::filesystem::file_size(file.get<std::string>()), 310000u);
  EXPECT_EQ(logits(base + "/shards"), logits(kData / "llama_gqa"));
  convert({base + "/shards", base + "/again"});
  EXPECT_EQ(logits(base + "/again"), logits(kData / "llama_gqa"));
}

// A file in our own formats becomes one that any engine reads: stacks are taken apart, the tokenizer is unpacked.
TEST(Convert, OurOwnFormatsBecomeOrdinary) {
  const TemporaryFolder folder;
  const std::string file = (folder.path() / "plain.gguf").string();
  const std::filesystem::path ours = kData / "golden/stories260K-grid3-v1.gguf";
  convert({ours, file, "--type", "F16"});
  const ModelPtr before = load_model(ours), after = load_model(file);
  ASSERT_EQ(before->weights, "whit");
  EXPECT_EQ(after->weights, "gguf F16");
  EXPECT_EQ(after->metadata.string("general.architecture"), "llama");
  EXPECT_NE(after->metadata.array<std::string>("tokenizer.ggml.tokens"), nullptr);
  for (const StoredTensor& tensor : after->tensors) {
    if (tensor.dimensions == 1) continue;
    std::vector<float> wanted = values(before->find(tensor.name));
    for (float& w : wanted) w = half_to_float(float_to_half(w));
    EXPECT_EQ(values({&tensor, 0, tensor.shape.rows}), wanted) << tensor.name;
  }
}

// The model with its residual stream in another basis, merged into the weights, as a file of ours.
void write_turned(const ModelPtr& model, const RotationPtr& rotation, const std::filesystem::path& path) {
  const ModelPtr turned = turn_stream(model, rotation);
  ModelOutput output;
  output.metadata = turned->metadata;
  output.manifest = "{}";
  output.stream = rotation;
  for (const StoredTensor& tensor : turned->tensors) {
    std::vector<std::pair<std::string, TensorView>> members = {{tensor.name, {&tensor, 0, tensor.shape.rows}}};
    if (!tensor.members.empty()) members.clear();
    for (const Member& member : tensor.members) members.push_back({member.name, {&tensor, member.begin, member.count}});
    for (const auto& [name, view] : members) {
      auto packed = std::make_shared<const Packed>(pack_dense(make_format("f32"), view.shape(), values(view)));
      output.tensors.push_back({name, view.shape(), tensor.dimensions, {}, packed->format, [packed] { return packed; }});
    }
  }
  AtomicFile file(path, false);
  write_model_file(file, output);
  file.commit();
}

double apart(const std::vector<float>& a, const std::vector<float>& b) {
  return tests::greatest_difference(a, b) / tests::standard_deviation(b);
}

// A rotation of the residual stream has no place in an ordinary file: what is written computes the same without it.
TEST(Convert, TurnedStreamsComeBack) {
  for (const std::string fixture : {"llama_gqa", "llama_tied_smollm", "qwen3_qknorm", "phi3", "smollm3", "mistral_head_dim"}) {
    SCOPED_TRACE(fixture);
    const TemporaryFolder folder;
    const ModelPtr model = load_model(kData / fixture);
    const std::string turned = (folder.path() / "turned.gguf").string();
    write_turned(model, make_rotation(model->spec.width, 3, 1, fixture), turned);
    EXPECT_LT(apart(logits(turned), logits(kData / fixture)), 1e-4);
    for (const std::string output : {"plain.gguf", "plain"}) {
      const std::string path = (folder.path() / output).string();
      convert({turned, path, "--type", "F32"});
      EXPECT_EQ(load_model(path)->spec.stream_rotation, nullptr);
      EXPECT_LT(apart(logits(path), logits(turned)), 1e-4) << output;
    }
  }
}

// A fixture as a GGUF that says other things of itself.
void write_with(const std::string& fixture, const std::vector<KeyValue>& keys, const std::filesystem::path& path) {
  const ModelPtr model = load_model(kData / fixture);
  ModelOutput output;
  output.metadata = model->metadata;
  output.manifest = "{}";
  for (const KeyValue& item : keys) output.metadata.set(item.key, item.value);
  for (const StoredTensor& tensor : model->tensors) {
    const std::vector<float> all = values({&tensor, 0, tensor.shape.rows});
    auto packed = std::make_shared<const Packed>(pack_dense(make_format("f32"), tensor.shape, all));
    output.tensors.push_back({tensor.name, tensor.shape, tensor.dimensions, {}, packed->format, [packed] { return packed; }});
  }
  AtomicFile file(path, true);
  write_model_file(file, output);
  file.commit();
}

// A folder says less than a GGUF can. What it cannot say is refused before anything is written; what is written is read.
TEST(Convert, AFolderThatIsWrittenIsRead) {
  const TemporaryFolder temporary;
  const std::string gguf = (temporary.path() / "m.gguf").string(), folder = (temporary.path() / "f").string();
  const auto rotated = [](uint32_t elements) { return std::vector<KeyValue>{{"phi3.rope.dimension_count", elements}}; };
  for (const uint32_t elements : {2u, 6u, 10u, 14u, 16u}) {  // 6 / 16 of 16 and the like are cut off by readers
    write_with("phi3", rotated(elements), gguf);
    if (elements > load_model(kData / "phi3")->spec.head_size) continue;
    convert({gguf, folder, "--type", "F32", "--force"});
    EXPECT_EQ(logits(folder), logits(gguf)) << elements;
  }
  std::filesystem::remove_all(folder);
  const auto refused = [&](const std::string& fixture, const std::vector<KeyValue>& keys, const std::string& says) {
    write_with(fixture, keys, gguf);
    ASSERT_FALSE(logits(gguf).empty());
    const Outcome outcome = call_whit({"convert", gguf, folder});
    EXPECT_EQ(outcome.code, 3) << fixture << outcome.error;
    EXPECT_NE(outcome.error.find(says), std::string::npos) << outcome.error;
    EXPECT_FALSE(std::filesystem::exists(folder)) << fixture;
  };
  refused("llama_gqa", {{"llama.rope.dimension_count", uint32_t{4}}}, "rotated in part");
  refused("qwen2_bias", {{"qwen2.rope.dimension_count", uint32_t{4}}}, "rotated in part");
  refused("llama_gqa", {{"llama.context_length", uint32_t{4294967295u}}}, "max_position_embeddings");
  refused("gemma3_text", {{"gemma3.attention.scale", 0.3f}}, "scale of attention");
  refused("gpt2", {{"gpt2.attention.scale", 0.3f}}, "scale of attention");
}

TEST(Convert, QuantizedFoldersBecomeOrdinary) {
  for (const std::string fixture : {"llama_gptq", "llama_awq", "llama_f8"}) {
    SCOPED_TRACE(fixture);
    const TemporaryFolder folder;
    const std::string gguf = (folder.path() / "m.gguf").string(), back = (folder.path() / "back").string();
    convert({kData / fixture, gguf, "--type", "F32"});
    convert({kData / fixture, back, "--type", "F32"});
    EXPECT_EQ(logits(back), logits(gguf));
    // The executor multiplies rows that it decodes one by one as those that it has as floats.
    const std::vector<float> packed = logits(kData / fixture), plain = logits(gguf);
    double most = 0, square = 0;
    for (size_t i = 0; i < plain.size(); ++i) {
      most = std::max(most, std::abs(double{packed[i]} - double{plain[i]}));
      square += double{plain[i]} * double{plain[i]};
    }
    EXPECT_LT(most, 1e-5 * std::sqrt(square / static_cast<double>(plain.size())));
    EXPECT_FALSE(Json::parse(read_file(back + "/config.json")).contains("quantization_config"));
  }
}

// Each file of a folder that was written has a checksum; without the table, nothing is checked.
TEST(Convert, FoldersHaveChecksums) {
  const TemporaryFolder temporary;
  const std::filesystem::path folder = temporary.path() / "f";
  convert({(kData / "llama_gqa").string(), folder.string(), "--shards", "2"});
  EXPECT_EQ(load_model(folder)->integrity, "ok");
  std::set<std::string> damaged;
  for (const auto& entry : std::filesystem::directory_iterator(folder)) {
    const std::string name = entry.path().filename().string(), content = read_all(entry.path().string());
    std::string other = content;
    other[other.size() / 2] = static_cast<char>(other[other.size() / 2] ^ 1);
    temporary.file("f/" + name, other);
    EXPECT_THROW(load_model(folder), Error) << name;
    temporary.file("f/" + name, content);
    damaged.insert(name);
  }
  for (const char* name : {"config.json", "tokenizer.json", "model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors",
                           "model.safetensors.index.json", "whit.json"})
    EXPECT_TRUE(damaged.contains(name)) << name;
  EXPECT_EQ(load_model(folder, LoadOptions{.verify = false})->integrity, "not verified");

  const std::string config = read_all((folder / "config.json").string());
  temporary.file("f/config.json", config + " ");
  try {
    load_model(folder);
    ADD_FAILURE() << "another config.json was not noticed";
  } catch (const Error& error) {
    EXPECT_EQ(error.kind(), ErrorKind::integrity);
    EXPECT_NE(error.where().find("config.json"), std::string::npos) << error.where();
  }
  std::filesystem::remove(folder / "whit.json");
  EXPECT_EQ(load_model(folder)->integrity, "absent");
}

TEST(Convert, BadCallsChangeNothing) {
  const TemporaryFolder folder;
  const std::string base = folder.path().string(), source = (kData / "llama_gqa").string();
  const auto fails = [&](std::vector<std::string> arguments, int code, const std::string& says) {
    arguments.insert(arguments.begin(), "convert");
    const Outcome outcome = call_whit(arguments);
    EXPECT_EQ(outcome.code, code) << says;
    EXPECT_NE(outcome.error.find(says), std::string::npos) << says << " is missing in: " << outcome.error;
    EXPECT_EQ(outcome.out, "");
  };
  fails({source, base + "/a.gguf", "--type", "Q4_K"}, 2, "output.weight");
  fails({source, base + "/a.gguf", "--type", "q4_2"}, 2, "q4_");
  fails({source, base + "/a.gguf", "--type", "TQ1_0"}, 2, "only read");
  fails({source, base + "/a.gguf", "--type", "grid"}, 2, "whit compress");
  fails({source, base + "/a", "--type", "Q8_0"}, 2, "F32, F16 or BF16");
  fails({source, base + "/a.gguf", "--shards", "1000"}, 2, "more shards than tensors");
  fails({source, base + "/a.gguf", "--max-shard-size", "1KB"}, 2, "larger than a shard");
  fails({source, base + "/a.gguf", "--max-shard-size", "many"}, 2, "not a size");
  fails({source, base + "/a.gguf", "--max-shard-size", "1GB", "--shards", "2"}, 2, "choose one");
  fails({source, base + "/none/a.gguf"}, 5, "none/a.gguf");
  fails({source + "_not", base + "/a.gguf"}, 5, "llama_gqa_not");
  EXPECT_TRUE(std::filesystem::is_empty(base));

  const std::string file = folder.file("a.gguf", "mine");
  fails({source, file}, 5, "a.gguf");
  EXPECT_EQ(read_all(file), "mine");
  fails({source, base + "/a.gguf", "--force", "--type", "Q4_K"}, 2, "output.weight");
  EXPECT_EQ(read_all(file), "mine");
  convert({source, file, "--force"});
  EXPECT_EQ(logits(file), logits(source));

  std::filesystem::create_directory(base + "/f");
  folder.file("f/notes.txt", "mine");
  folder.file("f/model-00001-of-00002.safetensors", "old");
  fails({source, base + "/f"}, 5, "the output exists");
  EXPECT_EQ(read_all(base + "/f/model-00001-of-00002.safetensors"), "old");
  convert({source, base + "/f/", "--force"});
  EXPECT_EQ(read_all(base + "/f/notes.txt"), "mine");
  EXPECT_FALSE(std::filesystem::exists(base + "/f/model-00001-of-00002.safetensors"));
  EXPECT_EQ(logits(base + "/f"), logits(source));
}

}  // namespace
}  // namespace whit
