#include "pipeline/journal.h"

#include <gtest/gtest.h>

#include "base/file.h"

namespace whit {
namespace {

class JournalTest : public testing::Test {
 protected:
  void SetUp() override {
    folder_ = std::filesystem::temp_directory_path() / ("whit_journal_" + std::to_string(::getpid()) +
                                                        testing::UnitTest::GetInstance()->current_test_info()->name());
    std::filesystem::remove_all(folder_);
  }
  void TearDown() override { std::filesystem::remove_all(folder_); }

  static Packed sample() {
    std::vector<float> weights(6 * 32);
    for (size_t i = 0; i < weights.size(); ++i) weights[i] = 0.25f * static_cast<float>(i);
    return pack_dense(make_format("f32"), {6, 32}, weights);
  }

  std::filesystem::path folder_;
};

TEST_F(JournalTest, KeepsUnitsOverReopening) {
  const Json key = {{"model", "a"}, {"seed", 1}};
  {
    Journal journal(folder_, key);
    EXPECT_FALSE(journal.has("blk.0.attn_qkv.weight"));
    journal.store("blk.0.attn_qkv.weight", sample(), {1.5, 0.25, 0.01});
  }
  Journal journal(folder_, key);
  ASSERT_TRUE(journal.has("blk.0.attn_qkv.weight"));
  EXPECT_EQ(journal.load("blk.0.attn_qkv.weight")->parts, sample().parts);
  EXPECT_EQ(journal.report("blk.0.attn_qkv.weight").loss, 1.5);
  journal.remove();
  EXPECT_FALSE(std::filesystem::exists(folder_));
}

TEST_F(JournalTest, RefusesAnotherRunAndSaysWhatDiffers) {
  { Journal journal(folder_, {{"model", "b"}, {"seed", 1}}); }  // nothing is finished in it: nothing would be lost
  { Journal(folder_, {{"model", "a"}, {"seed", 1}}).store("u", sample(), {}); }
  try {
    Journal journal(folder_, {{"model", "a"}, {"seed", 2}});
    FAIL() << "mixed";
  } catch (const Error& error) {
    EXPECT_EQ(error.kind(), ErrorKind::usage);
    EXPECT_NE(error.found().find("seed"), std::string::npos);
  }
  EXPECT_NO_THROW(Journal(folder_, {{"model", "a"}, {"seed", 1}}));  // untouched by the refusal
}

// A run that was killed while it took its journal away.
TEST_F(JournalTest, WhatWasBeingRemovedGoes) {
  const std::filesystem::path gone = folder_.string() + ".tmp-999999999",
                              held = folder_.string() + ".tmp-" + std::to_string(::getpid());
  for (const auto& folder : {gone, held}) std::filesystem::create_directories(folder / "blk");
  Journal journal(folder_, {{"model", "a"}});
  EXPECT_FALSE(std::filesystem::exists(gone));
  EXPECT_TRUE(std::filesystem::exists(held));  // that process is alive
  std::filesystem::remove_all(held);
  journal.remove();
  EXPECT_FALSE(std::filesystem::exists(folder_));
  EXPECT_FALSE(std::filesystem::exists(held));
}

TEST_F(JournalTest, AnotherFolderOfThatNameIsLeftAlone) {
  std::filesystem::create_directories(folder_);
  write_file(folder_ / "mine.txt", "mine", false);
  EXPECT_THROW(Journal(folder_, {{"model", "a"}}), Error);
  EXPECT_EQ(read_file(folder_ / "mine.txt"), "mine");
  std::filesystem::remove_all(folder_);
  write_file(folder_, "a file", false);
  EXPECT_THROW(Journal(folder_, {{"model", "a"}}), Error);
  EXPECT_EQ(read_file(folder_), "a file");
}

TEST_F(JournalTest, OneProcessAtATime) {
  const Json key = {{"model", "a"}};
  Journal first(folder_, key);
  EXPECT_THROW(Journal(folder_, key), Error);
}

TEST_F(JournalTest, DamageIsFound) {
  const Json key = {{"model", "a"}};
  Journal journal(folder_, key);
  journal.store("u", sample(), {});
  const auto path = folder_ / "u.unit";
  std::string bytes = read_file(path);
  for (const size_t at : {size_t{0}, size_t{9}, bytes.size() / 2, bytes.size() - 1}) {
    std::string damaged = bytes;
    damaged[at] = static_cast<char>(damaged[at] ^ 4);
    write_file(path, damaged, true);
    EXPECT_THROW(journal.load("u"), Error) << at;
  }
  write_file(path, bytes.substr(0, bytes.size() - 5), true);
  EXPECT_THROW(journal.load("u"), Error);
  write_file(path, "", true);
  EXPECT_THROW(journal.load("u"), Error);
}

}  // namespace
}  // namespace whit
