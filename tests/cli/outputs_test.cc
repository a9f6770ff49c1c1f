// Odd outputs in every verb that writes: the right thing or a clear refusal; an input is never touched, by whatever
// name.
#include <gtest/gtest.h>
#include <sys/stat.h>

#include <algorithm>
#include <functional>
#include <string>
#include <vector>

#include "base/error.h"
#include "base/output.h"
#include "cli/program.h"

namespace whit {
namespace {

namespace fs = std::filesystem;

const std::string tests = WHIT_TESTS_DIR;
const std::string stories = tests + "/data/models/stories260K.gguf";
const std::string text = tests + "/../docs/cli.md";

using Words = std::vector<std::string>;

struct Writer {
  std::string name;
  std::function<Words(const std::string& model, const std::string& out)> command;  // all with --force
};

class Outputs : public testing::Test {
 protected:
  void SetUp() override {
    fs::copy_file(stories, model);
    // What `inspect --recipe` can read comes from a compressed file.
#ifdef WHIT_LEARN
    ASSERT_EQ(call_whit({"compress", stories, "--preset", "copy-f16", "-o", made}).code, 0);
    writers = {
        {"compress",
         [](const auto& m, const auto& o) { return Words{"compress", m, "--preset", "copy-f16", "-o", o, "--force"}; }},
        {"tune",
         [](const auto& m, const auto& o) {
           return Words{"tune",    m,    "--data", text, "--train-tokens", "256", "--context", "64",
                        "--batch", "64", "-o",     o,    "--force"};
         }},
        {"inspect --recipe", [this](const auto& m, const auto& o) {
           return Words{"inspect", m == model.string() ? made.string() : m, "--recipe", o, "--force"};
         }}};
#endif
    writers.push_back({"convert", [](const auto& m, const auto& o) { return Words{"convert", m, o, "--force"}; }});
    writers.push_back({"eval --dump-logits", [this](const auto& m, const auto& o) {
                         return Words{"eval", m, "--ids", ids, "--dump-logits", o, "--force"};
                       }});
  }

  // Every verb on `output`: `code` and what the message says; nothing is left beside it.
  void expect(const fs::path& output, int code, const std::string& said, bool folder_is_fine = false) {
    const auto before = listing();
    for (const Writer& writer : writers) {
      const Outcome outcome = call_whit(writer.command(model, output.string()));
      if (folder_is_fine && writer.name == "convert") continue;
      EXPECT_EQ(outcome.code, code) << writer.name << " " << output << "\n" << outcome.error;
      EXPECT_NE(outcome.error.find(said), std::string::npos) << writer.name << " " << output << "\n" << outcome.error;
      EXPECT_EQ(listing(), before) << writer.name << " " << output;
    }
    EXPECT_EQ(read_all(model), read_all(stories)) << output;
  }
  std::vector<std::string> listing() const {
    std::vector<std::string> names;
    for (const auto& entry : fs::recursive_directory_iterator(folder.path())) names.push_back(entry.path().string());
    std::sort(names.begin(), names.end());
    return names;
  }

  TemporaryFolder folder;
  const fs::path model = folder.path() / "model.gguf", made = folder.path() / "made.gguf";
  const std::string ids = folder.file("ids.json", "[1, 2, 3]");
  std::vector<Writer> writers;
};

TEST_F(Outputs, WhatIsNoFileIsRefused) {
  const fs::path pipe = folder.path() / "pipe.gguf", directory = folder.path() / "folder.gguf";
  ASSERT_EQ(mkfifo(pipe.c_str(), 0644), 0);
  fs::create_directory(directory);
  expect(pipe, 5, "a pipe");
  expect(directory, 5, "a folder");
  // A program that takes these would replace them on this machine, where it may.
  for (const char* name : {"/dev/null", "/dev/stdout", "/dev/fd/1"}) ASSERT_THROW(output_target(name, true), Error) << name;
  expect("/dev/null", 5, "/dev/null");
  EXPECT_TRUE(fs::is_character_file("/dev/null"));
  expect("/dev/stdout", 5, "/dev/stdout", true);
  expect("/dev/fd/1", 5, "/dev/fd/1", true);
  fs::create_symlink(pipe, folder.path() / "to_pipe.gguf");
  expect(folder.path() / "to_pipe.gguf", 5, "a pipe");
  fs::create_symlink("circle.gguf", folder.path() / "circle.gguf");
  expect(folder.path() / "circle.gguf", 5, "circle");
  expect(folder.path() / "no" / "such.gguf", 5, "No such file");
  expect(fs::path(ids) / "under_a_file.gguf", 5, "Not a directory");
  expect(folder.path() / (std::string(250, 'x') + ".gguf"), 5, "too long");
  EXPECT_TRUE(fs::is_fifo(pipe));
}

TEST_F(Outputs, TheInputIsRefusedByEveryName) {
  const fs::path link = folder.path() / "link.gguf", hard = folder.path() / "hard.gguf";
  fs::create_symlink("model.gguf", link);
  fs::create_hard_link(model, hard);
  // The recipe of a compressed file is written by another model's command.
  std::erase_if(writers, [](const Writer& writer) { return writer.name == "inspect --recipe"; });
  expect(model, 2, "the output is the input");
  expect(link, 2, "the output is the input");
  expect(hard, 2, "the output is the input");
  expect(folder.path() / "." / "model.gguf", 2, "the output is the input");
#ifdef WHIT_LEARN
  const std::string before = read_all(made);
  for (const std::string& out : {made.string(), folder.path().string() + "/./made.gguf"}) {
    EXPECT_EQ(call_whit({"inspect", made, "--recipe", out, "--force"}).code, 2);
    EXPECT_EQ(read_all(made), before);
  }
  const std::string data = folder.file("data.txt", read_all(text));
  EXPECT_EQ(call_whit({"compress", model, "--preset", "rtn-3", "--data", data, "-o", data, "--force"}).code, 2);
  EXPECT_EQ(call_whit({"tune", model, "--data", data, "--train-tokens", "256", "-o", data, "--force"}).code, 2);
  EXPECT_EQ(read_all(data), read_all(text));
#endif
  EXPECT_EQ(call_whit({"eval", model, "--ids", ids, "--dump-logits", ids, "--force"}).code, 2);
  EXPECT_EQ(read_all(ids), "[1, 2, 3]");
  // A folder, and what is in it.
  const fs::path input = folder.path() / "input";
  fs::copy(tests + "/data/llama_gqa", input);
  const std::string config = read_all(input / "config.json");
  EXPECT_EQ(call_whit({"convert", input, input, "--force"}).code, 2);
  EXPECT_EQ(call_whit({"convert", input, input.string() + "/", "--force"}).code, 2);
  EXPECT_EQ(call_whit({"eval", input, "--ids", ids, "--dump-logits", input / "model.safetensors", "--force"}).code, 2);
  EXPECT_EQ(read_all(input / "config.json"), config);
  EXPECT_EQ(read_all(input / "model.safetensors"), read_all(tests + "/data/llama_gqa/model.safetensors"));
}

TEST_F(Outputs, ALinkIsFollowed) {
  fs::create_directory(folder.path() / "disk");
  const fs::path link = folder.path() / "link.gguf", target = folder.path() / "disk" / "file.gguf";
  fs::create_symlink("disk/file.gguf", link);
  for (const Writer& writer : writers) {
    const Outcome outcome = call_whit(writer.command(model, link.string()));
    EXPECT_EQ(outcome.code, 0) << writer.name << outcome.error;
    EXPECT_TRUE(fs::is_symlink(link)) << writer.name;
    EXPECT_TRUE(fs::is_regular_file(target)) << writer.name;
    fs::remove(target);
  }
}

TEST_F(Outputs, NamesSayWhatIsWritten) {
  for (const std::string name : {"A.GGUF", "b.Gguf"}) {
    ASSERT_EQ(call_whit({"convert", model, folder.path() / name}).code, 0);
    EXPECT_TRUE(fs::is_regular_file(folder.path() / name)) << name;
  }
  for (const std::string name : {"plain", "model-0.5B", "slash/", "x.gguf/"}) {
    ASSERT_EQ(call_whit({"convert", model, folder.path().string() + "/" + name}).code, 0) << name;
    EXPECT_TRUE(fs::is_directory(folder.path() / name)) << name;
  }
  EXPECT_EQ(call_whit({"convert", model, folder.path() / "model.safetensors"}).code, 2);
#ifdef WHIT_LEARN
  ASSERT_EQ(call_whit({"compress", model, "--preset", "copy-f16", "-o", folder.path() / "C.GGUF"}).code, 0);
  EXPECT_EQ(call_whit({"inspect", folder.path() / "C.GGUF"}).code, 0);
  EXPECT_EQ(call_whit({"compress", model, "--preset", "copy-f16", "-o", folder.path().string() + "/slash/"}).code, 5);
#endif
  // A name alone is a file here.
  EXPECT_EQ(call_shell("whit convert '" + model.string() + "' alone.gguf && test -f alone.gguf", folder.path()).code,
            0);
}

TEST_F(Outputs, AReportDoesNotReplaceWhatItReads) {
  const fs::path out = folder.path() / "report";
  fs::create_directory(out);
  const std::string eval = folder.file("report/results.json", R"({"rows": [{"model": "a"}], "base": null})");
  EXPECT_EQ(call_whit({"report", "--eval", eval, "-o", out, "--force"}).code, 2);
  EXPECT_EQ(read_all(eval), R"({"rows": [{"model": "a"}], "base": null})");
  EXPECT_EQ(call_whit({"report", "--model", model, "-o", ids, "--force"}).code, 5);
  EXPECT_EQ(call_whit({"report", "--model", model, "-o", "/dev/null", "--force"}).code, 5);
}

// A folder that a killed `convert` left goes with the next one.
TEST_F(Outputs, WhatAKilledConvertLeftIsTakenAway) {
  const fs::path left = folder.path() / "out.tmp-1";
  fs::create_directory(left);
  folder.file("out.tmp-1/model.safetensors", "half");
  ASSERT_EQ(call_whit({"convert", model, folder.path() / "out"}).code, 0);
  EXPECT_FALSE(fs::exists(left));
}

}  // namespace
}  // namespace whit
