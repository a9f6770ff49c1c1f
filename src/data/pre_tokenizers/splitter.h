// Pre-tokenizers: how a text is cut into the pieces that are merged apart from each other. Each is the hand-written
// form of one published pattern; a pattern is never interpreted, and one that is not in the table is refused.
#pragma once

#include <cstddef>
#include <string>
#include <string_view>
#include <vector>

namespace whit {

// The length in bytes of the first piece of `text`, which is not empty. Pieces cover the text without gaps.
using Splitter = size_t (*)(std::string_view text);

size_t next_piece_gpt2(std::string_view text);
size_t next_piece_smollm(std::string_view text);
size_t next_piece_llama3(std::string_view text);

// The patterns as tokenizer.json spells them.
inline constexpr std::string_view kGpt2Pattern =
    R"('s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+)";
inline constexpr std::string_view kLlama3Pattern =
    R"((?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+)";

// By the value of tokenizer.ggml.pre. ErrorKind::input with the nearest known name for another one.
Splitter splitter_by_name(std::string_view name);
std::vector<std::string> splitter_names();

}  // namespace whit
