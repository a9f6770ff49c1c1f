// What an output may be, and what reading takes that is no regular file.
#include "base/output.h"

#include <gtest/gtest.h>
#include <sys/stat.h>
#include <unistd.h>

#include <fstream>
#include <thread>

#include "base/error.h"
#include "base/file.h"
#include "base/printable.h"

namespace whit {
namespace {

namespace fs = std::filesystem;

class Output : public testing::Test {
 protected:
  void SetUp() override {
    folder = fs::temp_directory_path() / ("whit-output-test-" + std::to_string(::getpid()));
    fs::create_directories(folder);
  }
  void TearDown() override { fs::remove_all(folder); }
  fs::path folder;
};

TEST_F(Output, IsAFileThatALinkLeadsTo) {
  fs::create_symlink("there", folder / "link");
  fs::create_symlink("link", folder / "second");
  EXPECT_EQ(output_target(folder / "second", true), folder / "there");
  EXPECT_EQ(output_target(folder / "new", false), folder / "new");
  EXPECT_THROW(output_target(folder / "link", false), Error);  // it exists
  write_file(folder / "second", "content", true);
  EXPECT_TRUE(fs::is_symlink(folder / "second"));
  EXPECT_EQ(read_file(folder / "there"), "content");
}

TEST_F(Output, IsNoInput) {
  write_file(folder / "in", "x", false);
  fs::create_hard_link(folder / "in", folder / "hard");
  const fs::path inputs[] = {folder / "in", "", folder / "none"};
  EXPECT_THROW(check_not_an_input(folder / "hard", inputs), Error);
  EXPECT_THROW(check_not_an_input(folder / "." / "in", inputs), Error);
  EXPECT_NO_THROW(check_not_an_input(folder / "out", inputs));
  EXPECT_NO_THROW(check_not_an_input(folder / "none", inputs));
  const fs::path folders[] = {folder};
  EXPECT_THROW(check_not_an_input(folder / "in", folders), Error);
  // A new file of the model's folder may be taken for one of the model's own; a file of weights in one file is not.
  EXPECT_THROW(check_not_an_input(folder / "new", folders), Error);
  EXPECT_NO_THROW(check_not_an_input(folder / "new", folders, true));
  EXPECT_NO_THROW(check_not_an_input(folder / "new.gguf", folders));
}

TEST_F(Output, EndingsInAnyLetters) {
  for (const char* name : {"a.gguf", "a.GGUF", "x/b.Gguf"}) EXPECT_TRUE(is_gguf_name(name)) << name;
  for (const char* name : {"gguf", "a.gguf/", "a.ggufx", "a"}) EXPECT_FALSE(is_gguf_name(name)) << name;
}

TEST_F(Output, PipesAreReadToTheirEnd) {
  ASSERT_EQ(mkfifo((folder / "pipe").c_str(), 0644), 0);
  const std::string content(300000, 'x');
  std::thread writer([&] { std::ofstream(folder / "pipe") << content; });
  EXPECT_EQ(read_file(folder / "pipe"), content);
  writer.join();
  std::thread too_long([&] {
    std::ofstream out(folder / "pipe");
    out << std::string(1000, 'x');
  });
  EXPECT_THROW(read_file(folder / "pipe", 999), Error);
  too_long.join();
  EXPECT_THROW(MappedFile::open(folder / "pipe"), Error);  // and does not wait for a writer
  EXPECT_NE(read_file("/proc/self/status"), "");           // a regular file of size 0
  EXPECT_THROW(read_file(folder), Error);
}

TEST(Printable, ShowsWhatActs) {
  EXPECT_EQ(printable("a\tb\nc é 日 🙂 \xe2\x80\x8d"), "a\tb\nc é 日 🙂 \xe2\x80\x8d");
  EXPECT_EQ(printable("\x1b[31m\r\x07\x7f"), "\\x1b[31m\\x0d\\x07\\x7f");
  EXPECT_EQ(printable("\xc2\x80\xc2\x9f\xc2\xa0"), "\\u0080\\u009f\xc2\xa0");
  EXPECT_EQ(printable("\xe2\x80\xaa\xe2\x80\xae\xe2\x81\xa6\xe2\x81\xa9\xe2\x80\xaf"),
            "\\u202a\\u202e\\u2066\\u2069\xe2\x80\xaf");
  EXPECT_EQ(printable("\x9b\xc0\xaf\xe6\x97"), "\\x9b\\xc0\\xaf\\xe6\\x97");  // no UTF-8: a terminal of 8 bits obeys 9b
  EXPECT_EQ(printable(std::string_view("a\0b", 3)), "a\\x00b");
}

}  // namespace
}  // namespace whit
