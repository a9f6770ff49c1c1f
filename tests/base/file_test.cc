// Files are written whole or not at all.
#include "base/file.h"

#include <gtest/gtest.h>
#include <unistd.h>

#include <fstream>

#include "base/error.h"

namespace whit {
namespace {

namespace fs = std::filesystem;

class Files : public testing::Test {
 protected:
  void SetUp() override {
    folder_ = fs::temp_directory_path() / ("whit-base-test-" + std::to_string(::getpid()));
    fs::create_directories(folder_);
  }
  void TearDown() override { fs::remove_all(folder_); }
  size_t count() const { return static_cast<size_t>(std::distance(fs::directory_iterator(folder_), fs::directory_iterator())); }
  fs::path folder_;
};

template <class Body>
void expect_io(Body body, const std::string& path, const std::string& reason) {
  try {
    body();
    FAIL() << "no error for " << path;
  } catch (const Error& error) {
    EXPECT_EQ(error.kind(), ErrorKind::io);
    EXPECT_NE(std::string(error.what()).find(path), std::string::npos) << error.what();
    EXPECT_NE(std::string(error.what()).find(reason), std::string::npos) << error.what();
  }
}

TEST_F(Files, CommitMakesThemWhole) {
  const fs::path path = folder_ / "a";
  {
    AtomicFile file(path, false);
    file.write("hello");
    file.write(std::string(3 << 20, 'x'));
    file.write_at(1, std::as_bytes(std::span("EL", 2)));
    file.write("!");
    EXPECT_EQ(file.size(), 5u + (3u << 20) + 1u);
    EXPECT_FALSE(fs::exists(path));
    file.commit();
  }
  const std::string content = read_file(path);
  EXPECT_EQ(content.substr(0, 6), "hELlox");
  EXPECT_EQ(content.back(), '!');
  EXPECT_EQ(MappedFile::open(path)->bytes().size(), content.size());
  EXPECT_EQ(count(), 1u);
}

TEST_F(Files, WithoutCommitNothingIsLeft) {
  write_file(folder_ / "a", "old", false);
  {
    AtomicFile file(folder_ / "a", true);
    file.write("new");
  }
  EXPECT_EQ(read_file(folder_ / "a"), "old");
  EXPECT_EQ(count(), 1u);
}

TEST_F(Files, WhatAKilledWriterLeftGoesWithTheNext) {
  const fs::path path = folder_ / "a", dead = folder_ / "a.tmp-1", other = folder_ / "b.tmp-1";
  write_file(dead, "half", false);
  write_file(other, "half", false);
  AtomicFile living(path, true);
  const fs::path lives = path.string() + ".tmp-" + std::to_string(::getpid());
  fs::rename(lives, folder_ / "a.tmp-2");  // as if another process wrote it
  { AtomicFile next(path, true); }
  EXPECT_FALSE(fs::exists(dead));
  EXPECT_TRUE(fs::exists(other)) << "of another target";
  EXPECT_TRUE(fs::exists(folder_ / "a.tmp-2")) << "its writer lives";
}

TEST_F(Files, ExistingOutputsAreRefused) {
  write_file(folder_ / "a", "old", false);
  expect_io([&] { write_file(folder_ / "a", "new", false); }, "a", "--force");
  {  // one that appears while we write
    AtomicFile file(folder_ / "b", false);
    file.write("mine");
    std::ofstream(folder_ / "b") << "theirs";
    EXPECT_THROW(file.commit(), Error);
  }
  EXPECT_EQ(read_file(folder_ / "b"), "theirs");
  write_file(folder_ / "a", "new", true);
  EXPECT_EQ(read_file(folder_ / "a"), "new");
  EXPECT_EQ(count(), 2u);
}

TEST_F(Files, FailuresNamePathAndReason) {
  expect_io([&] { read_file(folder_ / "absent"); }, "absent", "No such file");
  expect_io([&] { MappedFile::open(folder_ / "absent"); }, "absent", "No such file");
  expect_io([&] { MappedFile::open(folder_); }, folder_.string(), "a folder");
  expect_io([&] { read_file(folder_); }, folder_.string(), "a folder");
  expect_io([&] { MappedFile::open("/dev/null"); }, "/dev/null", "special");
  EXPECT_EQ(read_file("/dev/null"), "");  // devices and pipes are read to their end
  expect_io([&] { write_file(folder_ / "no" / "a", "x", false); }, "no", "No such file");
  write_file(folder_ / "big", "12345", false);
  EXPECT_THROW(read_file(folder_ / "big", 4), Error);
  EXPECT_EQ(read_file(folder_ / "big", 5), "12345");
}

TEST_F(Files, EmptyFilesHaveEmptyMaps) {
  write_file(folder_ / "empty", "", false);
  EXPECT_TRUE(MappedFile::open(folder_ / "empty")->bytes().empty());
  EXPECT_EQ(read_file(folder_ / "empty"), "");
}

// A device that is always full stands for a full disk.
TEST(FullDisk, IsSaidSo) {
  if (!fs::exists("/dev/full")) GTEST_SKIP() << "no /dev/full here";
  const fs::path link = fs::temp_directory_path() / ("whit-full-" + std::to_string(::getpid()));
  const fs::path temporary = link.string() + ".tmp-" + std::to_string(::getpid());
  fs::create_symlink("/dev/full", temporary);
  expect_io(
      [&] {
        AtomicFile file(link, true);
        file.write(std::string(2 << 20, 'x'));
      },
      link.string(), "No space left");
  EXPECT_FALSE(fs::exists(link));
  fs::remove(temporary);
}

}  // namespace
}  // namespace whit
