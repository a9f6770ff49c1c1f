// Pre-tokenizers: how a text is cut into the pieces that are merged apart from each other. Each step is the
// hand-written form of one published pattern; a pattern is never interpreted, and one that is not in the table is
// refused.
#pragma once

#include <cstddef>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "data/normalizers/unicode_form.h"

namespace whit {

// The length in bytes of the first piece of `text`, which is not empty. Pieces cover the text without gaps.
using Splitter = size_t (*)(std::string_view text);

size_t next_piece_gpt2(std::string_view text);
size_t next_piece_llama3(std::string_view text);
size_t next_piece_qwen2(std::string_view text);
size_t next_piece_tekken(std::string_view text);
size_t next_piece_digits(std::string_view text);        // every number alone, and the runs between them
size_t next_piece_numbers(std::string_view text);       // runs of numbers, and those between them
size_t next_piece_signs(std::string_view text);         // runs of kSignsPattern, and those between them
size_t next_piece_three_digits(std::string_view text);  // [0-9][0-9][0-9], and the runs between them

// The patterns as tokenizer.json and llama.cpp spell them.
inline constexpr std::string_view kGpt2Pattern =
    R"('s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+)";
inline constexpr std::string_view kLlama3Pattern =
    R"((?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+)";
inline constexpr std::string_view kQwen2Pattern =
    R"((?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+)";
inline constexpr std::string_view kTekkenPattern =
    R"([^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+)";
inline constexpr std::string_view kSignsPattern = R"([\p{P}$+<=>^~|]+)";

// A value of tokenizer.ggml.pre: the steps, each applied to the pieces of the one before, and what a file with this
// name does unless it says otherwise.
struct PreTokenizer {
  const char* name;
  std::span<const Splitter> steps;  // one at least
  UnicodeForm form = UnicodeForm::none;
  bool ignore_merges = false;
  bool adds_bos = false;
};

// ErrorKind::input with the nearest known name for another one.
const PreTokenizer& pre_tokenizer_by_name(std::string_view name);
// The first with these steps and this default form, else with these steps; nullptr where no name stands for them.
const PreTokenizer* pre_tokenizer_by_steps(std::span<const Splitter> steps, UnicodeForm form);
// The step that a Split with this pattern is, or nullptr.
Splitter splitter_by_pattern(std::string_view pattern);
std::vector<std::string> pre_tokenizer_names();

}  // namespace whit
