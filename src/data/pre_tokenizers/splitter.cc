#include "data/pre_tokenizers/splitter.h"

#include <algorithm>

#include "base/error.h"
#include "base/names.h"

namespace whit {
namespace {

constexpr Splitter kGpt2[] = {next_piece_gpt2};
constexpr Splitter kLlama3[] = {next_piece_llama3};
constexpr Splitter kQwen2[] = {next_piece_qwen2};
constexpr Splitter kTekken[] = {next_piece_tekken};
constexpr Splitter kSmollm[] = {next_piece_digits, next_piece_gpt2};
constexpr Splitter kDefault[] = {next_piece_signs, next_piece_gpt2, next_piece_numbers, next_piece_three_digits};

// The names that llama.cpp gives them. A GGUF file cannot say NFC; Qwen's tokenizers have it.
constexpr PreTokenizer kRows[] = {
    {"gpt-2", kGpt2},
    {"mpt", kGpt2},
    {"olmo", kGpt2},
    {"phi-2", kGpt2},
    {"llama-bpe", kLlama3, UnicodeForm::none, true, true},
    {"llama3", kLlama3, UnicodeForm::none, true, true},
    {"llama-v3", kLlama3, UnicodeForm::none, true, true},
    {"qwen2", kQwen2, UnicodeForm::nfc},
    {"tekken", kTekken, UnicodeForm::none, true, true},
    {"smollm", kSmollm},
    {"starcoder", kSmollm},
    {"refact", kSmollm},
    {"default", kDefault},
};

struct Pattern {
  std::string_view text;
  Splitter splitter;
};
constexpr Pattern kPatterns[] = {
    {kGpt2Pattern, next_piece_gpt2},   {kLlama3Pattern, next_piece_llama3},
    {kQwen2Pattern, next_piece_qwen2}, {kTekkenPattern, next_piece_tekken},
    {"\\p{N}", next_piece_digits},     {"\\p{N}+", next_piece_numbers},
    {kSignsPattern, next_piece_signs}, {"[0-9][0-9][0-9]", next_piece_three_digits},
};

}  // namespace

const PreTokenizer& pre_tokenizer_by_name(std::string_view name) {
  for (const PreTokenizer& row : kRows)
    if (name == row.name) return row;
  throw Error(ErrorKind::input, "the tokenizer's pre-tokenizer is not a known one", "tokenizer.ggml.pre",
              std::string(name), suggest_name(name, pre_tokenizer_names()));
}

const PreTokenizer* pre_tokenizer_by_steps(std::span<const Splitter> steps, UnicodeForm form) {
  const PreTokenizer* found = nullptr;
  for (const PreTokenizer& row : kRows) {
    if (!std::equal(steps.begin(), steps.end(), row.steps.begin(), row.steps.end())) continue;
    if (row.form == form) return &row;
    if (!found) found = &row;
  }
  return found;
}

Splitter splitter_by_pattern(std::string_view pattern) {
  for (const Pattern& row : kPatterns)
    if (pattern == row.text) return row.splitter;
  return nullptr;
}

std::vector<std::string> pre_tokenizer_names() {
  std::vector<std::string> names;
  for (const PreTokenizer& row : kRows) names.push_back(row.name);
  return names;
}

}  // namespace whit
