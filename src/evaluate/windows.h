// How a text becomes the windows that a model is judged on: llama.cpp's protocol.
#pragma once

#include <cstdint>
#include <string_view>
#include <vector>

#include "data/tokenizer.h"

namespace whit {

struct TokenWindows {
  uint64_t context = 0;
  uint64_t text_tokens = 0;                   // of the whole text, its BOS included
  std::vector<std::vector<int32_t>> windows;  // context ids each, no overlap; the rest of the text is dropped
};

// The whole text is tokenized, with BOS before it where the tokenizer adds one, and cut. Then the first id of every
// window is replaced by BOS, so that no window begins without. `limit`: at most so many windows, 0 for all.
// Throws ErrorKind::usage for a context below 4, ErrorKind::input when the text is shorter than one window.
TokenWindows judging_windows(const Tokenizer& tokenizer, std::string_view text, uint64_t context, uint64_t limit);
// The same protocol over ids that are there already (`bos` -1: none).
TokenWindows cut_windows(std::vector<int32_t> ids, int32_t bos, uint64_t context, uint64_t limit);

}  // namespace whit
