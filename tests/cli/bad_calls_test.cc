// Section "bad input": each wrong call has its exit code and a message that says what and where.
#include <gtest/gtest.h>
#include <unistd.h>

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
  std::string said;  // stands in the message
};

class BadCalls : public testing::Test {
 protected:
  TemporaryFolder folder;
  const std::string empty = folder.file("empty.txt", ""), broken = folder.file("broken.txt", "good \xff bad"),
                    nul = folder.file("nul.txt", std::string("a\0b", 3)),
                    small = folder.file("short.txt", "Once upon a time."),
                    cut = folder.file("cut.gguf", read_all(model).substr(0, 5000)),
                    noise = folder.file("noise.gguf", std::string(4096, 'x')),
                    nothing = folder.file("nothing.gguf", ""), ids = folder.file("ids.json", "[1, 2, 3]"),
                    bad_id = folder.file("bad.json", "[1, 99999]"), minus = folder.file("minus.json", "[-1]"),
                    no_ids = folder.file("none.json", "[]"), no_json = folder.file("no.json", "hello"),
                    deep = folder.file("deep.json", std::string(100000, '[')),
                    unsupported = folder.file("unsupported.jinja", "a\n{{ 'b' | urlencode }}"),
                    raising = folder.file("raising.jinja", "{{ raise_exception('Only cats.') }}"),
                    huge = folder.file("huge.json", "[18446744073709551615]"),
                    present = folder.file("present.safetensors", "mine");
};

TEST_F(BadCalls, HaveTheirExitCodes) {
  const std::vector<Case> cases = {
      {{}, 2, "a verb is missing"},
      {{"inspekt", model}, 2, "did you mean 'inspect'?"},
      {{"inspect"}, 2, "MODEL"},
      {{"inspect", model, "--jsn"}, 2, "did you mean '--json'?"},
      {{"inspect", model, "extra"}, 2, "an argument too many"},
      {{"inspect", "/no/such/file.gguf"}, 5, "/no/such/file.gguf"},
      {{"inspect", folder.path().string()}, 5, "config.json"},
      {{"inspect", cut}, 3, "cut.gguf"},
      {{"inspect", tests + "/data/llama_gqa/config.json"}, 3, "config.json"},
      {{"inspect", noise}, 3, "noise.gguf"},
      {{"inspect", nothing}, 3, "nothing.gguf"},
      {{"inspect", model, "--recipe", "-"}, 3, "no recipe"},
      {{"eval"}, 2, "MODEL"},
      {{"eval", model, "--text", empty}, 3, "empty.txt"},
      {{"eval", model, "--text", broken}, 3, "broken.txt"},
      {{"eval", model, "--text", nul}, 3, "nul.txt"},
      {{"eval", model, "--text", small}, 3, "too short"},
      {{"eval", model, "--text", "/no/such/text"}, 5, "/no/such/text"},
      {{"eval", model, "--text", small, "--context", "3"}, 2, "too short to judge"},
      {{"eval", model, "--text", small, "--context", "100000"}, 2, "longer than the model was trained for"},
      {{"eval", model, "--text", small, "--context", "-5"}, 2, "--context"},
      {{"eval", model, "--text", small, "--context", "abc"}, 2, "--context"},
      {{"eval", model, "--text", small, "--activations", "fp33"}, 2, "did you mean 'fp32'?"},
      {{"eval", model, "--text", small, "--context", "4", "--executor", "runtim"}, 2, "did you mean 'runtime'?"},
      {{"eval", model, "--text", small, "--context", "4", "--isa", "MMX"}, 2, "MMX"},
      {{"eval", model, "--text", small, "--threads", "2000"}, 2, "--threads"},
      {{"eval", model, "--ids", ids}, 2, "--dump-logits"},
      {{"eval", model, "--ids", ids, "--dump-logits", present}, 5, "present.safetensors"},
      {{"eval", model, "--ids", bad_id, "--dump-logits", folder.path() / "new"}, 3, "99999"},
      {{"eval", model, "--ids", ids, "--dump-logits", "/no/such/folder/x"}, 5, "/no/such/folder"},
      {{"run", model, "--ids", minus, "--json"}, 3, "-1"},
      {{"run", model, "--ids", huge, "--json"}, 3, "18446744073709551615"},
      {{"run", model, "--ids", no_ids, "--json"}, 3, "empty array"},
      {{"run", model, "--ids", no_json, "--json"}, 3, "no.json"},
      {{"run", model, "--ids", deep, "--json"}, 3, "deep.json"},
      {{"run", model, "--raw"}, 2, "-p TEXT"},
      {{"run", model, "-p", "hello"}, 3, "--raw"},  // it has no chat template
      {{"run", model, "-p", "hello", "--template", "chatlm"}, 2, "did you mean 'chatml'?"},
      {{"run", model, "-p", "hello", "--template", "no/such.jinja"}, 5, "no/such.jinja"},
      {{"run", model, "-p", "hello", "--template", unsupported}, 3, "line 2"},
      {{"run", model, "-p", "hello", "--template", unsupported}, 3, "the filter 'urlencode'"},
      {{"run", model, "-p", "hello", "--template", raising}, 2, "Only cats."},
      {{"run", model, "-p", "hello", "--template", "chatml", "--thinking", "off"}, 2, "no switch for thinking"},
      {{"run", model, "-p", "hello", "--template", "chatml", "--tools", no_json}, 2, "no place for tools"},
      {{"run", model, "-p", "hello", "--template", "chatml", "--date", "2023-02-29"}, 2, "--date"},
      {{"run", model, "--raw", "-p", "hello", "--system", "Be brief."}, 2, "--system"},
      {{"run", model, "--raw", "-p", "hello", "--temp", "-1"}, 2, "--temp"},
      {{"run", model, "--raw", "-p", "hello", "--top-p", "1.5"}, 2, "--top-p"},
      {{"run", model, "--raw", "-p", "hello", "--context", "2"}, 3, "longer than the context"},
      {{"run", tests + "/data/qwen2_bias", "--raw", "-p", ""}, 2, "nothing to continue"},  // and no BOS to begin with
      {{"bench", model, "--threads", "0"}, 2, "--threads"},
      {{"report"}, 2, "nothing to report"},
      {{"report", no_json}, 3, "no.json"},
      {{"report", deep}, 3, ""},
      {{"report", "--eval", ids}, 3, "rows"},
      {{"report", "--answer", "x"}, 2, "MODEL=FILE"},
      {{"formats", "describe", "gird"}, 2, "did you mean 'grid'?"},
      {{"formats", "describe"}, 2, "which format?"},
      {{"formats", "lst"}, 2, "did you mean 'list'?"},
      {{"formats", "list", "grid"}, 2, "whit formats describe grid"},
      {{"formats", "list", "--set", "bits=3"}, 2, "whit formats describe"},
      {{"formats", "describe", "grid", "--set", "bitz=3"}, 2, "did you mean 'bits'?"},
      {{"formats", "describe", "grid", "--set", "bits"}, 2, "NAME=VALUE"},
      {{"formats", "describe", "grid", "--set", "bits=7"}, 2, ""},
      {{"formats", "describe", "q4_0", "--set", "bits=3"}, 2, "bits"},
      {{"formats", "describe", "q4_0", "--shape", "8x40"}, 3, "blocks of 32"},
      {{"formats", "describe", "grid", "--shape", "8"}, 2, "4096x4096"},
      {{"formats", "describe", "grid", "--shape", "8x0"}, 2, "4096x4096"},
      {{"formats", "describe", "grid", "--shape", "99999999999x8"}, 2, "4096x4096"},
#ifdef WHIT_LEARN
      {{"methods", "presets", "gptq-4"}, 2, "an argument too many"},
      {{"methods", "describe", "gptx"}, 2, "did you mean 'gptq'?"},
      {{"methods", "lst"}, 2, "did you mean 'list'?"},
#endif
  };
  for (const Case& bad : cases) {
    std::string line;
    for (const std::string& word : bad.arguments) line += " " + word;
    const Outcome outcome = call_whit(bad.arguments);
    EXPECT_EQ(outcome.code, bad.code) << line << "\n" << outcome.error;
    EXPECT_EQ(outcome.out, "") << line;
    EXPECT_EQ(outcome.error.rfind("error: ", 0), outcome.error.find("error: ")) << line << "\n" << outcome.error;
    EXPECT_NE(outcome.error.find("error: "), std::string::npos) << line;
    EXPECT_NE(outcome.error.find(bad.said), std::string::npos) << line << "\n" << outcome.error;
  }
  EXPECT_EQ(read_all(present), "mine");
  EXPECT_FALSE(std::filesystem::exists(folder.path() / "new"));
}

TEST_F(BadCalls, FullDiskOnStdoutIsSaid) {
  const Outcome outcome = call_shell("exec whit inspect '" + model + "' > /dev/full", folder.path());
  EXPECT_EQ(outcome.code, 5) << outcome.error;
}

TEST_F(BadCalls, ControlCharactersNeverReachTheTerminal) {
  const Outcome outcome = call_whit({"inspect", "/no/\x1b[31mred"});
  EXPECT_EQ(outcome.code, 5);
  EXPECT_EQ(outcome.error.find('\x1b'), std::string::npos);
}

}  // namespace
}  // namespace whit
