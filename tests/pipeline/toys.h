// What tests of whole jobs share: a small real model, a text of its words, a run that is stopped.
#pragma once

#include <gtest/gtest.h>
#include <unistd.h>

#include <filesystem>
#include <string>

#include "base/error.h"
#include "base/progress.h"
#include "base/rng.h"

namespace whit::tests {

inline const std::filesystem::path kStories = std::filesystem::path(WHIT_TESTS_DIR) / "data/models/stories260K.gguf";

// Words that the model knows, in a drawn order.
inline std::string toy_text(uint64_t seed, int count) {
  const char* words[] = {"once", "upon", "a",    "time", "there", "was", "little", "girl", "who", "liked",
                         "to",   "play", "with", "her",  "dog",   "and", "the",    "ball", "in",  "park"};
  std::string text;
  Rng rng(seed);
  for (int i = 0; i < count; ++i) text += std::string(words[rng.below(20)]) + (rng.below(9) == 0 ? ". " : " ");
  return text;
}

// An empty folder of the test's own.
class FolderTest : public testing::Test {
 protected:
  void SetUp() override {
    const auto* test = testing::UnitTest::GetInstance()->current_test_info();
    folder_ = std::filesystem::temp_directory_path() /
              (std::string("whit_") + test->test_suite_name() + test->name() + std::to_string(::getpid()));
    std::filesystem::remove_all(folder_);
    std::filesystem::create_directories(folder_);
  }
  void TearDown() override { std::filesystem::remove_all(folder_); }

  std::filesystem::path folder_;
};

// Throws ErrorKind::interrupted at the n-th opportunity.
class StopAfter final : public Progress {
 public:
  explicit StopAfter(int n) : left_(n) {}
  void begin(const std::string&, double) override {}
  void advance(double) override {}
  void note(const std::string& text) override { notes += text + "\n"; }
  void end() override {}
  void check_interrupt() override {
    ++asked;
    if (left_-- == 0) throw Error(ErrorKind::interrupted, "stopped");
  }

  int asked = 0;
  std::string notes;

 private:
  int left_;
};

}  // namespace whit::tests
