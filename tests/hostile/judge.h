// What whit makes of a model file: every instruction set and kind of activations, LibTorch where it is built, and `convert`.
#pragma once

#include <filesystem>
#include <string>

namespace whit::tests {

enum class Verdict : unsigned char {
  refused,    // by load_model, with a clear error
  overflow,   // every executor says ErrorKind::numeric
  same,       // executors agree, and so does what `convert` wrote
  unwritten,  // executors agree; `convert` refuses
  wrong,      // anything else
  crashed,
  hung,
  kCount
};
inline constexpr const char* kVerdicts[] = {"refused on load", "overflow everywhere", "same logits, converted too",
                                            "same logits, not converted", "WRONG", "CRASH OR MEMORY", "HANG"};

struct Judged {
  Verdict verdict = Verdict::refused;
  std::string why;
};

// `folder`: for files that are written on the way. Never throws.
Judged judge(const std::filesystem::path& file, const std::filesystem::path& folder, bool as_folder);

}  // namespace whit::tests
