// Values that options take: numbers as they were meant, each given once, and files that are something else than the
// option wants.
#include <gtest/gtest.h>

#include <string>
#include <vector>

#include "cli/program.h"

namespace whit {
namespace {

namespace fs = std::filesystem;

const std::string tests = WHIT_TESTS_DIR;
const std::string model = tests + "/data/models/stories260K.gguf";

using Words = std::vector<std::string>;

class Values : public testing::Test {
 protected:
  void expect(const Words& words, int code, const std::string& said) const {
    const Outcome outcome = call_whit(words);
    std::string line;
    for (const std::string& word : words) line += " '" + word + "'";
    EXPECT_EQ(outcome.code, code) << line << "\n" << outcome.error;
    EXPECT_NE(outcome.error.find(said), std::string::npos) << line << "\n" << outcome.error;
  }
  Words raw(const Words& more) const {
    Words words = {"run", model, "--raw", "-p", "Once", "-n", "2"};
    words.insert(words.end(), more.begin(), more.end());
    return words;
  }
  TemporaryFolder folder;
  const std::string text = folder.file("text.txt", "Once upon a time there was a little girl named Lily."),
                    out = (folder.path() / "out.gguf").string();
};

TEST_F(Values, NaNIsInNoRange) {
  for (const std::string option : {"--temp", "--top-p", "--min-p", "--repeat-penalty"})
    for (const std::string value : {"nan", "NaN", "-nan", "inf", "1e999", "", " 1", "1,0", "0x1p0", "1 0"})
      expect(raw({option, value}), 2, option);
#ifdef WHIT_LEARN
  expect({"compress", model, "--preset", "rtn-3", "--minutes", "nan", "-o", out}, 2, "'nan' is no number, 0.01 to");
  expect({"tune", model, "--data", text, "--minutes", "nan", "-o", out}, 2, "'nan' is no number");
#endif
}

TEST_F(Values, WholeNumbersAreDecimal) {
  for (const std::string value :
       {"-1", "99999999999999999999", "0x10", "0b1", "1_0", "1'0", "1.0", "1e3", "64k", " 3", ""})
    expect(raw({"--seed", value}), 2, "--seed: '" + value + "' is no whole number, 0 or more");
  expect({"eval", model, "--text", text, "--chunks", "1.5"}, 2, "'1.5' is no whole number, 0 to");
  expect({"eval", model, "--text", text, "--context", "64k"}, 2, "'64k' is no whole number");
#ifdef WHIT_LEARN
  expect({"tune", model, "--data", text, "--train-tokens", "256", "--seed", "18446744073709551615", "-o", out}, 2,
         "--seed");
  expect({"compress", model, "--preset", "rtn-3", "--seed", "9223372036854775808", "-o", out}, 2, "--seed");
#endif
  const auto tokens = [&](const std::string& count) {
    const Outcome outcome = call_whit({"run", model, "--raw", "-p", "Once", "--temp", "0", "--json", "-n", count});
    return outcome.out.substr(0, outcome.out.find("\"prompt_seconds\""));
  };
  EXPECT_EQ(tokens("010"), tokens("10"));  // not eight
  EXPECT_EQ(tokens("+10"), tokens("10"));
}

TEST_F(Values, AreGivenOnce) {
  const std::string twice = "an option was given twice";
  expect(raw({"--prompt", "b"}), 2, twice);
  expect(raw({"--temp=1", "--temp", "2"}), 2, twice);
  expect({"eval", model, "--text", text, "--chunks", "1", "--chunks", "2"}, 2, twice);
  expect({"formats", "describe", "grid", "--set", "bits=3", "--set", "bits=4"}, 2, twice);
  expect({"formats", "describe", "grid", "--set", "=4"}, 2, "NAME=VALUE");
#ifdef WHIT_LEARN
  expect({"compress", model, "--preset", "rtn-3", "-o", out, "--output", out}, 2, twice);
  expect({"tune", model, "--data", text, "--train-tokens", "256", "--set", "hidden=0", "--set", "hidden=1", "-o", out},
         2, twice);
#endif
}

// An option that may be given several times takes one word, not those behind it.
TEST_F(Values, SwallowNoArguments) {
  EXPECT_EQ(call_whit({"formats", "describe", "--set", "bits=3", "grid"}).code, 0);
  EXPECT_EQ(call_whit({"bench", "--threads", "1", model, "--prompt", "8", "--decode", "2", "--repeats", "1",
                       "--activations", "int8"})
                .code,
            0);
  expect({"formats", "describe", "grid", "--set", "bits=3", "group=64"}, 2, "--set group=64");
  for (const std::string threads : {"1,,2", "1,", ",", "0", "1;2", "nan", "1025"})
    expect({"bench", model, "--threads", threads}, 2, "numbers of 1 to 1024");
}

TEST_F(Values, OfTheProgramItself) {
  expect({"--version", "extra"}, 2, "an argument too many");
  expect({"--help", "compress"}, 2, "whit compress --help");
  expect({"-q", "run"}, 2, "a verb comes first");
  expect({"run", "--thr", "1"}, 2, "did you mean '--threads'?");
  expect({"formats", "describe", "Q4_K_M"}, 2, "did you mean 'q4_k'?");
#ifdef WHIT_LEARN
  expect({"methods", "presets", "--markdown"}, 2, "would do nothing");
  expect({"methods", "describe", "grid"}, 2, "whit formats describe grid");
  expect({"methods", "describe", "gptq-4"}, 2, "whit methods presets");
  expect({"formats", "describe", "gptq"}, 2, "whit methods describe gptq");
#endif
}

// What is there in place of the file that an option wants.
TEST_F(Values, FilesThatAreSomethingElse) {
  const std::string page = folder.file("page.txt", "\n <!DOCTYPE html>\n<html>Not found</html>"),
                    zip = folder.file("a.zip", std::string("PK\x03\x04\0\0", 6)),
                    wide = folder.file("wide.txt", std::string("\xff\xfeO\0n\0", 6)),
                    latin = folder.file("latin.txt", "caf\xe9"), weights = tests + "/data/llama_gqa/model.safetensors",
                    pdf = folder.file("a.pdf", "%PDF-1.4\n\xe2\xe3"), png = folder.file("a.png", "\x89PNG\r\n\x1a\n");
  const std::vector<std::tuple<std::string, int, std::string>> cases = {
      {model, 3, "a model (GGUF)"},
      {weights, 3, "weights (safetensors)"},
      {zip, 3, "a zip archive: unpack it"},
      {wide, 3, "UTF-16"},
      {latin, 3, "ISO-8859-1"},
      {pdf, 3, "a PDF"},
      {png, 3, "a picture (PNG)"},
      {folder.path().string(), 5, "give the file in it"},
      {"https://example.org/a.txt", 5, "fetch it first"},
      {"Once upon a time", 5, "takes the name of a file"},
      {"/dev/zero", 5, "a special file"},
  };
  for (const auto& [name, code, said] : cases) {
    expect({"eval", model, "--text", name}, code, said);
    if (name != "Once upon a time") expect({"run", model, "--raw", "-f", name}, code, said);
#ifdef WHIT_LEARN
    expect({"tune", model, "--data", name, "--train-tokens", "256", "-o", out}, code, said);
#endif
  }
  expect({"run", model, "--raw", "-f", "Once upon a time"}, 5, "-p \"Once upon a time\"");
  expect({"eval", model, "--text", "novels"}, 5, "a text of --data");
  expect({"eval", model, "--text", page, "--context", "8", "--chunks", "1"}, 0, "a web page (HTML)");
  expect({"run", model, "--raw", "-p", text, "-n", "1"}, 0, "-f " + text);
  expect({"run", model, "--ids", "[1,2]"}, 5, "--ids -");
  expect({"run", model, "-p", "a", "--template", "chatml.jinja"}, 5, "--template chatml");
  expect({"run", model, "-p", "a", "--template", model + "/../stories260K.gguf"}, 5, "");
  expect({"run", tests + "/data/llama_gqa", "-p", "a", "--template", "chatml", "--date", "2020-01-01"}, 2,
         "does not ask for the date");
  expect({"report", model}, 3, "a model (GGUF)");
  expect({"report", "--eval", page}, 3, "a web page (HTML)");
  expect({"report", "--answer", model + "=" + model, "-o", out}, 3, "a model (GGUF)");
#ifdef WHIT_LEARN
  const std::string recipe = folder.file("a.toml", "whit = 1\n[[step]]\nmethod = \"rtn\"\n");
  expect({"compress", model, "--recipe", model, "-o", out}, 2, "a model (GGUF)");
  expect({"compress", model, "--recipe", page, "-o", out}, 2, "a web page (HTML)");
  expect({"compress", model, "--recipe", "gptq-4", "-o", out}, 5, "--preset gptq-4");
  expect({"compress", model, "--preset", recipe, "-o", out}, 2, "--recipe " + recipe);
  expect({"compress", model, "--preset", "GPTQ-4", "-o", out}, 2, "did you mean 'gptq-4'?");
  expect({"compress", model, "--preset", "gptq-4", "--data", "NOVELS", "-o", out}, 5, "--data novels");
  for (const std::string data : {"self+", "self+self"}) {
    expect({"compress", model, "--preset", "gptq-4", "--data", data, "-o", out}, 2, "self, or self+FILE");
    expect({"tune", model, "--data", data, "--train-tokens", "256", "-o", out}, 2, "self, or self+FILE");
  }
#endif
  EXPECT_FALSE(fs::exists(out));
}

#ifdef WHIT_LEARN
// An ending of other programs' files on what is none of them.
TEST_F(Values, NamesOfOutputs) {
  for (const std::string ending : {".safetensors", ".bin", ".PTH", ".json"}) {
    const std::string name = (folder.path() / ("out" + ending)).string();
    expect({"compress", model, "--preset", "copy-f16", "-o", name}, 2, "NAME.gguf");
    expect({"tune", model, "--data", text, "--train-tokens", "256", "-o", name}, 2, "NAME.gguf");
    expect({"convert", model, name}, 2, "NAME.gguf");
    EXPECT_FALSE(fs::exists(name));
  }
  const std::string ids = folder.file("ids.json", "[1, 2]"), input = (folder.path() / "input").string();
  fs::copy(tests + "/data/llama_gqa", input);
  expect({"compress", model, "--preset", "copy-f16", "-o", "-"}, 5, "standard output");
  expect({"convert", model, "-"}, 5, "standard output");
  expect({"eval", model, "--ids", ids, "--dump-logits", "-"}, 5, "standard output");
  expect({"report", "--model", model, "-o", "-"}, 5, "standard output");
  // A file that is not there yet would change what the folder is.
  for (const std::string name : {"tokenizer.model", "added_tokens.json", "new.txt"})
    expect({"eval", input, "--ids", ids, "--dump-logits", input + "/" + name}, 2, "a file of the input");
  EXPECT_EQ(call_whit({"convert", input, input + "/new.gguf"}).code, 0);
  EXPECT_EQ(call_whit({"convert", input, input + "/new"}).code, 0);
}

TEST_F(Values, OfCalibrationThatIsNotRead) {
  expect(
      {"compress", model, "--preset", "rtn-3", "--seed", "4", "--cache", folder.path() / "c", "-o", out, "--dry-run"},
      0, "without effect are --seed, --cache");
  std::string fit = read_all(fs::path(WHIT_SOURCE_DIR) / "recipes/fit.toml");
  const std::string tuned = folder.file("tuned.toml", fit + "\n[tune]\ncontext = 64\n");
  expect({"compress", model, "--fit", "200kB", "--recipe", tuned, "-o", out, "--dry-run"}, 2, "its [tune] would do nothing");
  expect({"calibrate", model, "--preset", "rtn-3"}, 2, "whit compress makes the file at once");
  // The usual window is clipped to what the model has; one that was asked for is not.
  const std::string shorter = (folder.path() / "shorter").string();
  fs::copy(tests + "/data/llama_gqa", shorter);
  std::string config = read_all(shorter + "/config.json");
  const size_t at = config.find("\"max_position_embeddings\":");
  ASSERT_NE(at, std::string::npos);
  config.replace(at, config.find_first_of(",\n", at) - at, "\"max_position_embeddings\": 128");
  folder.file("shorter/config.json", config);
  const Words words = {"compress", shorter, "--preset", "gptq-4", "--no-check", "--dry-run", "-o", out};
  Words asked = words;
  asked.insert(asked.end(), {"--context", "512"});
  expect(words, 0, "windows of 128 tokens");
  expect(asked, 2, "longer than the model was trained for");
  expect({"tune", shorter, "--data", text, "--train-tokens", "256", "--context", "512", "--dry-run", "-o", out}, 2,
         "longer than the model was trained for");
}

// The text that the original writes takes minutes of a real model: a dry run only says so.
TEST_F(Values, ADryRunWritesNoText) {
  const std::string cache = (folder.path() / "cache").string();
  expect({"compress", model, "--preset", "gptq-4", "--data", "self", "--cache", cache, "--dry-run", "--no-check", "-o",
          out},
         0, "writing text");
  EXPECT_FALSE(fs::exists(cache + "/text")) << cache;
  size_t files = 0;
  std::error_code none;
  for (const auto& entry : fs::recursive_directory_iterator(cache, none)) files += entry.is_regular_file();
  EXPECT_EQ(files, 0u);
}

TEST_F(Values, StepsAreWholeWindows) {
  expect({"tune", model, "--data", tests + "/../docs/cli.md", "--train-tokens", "256", "--batch", "100", "--context",
          "64", "--dry-run", "-o", out},
         0, "steps of 64 tokens, not 100");
}
#endif

}  // namespace
}  // namespace whit
