// What the files of a model say beside its weights reaches the verbs: sampling, notes, chat templates of their own
// files.
#include <gtest/gtest.h>

#include "base/options.h"
#include "cli/program.h"

namespace whit {
namespace {

namespace fs = std::filesystem;

const fs::path kData = WHIT_TESTS_DIR "/data";

class ModelFiles : public testing::Test {
 protected:
  // A copy of llama_gqa with this file in it.
  std::string model(const std::string& name, const std::string& file, const std::string& text) const {
    const fs::path folder = temporary_.path() / name;
    fs::create_directories((folder / file).parent_path());
    for (const char* each : {"config.json", "generation_config.json", "tokenizer.json", "model.safetensors"})
      fs::copy(kData / "llama_gqa" / each, folder / each, fs::copy_options::skip_existing);
    fs::remove(folder / file);
    temporary_.file(name + "/" + file, text);
    return folder.string();
  }
  std::string path(const std::string& name) const { return (temporary_.path() / name).string(); }

  TemporaryFolder temporary_;
};

Outcome succeed(const std::vector<std::string>& arguments) {
  const Outcome outcome = call_whit(arguments);
  EXPECT_EQ(outcome.code, 0) << arguments[0] << " " << outcome.error;
  return outcome;
}

TEST_F(ModelFiles, SayHowAnswersAreDrawn) {
  const std::string folder = model("m", "generation_config.json",
                                   R"({"temperature": 5.0, "top_k": 1000, "top_p": 1.0, "repetition_penalty": 1.5})");
  const std::string gguf = path("m.gguf"), small = path("small.gguf"), plain = (kData / "llama_gqa").string();
  succeed({"convert", folder, gguf});
  const auto answer = [&](const std::string& model, std::vector<std::string> more) {
    std::vector<std::string> words = {"run", model, "--raw", "-p", "Hello world", "-n", "12", "--json"};
    words.insert(words.end(), more.begin(), more.end());
    return succeed(words);
  };
  const std::vector<std::string> asked = {"--temp", "5", "--top-k", "1000", "--top-p", "1", "--repeat-penalty", "1.5"};
  const auto ids = [](const Outcome& outcome) { return Json::parse(outcome.out)["ids"]; };
  const Json right = ids(answer(plain, asked));
  EXPECT_NE(ids(answer(plain, {})), right);
  for (const std::string& each : {folder, gguf}) {
    const Outcome told = answer(each, {});
    EXPECT_EQ(ids(told), right) << each;
    EXPECT_NE(told.error.find("temperature 5, top-k 1000, top-p 1, repeat penalty 1.5]"), std::string::npos)
        << told.error;
    // An option outdoes the files; without a random choice none of the others means anything.
    const Outcome cold = answer(each, {"--temp", "0"});
    EXPECT_EQ(ids(cold), ids(answer(plain, {"--temp", "0"})));
    EXPECT_EQ(cold.error.find("sampling as"), std::string::npos) << cold.error;
    EXPECT_EQ(answer(each, {"--top-k", "3"}).error.find("top-k"), std::string::npos);
  }
  const std::string greedy = model("greedy", "generation_config.json", R"({"do_sample": false, "top_k": 7})");
  EXPECT_EQ(ids(answer(greedy, {})), ids(answer(plain, {"--temp", "0"})));
  EXPECT_EQ(ids(answer(greedy, {"--top-p", "0.9"})), ids(answer(plain, {"--top-p", "0.9", "--top-k", "7"})));
}

TEST_F(ModelFiles, NotesOfTheTokenizerAreInTheJson) {
  const std::string folder = model("m", "generation_config.json", R"({"suppress_tokens": [5]})");
  const Json json = Json::parse(succeed({"inspect", folder, "--json"}).out);
  ASSERT_EQ(json["notes"].size(), 1u);
  EXPECT_NE(json["notes"][0].get<std::string>().find("suppress_tokens"), std::string::npos);
  EXPECT_NE(succeed({"inspect", folder}).out.find(json["notes"][0].get<std::string>()), std::string::npos);
  const std::string broken = model("b", "tokenizer.json", "{}");
  const Json notes = Json::parse(succeed({"inspect", broken, "--json"}).out)["notes"];
  ASSERT_EQ(notes.size(), 1u);
  EXPECT_NE(notes[0].get<std::string>().find("tokenizer not usable"), std::string::npos);
}

// Templates in a folder of their own are written as they are, and an older folder keeps none of its own.
TEST_F(ModelFiles, TemplatesInTheirFolder) {
  const std::string named = model("m", "additional_chat_templates/rag.jinja", "R"), out = path("out");
  const fs::path there = fs::path(out) / "additional_chat_templates" / "rag.jinja";
  succeed({"convert", named, out});
  EXPECT_EQ(read_all(there), "R");
  succeed({"inspect", out});  // with its checksums
  temporary_.file("out/additional_chat_templates/rag.jinja", "S");
  EXPECT_EQ(call_whit({"inspect", out}).code, 6);
  temporary_.file("out/additional_chat_templates/old.jinja", "O");
  succeed({"convert", named, out, "--force"});
  EXPECT_EQ(read_all(there), "R");
  EXPECT_FALSE(fs::exists(there.parent_path() / "old.jinja"));
  succeed({"convert", (kData / "llama_gqa").string(), out, "--force"});
  EXPECT_FALSE(fs::exists(there.parent_path()));
}

// Under --force nothing is left that a reader would take for the new model's, and nothing of the user's goes.
TEST_F(ModelFiles, OfAnOlderModelNothingStays) {
  const std::string gqa = (kData / "llama_gqa").string(), fresh = path("fresh"), out = path("out");
  succeed({"convert", gqa, fresh});
  const std::vector<std::string> older = {"adapter_config.json",
                                          "adapter_model.safetensors",
                                          "added_tokens.json",
                                          "chat_template.jinja",
                                          "chat_template.json",
                                          "consolidated.safetensors",
                                          "merges.txt",
                                          "model-00001-of-00002.safetensors",
                                          "preprocessor_config.json",
                                          "processor_config.json",
                                          "quantize_config.json",
                                          "special_tokens_map.json",
                                          "tekken.json",
                                          "tokenizer.model",
                                          "tokenizer.model.v3",
                                          "vocab.json",
                                          "weights_b.safetensors",
                                          "additional_chat_templates/old.jinja"};
  const std::vector<std::string> own = {"README.md", "notes.json", "model.txt", "my.safetensors",
                                        "additional_chat_templates/notes.txt"};
  fs::create_directories(fs::path(out) / "additional_chat_templates");
  for (const std::string& each : older) temporary_.file("out/" + each, "old");
  for (const std::string& each : own) temporary_.file("out/" + each, "mine");
  temporary_.file("out/model.safetensors.index.json",
                  R"({"weight_map": {"a": "weights_b.safetensors", "b": "README.md"}})");
  const Outcome outcome = succeed({"convert", gqa, out, "--force"});
  for (const std::string& each : older) {
    EXPECT_FALSE(fs::exists(fs::path(out) / each)) << each;
    EXPECT_NE(outcome.error.find(each), std::string::npos) << each;
  }
  for (const std::string& each : own) EXPECT_EQ(read_all(fs::path(out) / each), "mine") << each;
  for (const auto& entry : fs::directory_iterator(fresh))
    EXPECT_EQ(read_all(fs::path(out) / entry.path().filename()), read_all(entry.path())) << entry.path();
  EXPECT_EQ(succeed({"convert", gqa, out, "--force"}).error.find("removed"), std::string::npos);
}

TEST_F(ModelFiles, AFolderInTheirPlaceIsRefused) {
  const std::string gqa = (kData / "llama_gqa").string(), out = path("out");
  for (const char* name : {"tokenizer.model", "vocab.json", "model-x.safetensors", "config.json"}) {
    fs::create_directories(fs::path(out) / name);
    temporary_.file("out/tokenizer.json", "old");
    temporary_.file(std::string("out/") + name + "/mine", "mine");
    const Outcome outcome = call_whit({"convert", gqa, out, "--force"});
    EXPECT_EQ(outcome.code, 5) << name;
    EXPECT_NE(outcome.error.find(name), std::string::npos) << outcome.error;
    EXPECT_EQ(read_all(out + "/tokenizer.json"), "old");
    EXPECT_EQ(read_all(out + "/" + name + "/mine"), "mine");
    fs::remove_all(out);
  }
}

}  // namespace
}  // namespace whit
