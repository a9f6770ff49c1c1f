// Splitters: the hand-written forms of the patterns that most models have. They do what Pattern does, faster, and in
// time that is linear in the text.
#pragma once

#include <cstddef>
#include <string_view>

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
size_t next_piece_last_spaces(std::string_view text);   // \s+$, and what lies between

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

// The splitter that does what a pattern does, or nullptr where there is none.
Splitter splitter_by_pattern(std::string_view pattern);

}  // namespace whit
