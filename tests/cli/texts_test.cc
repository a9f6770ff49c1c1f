// Prompts, ids and texts from files, from standard input and from pipes that can be read once; what a chat's lines
// mean.
#include <gtest/gtest.h>
#include <unistd.h>

#include "base/options.h"
#include "cli/program.h"
#include "cli/prompt.h"

namespace whit {
namespace {

const std::string tests = WHIT_TESTS_DIR;
const std::string stories = tests + "/data/models/stories260K.gguf";

class Texts : public testing::Test {
 protected:
  std::vector<std::string> raw(const std::vector<std::string>& more) const {
    std::vector<std::string> words = {"run", stories, "--raw", "-n", "8", "--temp", "0", "--quiet"};
    words.insert(words.end(), more.begin(), more.end());
    return words;
  }
  Outcome bash(const std::string& line) const { return call_shell("exec bash -c '" + line + "'", folder.path()); }
  TemporaryFolder folder;
  const std::string file = folder.file("prompt.txt", "Once upon a time\n");
};

TEST_F(Texts, OfAPrompt) {
  const std::string expected = call_whit(raw({"-p", "Once upon a time"})).out;
  ASSERT_NE(expected, "");
  EXPECT_EQ(call_whit(raw({"-f", file})).out, expected);
  EXPECT_EQ(call_whit(raw({"--file", file})).out, expected);
  EXPECT_EQ(call_whit(raw({"-f", "-"}), "Once upon a time\n").out, expected);
  EXPECT_EQ(call_whit(raw({"-p", "-"}), "Once upon a time").out, expected);
  EXPECT_EQ(bash("whit run " + stories + " --raw -n 8 --temp 0 --quiet -f <(echo Once upon a time)").out, expected);
  EXPECT_EQ(call_whit(raw({"-p", "-"}), "\xef\xbb\xbfOnce upon a time\r\n").out, expected);
  for (const std::vector<std::string>& words :
       {std::vector<std::string>{"-p", "On\xff"}, {"-p", "a", "--stop", "\xff"}})
    EXPECT_EQ(call_whit(raw(words)).code, 3);
  EXPECT_EQ(call_whit({"run", stories, "-p", "a", "--template", "chatml", "--system", "\xff"}).code, 3);
  const Outcome marked = call_whit(
      {"eval", stories, "--context", "8", "--chunks", "1", "--text",
       folder.file("marked", "\xef\xbb\xbfOnce upon a time there was\r\na little girl named Lily.\r\n")});
  EXPECT_NE(marked.error.find("a byte order mark"), std::string::npos) << marked.error;
  EXPECT_NE(marked.error.find("CR LF"), std::string::npos) << marked.error;
  // One newline goes, no more.
  EXPECT_NE(call_whit(raw({"-p", "-"}), "Once upon a time\n\n").out, expected);
  EXPECT_EQ(call_whit(raw({"-f", folder.file("empty", "")})).code, 3);
  EXPECT_EQ(call_whit(raw({"-f", folder.file("bad", "\xff")})).code, 3);
  EXPECT_EQ(call_whit(raw({"-f", (folder.path() / "none").string()})).code, 5);
  EXPECT_EQ(call_whit(raw({"-f", folder.path().string()})).code, 5);
  EXPECT_EQ(call_whit(raw({"-p", "-"}), "").code, 3);
}

TEST_F(Texts, ToBeJudgedOn) {
  std::string story;
  for (int i = 0; i < 40; ++i) story += "Once upon a time there was a little girl named Lily. ";
  const std::string path = folder.file("story.txt", story);
  const auto json = [&](const Outcome& outcome) {
    EXPECT_EQ(outcome.code, 0) << outcome.error;
    return Json::parse(outcome.out).at("rows").at(0);
  };
  const std::vector<std::string> words = {"eval", stories, "--context", "32", "--json", "--text"};
  const auto with = [&](const std::string& text) {
    std::vector<std::string> all = words;
    all.push_back(text);
    return all;
  };
  const Json plain = json(call_whit(with(path)));
  const Json piped = json(call_whit(with("-"), story));
  const Json substituted = json(bash("whit eval " + stories + " --context 32 --json --text <(cat story.txt)"));
  EXPECT_EQ(plain["text"], "story.txt");
  EXPECT_EQ(piped["text"], "standard input");
  for (const Json& row : {piped, substituted})
    for (const char* key : {"text_hash", "windows_hash", "perplexity_half", "windows"})
      EXPECT_EQ(row[key], plain[key]) << key;
  EXPECT_EQ(plain["model_hash"].get<std::string>().size(), 32u);
  EXPECT_TRUE(plain["original"].is_null());
  EXPECT_EQ(bash("whit run " + stories + " --ids <(echo [1,2,3]) -n 2 --json").code, 0);
}

#ifdef WHIT_LEARN
// Read for the check, for statistics and once more to train on.
TEST_F(Texts, ToCalibrateOn) {
  const std::string docs = tests + "/../docs/cli.md";
  const auto words = [&](const std::string& data, const char* out) {
    return std::vector<std::string>{"compress", stories,  "--preset", "gptq-3", "--calibration-tokens", "512",
                                    "--context", "64", "--no-check", "--data", data, "-o", folder.path() / out};
  };
  ASSERT_EQ(call_whit(words(docs, "a.gguf")).code, 0);
  const Outcome piped = bash("whit compress " + stories +
                             " --preset gptq-3 --calibration-tokens 512 --context 64 --no-check --data <(cat " + docs +
                             ") -o b.gguf");
  EXPECT_EQ(piped.code, 0) << piped.error;
  EXPECT_EQ(call_whit(words("-", "c.gguf"), read_all(docs)).code, 0);
  EXPECT_EQ(read_all(folder.path() / "a.gguf"), read_all(folder.path() / "b.gguf"));
  EXPECT_EQ(read_all(folder.path() / "a.gguf"), read_all(folder.path() / "c.gguf"));
  EXPECT_EQ(
      bash("whit tune a.gguf --data <(cat " + docs + ") --train-tokens 256 --context 64 --batch 64 -o d.gguf").code, 0);
}
#endif

TEST_F(Texts, TimesAreInTheJson) {
  const std::vector<std::string> ways[] = {{"-p", "Once upon", "--raw"}, {"--ids", "-"}};
  for (const std::vector<std::string>& more : ways) {
    std::vector<std::string> words = {"run", stories, "-n", "4", "--temp", "0", "--json"};
    words.insert(words.end(), more.begin(), more.end());
    const Json json = Json::parse(call_whit(words, "[1, 403]").out);
    EXPECT_EQ(json["answer_tokens"], 4);
    EXPECT_EQ(json["ids"].size(), 4u);
    EXPECT_GE(json["prompt_tokens"].get<int>(), 2);
    EXPECT_GT(json["prompt_seconds"].get<double>(), 0);
    EXPECT_GT(json["answer_seconds"].get<double>(), 0);
    EXPECT_EQ(json["end"], "-n tokens were written");
  }
}

TEST_F(Texts, LinesOfAChat) {
  const Outcome outcome =
      call_whit({"run", stories, "--template", "chatml", "-n", "3", "--context", "256", "--temp", "0"},
                "/help\n/rset\n/etc/passwd is a file\nHello \xff\n\n  \t\r\n/reset\r\n/exit\nnever\n");
  EXPECT_EQ(outcome.code, 0) << outcome.error;
  EXPECT_EQ(outcome.out, "");  // nothing of it was sent
  EXPECT_NE(outcome.error.find("/exit (or Ctrl-D) leaves"), std::string::npos) << outcome.error;
  EXPECT_NE(outcome.error.find("[/rset is no command and was not sent: did you mean '/reset'?"), std::string::npos)
      << outcome.error;
  EXPECT_NE(outcome.error.find("[/etc/passwd is no command"), std::string::npos) << outcome.error;
  EXPECT_NE(outcome.error.find("Forgotten."), std::string::npos) << outcome.error;
  EXPECT_NE(outcome.error.find("the line was not sent"), std::string::npos) << outcome.error;

  Terminal quiet(true);
  const std::pair<std::string, std::string> lines[] = {{"//etc", "/etc"}, {"a / b", "a / b"}, {"hello\r", "hello"}};
  for (const auto& [line, text] : lines) {
    std::string read = line;
    EXPECT_EQ(read_chat_line(read, quiet), ChatLine::message) << line;
    EXPECT_EQ(read, text);
  }
}

// The default text is found from the program, wherever one stands; the message says where it was looked for.
TEST_F(Texts, TheDefaultOne) {
  if (!std::filesystem::exists(std::string(WHIT_SOURCE_DIR) + "/.whit/data/jargon.txt.gz"))
    GTEST_SKIP() << "set-up brings it";
  const std::string eval = "eval '" + stories + "' --chunks 1 --context 32 --json";
  EXPECT_EQ(call_shell("unset WHIT_DATA; exec whit " + eval, folder.path()).code, 0);
  // An installed program brings its own.
  const std::string copy =
      "mkdir -p usr/bin usr/share/whit/data; cp '" + std::string(WHIT_PROGRAM) + "' usr/bin/whit; unset WHIT_DATA; ";
  const Outcome missing = call_shell(copy + "exec usr/bin/whit " + eval, folder.path());
  if (!std::filesystem::exists("/usr/share/doc/jargon-text/jargon.txt.gz")) {
    EXPECT_EQ(missing.code, 5) << missing.error;
    EXPECT_NE(missing.error.find((folder.path() / "usr/share/whit/data").string()), std::string::npos) << missing.error;
  }
  EXPECT_EQ(
      call_shell(
          "unset WHIT_DATA; cp '" WHIT_SOURCE_DIR "/.whit/data/jargon.txt.gz' usr/share/whit/data; exec usr/bin/whit " + eval,
          folder.path())
          .code,
      0);
  const Outcome wrong = call_shell("WHIT_DATA=/no/such exec whit " + eval, folder.path());
  EXPECT_EQ(wrong.code, 5);
  EXPECT_NE(wrong.error.find("WHIT_DATA names no folder"), std::string::npos) << wrong.error;
}

}  // namespace
}  // namespace whit
