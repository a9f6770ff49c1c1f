#include "data/pre_tokenizers/splitter.h"

namespace whit {
namespace {

struct Row {
  std::string_view pattern;
  Splitter splitter;
};
constexpr Row kRows[] = {
    {kGpt2Pattern, next_piece_gpt2},   {kLlama3Pattern, next_piece_llama3},
    {kQwen2Pattern, next_piece_qwen2}, {kTekkenPattern, next_piece_tekken},
    {"\\p{N}", next_piece_digits},     {"\\p{N}+", next_piece_numbers},
    {kSignsPattern, next_piece_signs}, {"[0-9][0-9][0-9]", next_piece_three_digits},
    {"\\s+$", next_piece_last_spaces},
};

}  // namespace

Splitter splitter_by_pattern(std::string_view pattern) {
  for (const Row& row : kRows)
    if (pattern == row.pattern) return row.splitter;
  return nullptr;
}

}  // namespace whit
