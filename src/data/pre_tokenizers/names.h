// The values of tokenizer.ggml.pre and what each stands for.
#pragma once

#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "data/normalizers/unicode_form.h"
#include "data/pre_tokenizers/split.h"

namespace whit {

// Each pattern cuts the pieces of the one before, matches and what lies between them being pieces. The rest is what a
// file with this name does unless it says otherwise.
struct PreTokenizer {
  std::string_view name;
  std::span<const std::string_view> patterns;  // one at least
  UnicodeForm form = UnicodeForm::none;        // a GGUF file cannot say NFC; Qwen's tokenizers have it
  bool ignore_merges = false;
  bool adds_bos = false;
};

// ErrorKind::input with the nearest known name for another one.
const PreTokenizer& pre_tokenizer_by_name(std::string_view name);
std::vector<SplitStep> split_steps(const PreTokenizer& pre);
// The one with these steps, and the most alike in what it does by default; nullptr where no name stands for the steps.
const PreTokenizer* pre_tokenizer_by_steps(const std::vector<SplitStep>& steps, UnicodeForm form, bool ignore_merges);
std::vector<std::string> pre_tokenizer_names();

}  // namespace whit
