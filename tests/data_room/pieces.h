// What the steps of a pre-tokenizer make of a text.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "data/pre_tokenizers/split.h"

namespace whit::test {

inline std::vector<std::string> pieces(const std::vector<SplitStep>& steps, const std::string& text) {
  std::vector<std::string> all = {text};
  for (const SplitStep& step : steps) {
    const Split split(step);
    std::vector<std::string> cut;
    for (const std::string_view piece : all) {
      if (const Splitter splitter = split.splitter()) {
        for (size_t at = 0, length = 0; at < piece.size(); at += length) {
          length = splitter(piece.substr(at));
          cut.emplace_back(piece.substr(at, length));
        }
      } else {
        for (const auto& [begin, end] : split.pieces(piece)) cut.emplace_back(piece.substr(begin, end - begin));
      }
    }
    all = std::move(cut);
  }
  return all;
}

// It has what the patterns of models treat differently.
inline constexpr char kText[] = "It'S 12345ab HelloWorld's e\u0301,中文かな가.\n\n (x=1)  `y`\r\n<sentinel:7>  ";

}  // namespace whit::test
