// What tests of whole jobs share: a small real model, a text of its words, a run that is stopped.
#pragma once

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
