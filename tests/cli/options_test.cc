// Every option in a combination in which it would be ignored: refused, or at least looked at. What people type who come
// from other programs: the hint says what to type here.
#include <gtest/gtest.h>

#include <string>
#include <vector>

#include "cli/program.h"

namespace whit {
namespace {

const std::string tests = WHIT_TESTS_DIR;
const std::string model = tests + "/data/models/stories260K.gguf";

struct Case {
  std::vector<std::string> arguments;
  int code;
  std::vector<std::string> said;  // all of it stands in the message
};

void expect_all(const std::vector<Case>& cases) {
  for (const Case& one : cases) {
    std::string line;
    for (const std::string& word : one.arguments) line += " '" + word + "'";
    const Outcome outcome = call_whit(one.arguments);
    EXPECT_EQ(outcome.code, one.code) << line << "\n" << outcome.error;
    for (const std::string& said : one.said)
      EXPECT_NE(outcome.error.find(said), std::string::npos) << line << "\n" << outcome.error;
  }
}

class Options : public testing::Test {
 protected:
  TemporaryFolder folder;
  const std::string text =
                        folder.file("text.txt", "Once upon a time, there was a little girl named Lily. She went home."),
                    ids = folder.file("ids.json", "[1, 2, 3]"), out = (folder.path() / "new").string(),
                    old = folder.file("old", "mine"), rows = folder.file("rows.json", R"({"rows": [], "base": null})"),
                    answer = folder.file("answer.txt", "Yes."), none = (folder.path() / "nosuch.txt").string();
};

TEST_F(Options, ThatWouldDoNothingAreRefused) {
  const std::string nothing = "would do nothing";
  std::vector<Case> cases = {
      {{"inspect", model, "--force"}, 2, {nothing, "--force"}},
      {{"inspect", model, "--recipe", "-", "--force"}, 2, {nothing, "--force"}},
      {{"inspect", model, "--recipe", out, "--json"}, 2, {nothing, "--json"}},
      {{"inspect", model, "--recipe", "-", "--tokenize", "a"}, 2, {nothing, "--tokenize"}},
      {{"convert", model, out, "--shards", "1", "--max-shard-size", "1MB"}, 2, {"choose one"}},
      {{"run", model, "--raw", "-p", "a", "--system", "b"}, 2, {nothing, "--system"}},
      {{"run", model, "--raw", "-p", "a", "--template", "chatml"}, 2, {nothing, "--template"}},
      {{"run", model, "--raw", "-p", "a", "--thinking", "off"}, 2, {nothing, "--thinking"}},
      {{"run", model, "-p", "a", "-f", text}, 2, {"one of -p and -f"}},
      {{"run", model, "--ids", ids, "-f", text}, 2, {"one of --ids"}},
      {{"run", model, "--ids", ids, "--raw"}, 2, {"--raw"}},
      {{"run", model, "--ids", ids, "--system", "a"}, 2, {nothing, "--system"}},
      {{"run", model, "--ids", ids, "--template", "chatml"}, 2, {nothing, "--template"}},
      {{"run", model, "--ids", ids, "--thinking", "on"}, 2, {nothing, "--thinking"}},
      {{"run", model, "--ids", ids, "--stop", "a"}, 2, {nothing, "--stop"}},
      {{"run", model, "--json"}, 2, {"a chat cannot be JSON"}},
      {{"run", model, "--raw", "-p", "a", "--temp", "0", "--top-k", "5"}, 2, {nothing, "--top-k"}},
      {{"run", model, "--raw", "-p", "a", "--temp", "0", "--top-p", "0.5"}, 2, {nothing, "--top-p"}},
      {{"run", model, "--raw", "-p", "a", "--temp", "0", "--min-p", "0.5"}, 2, {nothing, "--min-p"}},
      {{"eval", model, "--text", text, "--context", "8", "--force"}, 2, {nothing, "--force"}},
      {{"eval", model, "--text", text, "--context", "8", "--json", "--markdown"}, 2, {nothing, "--markdown"}},
      {{"eval", model, "--text", text, "--context", "8", "--device", "cuda"}, 2, {"--device"}},
      {{"eval", model, "--ids", ids, "--dump-logits", out, "--context", "8"}, 2, {nothing, "--context"}},
      {{"eval", model, "--ids", ids, "--dump-logits", out, "--chunks", "1"}, 2, {nothing, "--chunks"}},
      {{"eval", model, "--ids", ids, "--dump-logits", out, "--json"}, 2, {nothing, "--json"}},
      {{"eval", model, "--ids", ids, "--dump-logits", out, "--markdown"}, 2, {nothing, "--markdown"}},
      {{"eval", model, "--ids", ids, "--dump-logits", out, "--text", text}, 2, {nothing, "--text"}},
      {{"eval", model, "--ids", ids, "--dump-logits", out, "--against", model}, 2, {nothing, "--against"}},
      {{"eval", model, model, "--ids", ids, "--dump-logits", out}, 2, {"one model"}},
      {{"eval", model, "--ids", ids}, 2, {"go together"}},
      {{"eval", model, "--dump-logits", out}, 2, {"go together"}},
      {{"report", "--model", model, "--base", model, "-o", out}, 2, {nothing, "--base"}},
      {{"report", "--model", model, "--prompt", "a", "-o", out}, 2, {nothing, "--prompt"}},
      {{"report", "--model", model, "--reference-name", "a", "-o", out}, 2, {nothing, "--reference-name"}},
#ifdef WHIT_LEARN
      {{"eval", model, "--text", text, "--executor", "torch", "--isa", "AVX2"}, 2, {"--isa"}},
      {{"eval", model, "--text", text, "--executor", "torch", "--activations", "int8"}, 2, {"--activations"}},
      {{"compress", model, "--preset", "rtn-3", "--data", none, "-o", out}, 5, {"nosuch.txt"}},
      {{"compress", model, "--preset", "rtn-3", "--data", "self+" + none, "-o", out}, 5, {"nosuch.txt"}},
      {{"compress", model, "--preset", "rtn-3", "--recipe", text, "-o", out}, 2, {"choose one"}},
      {{"compress", model, "--preset", "rtn-3", "--fit", "1MB", "-o", out}, 2, {"--fit"}},
      {{"compress", model, "--preset", "rtn-3", "--minutes", "1", "-o", out}, 2, {"--minutes"}},
      {{"compress", model, "--preset", "gptq-3", "--thorough", "--calibration-tokens", "512", "-o", out}, 2, {nothing}},
      {{"compress", model, "--preset", "rtn-3", "--explain", "--json", "-o", out}, 2, {nothing, "--explain"}},
      {{"compress", model, "-o", out}, 2, {"--fit 60MB"}},
      {{"tune", model, "--minutes", "1", "--train-tokens", "1M", "--data", text, "-o", out}, 2, {"how long"}},
      {{"tune", model, "--minutes", "1", "--data", none, "-o", out}, 5, {"nosuch.txt"}},
      {{"methods", "list", "--json", "--markdown"}, 2, {nothing, "--markdown"}},
      {{"methods", "describe", "gptq", "--markdown"}, 2, {nothing, "--markdown"}},
      {{"methods", "list", "gptq"}, 2, {"methods describe gptq"}},
#endif
  };
  // An empty name is what a script's empty variable leaves.
  for (const auto& [verb, option] : std::vector<std::pair<std::string, std::string>>{
           {"inspect", "--recipe"},    {"convert", "--type"},    {"convert", "--max-shard-size"},
           {"run", "--ids"},           {"run", "--file"},        {"run", "--template"},
           {"run", "--stop"},          {"run", "--isa"},         {"eval", "--text"},
           {"eval", "--against"},      {"eval", "--ids"},        {"eval", "--dump-logits"},
           {"report", "--references"}, {"report", "--base"},     {"report", "--output"},
#ifdef WHIT_LEARN
           {"compress", "--data"},     {"compress", "--preset"}, {"compress", "--recipe"},
           {"compress", "--fit"},      {"compress", "--cache"},  {"tune", "--against"},
           {"tune", "--data"},
#endif
       }) {
    std::vector<std::string> words = {verb, model};
    if (verb == "convert") words.push_back(out);
    if (verb == "compress" || verb == "tune") words.insert(words.end(), {"-o", out});
    words.insert(words.end(), {option, ""});
    cases.push_back({words, 2, {"an empty value", option}});
    words.resize(words.size() - 2);
    words.push_back(option + "=");
    cases.push_back({words, 2, {"without its value", option}});
  }
  expect_all(cases);
  EXPECT_FALSE(std::filesystem::exists(out));
  EXPECT_EQ(read_all(old), "mine");
}

#ifdef WHIT_LEARN
TEST_F(Options, TextThatARecipeDoesNotReadIsLookedAt) {
  const Outcome said =
      call_whit({"compress", model, "--preset", "rtn-3", "--data", text, "--context", "64", "-o", out});
  EXPECT_EQ(said.code, 0) << said.error;
  EXPECT_NE(said.error.find("reads no text: without effect are --data, --context"), std::string::npos) << said.error;
  expect_all({{{"compress", model, "--preset", "rtn-3", "--data", folder.file("bad", "\xff"), "-o", out + "2"},
               3,
               {"UTF-8"}}});
}
#endif

TEST_F(Options, TwoDashesEndThem) {
  EXPECT_EQ(call_whit({"inspect", "--json", "--", model}).code, 0);
  EXPECT_EQ(call_whit({"inspect", model, "--"}).code, 0);
  expect_all({{{"inspect", "--", model, "--json"}, 2, {"an argument too many", "--json"}},
              {{"inspect", "--", "--json"}, 5, {"--json"}},
              {{"run", model, "--raw", "-p", "a", "-n", "1", "--", "b"}, 2, {"an argument too many"}}});
}

TEST_F(Options, OfOtherProgramsAreUnderstood) {
  std::vector<Case> cases = {
      {{"run", "-m", model, "-p", "a"}, 2, {"whit run MODEL"}},
      {{"run", "--model", model}, 2, {"whit run MODEL"}},
      {{"run", model, "--temperature", "0"}, 2, {"did you mean '--temp'?"}},
      {{"run", model, "-temp", "0"}, 2, {"did you mean '--temp'?"}},
      {{"run", model, "-c", "512"}, 2, {"did you mean '--context'?"}},
      {{"run", model, "--ctx-size", "512"}, 2, {"did you mean '--context'?"}},
      {{"run", model, "--ctx_size=512"}, 2, {"did you mean '--context'?"}},
      {{"run", model, "-ngl", "99"}, 2, {"on the processor"}},
      {{"run", model, "--n-gpu-layers", "99"}, 2, {"on the processor"}},
      {{"run", model, "--n-predict", "9"}, 2, {"did you mean '--tokens'?"}},
      {{"run", model, "--n_predict", "9"}, 2, {"did you mean '--tokens'?"}},
      {{"run", model, "--max-tokens", "9"}, 2, {"did you mean '--tokens'?"}},
      {{"run", model, "--prompt-file", text}, 2, {"did you mean '--file'?"}},
      {{"run", model, "--top_k", "4"}, 2, {"did you mean '--top-k'?"}},
      {{"run", model, "-top_k", "4"}, 2, {"did you mean '--top-k'?"}},
      {{"run", model, "-prompt", "hi"}, 2, {"did you mean '--prompt'?"}},
      {{"run", model, "-sys", "hi"}, 2, {"did you mean '--system'?"}},
      {{"run", model, "-r", "hi"}, 2, {"did you mean '--stop'?"}},
      {{"run", model, "-i"}, 2, {"a chat begins"}},
      {{"run", model, "Why is the sky blue?"}, 2, {"-p \"Why is the sky blue?\""}},
      {{"eval", model, "-f", text}, 2, {"did you mean '--text'?"}},
      {{"eval", model, "-c", "512"}, 2, {"did you mean '--context'?"}},
      {{"eval", model, "--base", model}, 2, {"did you mean '--against'?"}},
      {{"convert", model, "-o", out}, 2, {"whit convert MODEL OUT"}},
      {{"convert", model, "--outfile", out}, 2, {"whit convert MODEL OUT"}},
      {{"convert", model, out, "--outtype", "F16"}, 2, {"did you mean '--type'?"}},
      {{"bench", model, "-n", "4"}, 2, {"did you mean '--decode'?"}},
      {{"bench", model, "-p", "4"}, 2, {"did you mean '--prompt'?"}},
      {{"inspect", model, "--prompt", "a"}, 2, {"did you mean '--tokenize'?"}},
      {{"inspect", model, "--verbose"}, 2, {"leave it out"}},
      {{"chat", model}, 2, {"did you mean 'run'?"}},
      {{"generate", model}, 2, {"did you mean 'run'?"}},
      {{"info", model}, 2, {"did you mean 'inspect'?"}},
      {{"ls"}, 2, {"did you mean 'inspect'?"}},
      {{"perplexity"}, 2, {"did you mean 'eval'?"}},
      {{"serve", model}, 2, {"no server yet"}},
      {{model}, 2, {"whit run " + model}},
      {{"tests.gguf"}, 2, {"whit run tests.gguf"}},
#ifdef WHIT_LEARN
      {{"quantize", model}, 2, {"did you mean 'compress'?"}},
      {{"finetune", model}, 2, {"did you mean 'tune'?"}},
      {{"compress", model, out}, 2, {"-o " + out}},
      {{"compress", model, "-output", out}, 2, {"did you mean '--output'?"}},
      {{"compress", model, "-f", text, "-o", out}, 2, {"did you mean '--data'?"}},
      {{"compress", model, "--bits", "4", "-o", out}, 2, {"--preset gptq-4"}},
      {{"compress", model, "--gpu", "-o", out}, 2, {"did you mean '--device cuda'?"}},
      {{"tune", model, "--epochs", "4", "-o", out}, 2, {"--minutes 30"}},
#endif
  };
  expect_all(cases);
}

// Words behind an option that takes a value are its value, whatever they look like.
TEST_F(Options, ValuesAreTakenAsTheyAre) {
  for (const std::string prompt : {"-ngl", "--temperature", "[a]", "-"}) {
    const Outcome outcome = call_whit({"inspect", model, "--json", "--tokenize", prompt}, "-");
    EXPECT_EQ(outcome.code, 0) << outcome.error;
    EXPECT_NE(outcome.out.find("\"decoded\": \"" + prompt + "\""), std::string::npos) << outcome.out;
  }
  const Outcome stop =
      call_whit({"run", model, "--raw", "-p", "Once upon a time", "-n", "60", "--temp", "0", "--stop", "[.]"});
  EXPECT_EQ(stop.error.find("a stop string came"), std::string::npos) << stop.error;  // it is no list
}

}  // namespace
}  // namespace whit
