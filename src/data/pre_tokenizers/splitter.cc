#include "data/pre_tokenizers/splitter.h"

#include "base/error.h"
#include "base/names.h"

namespace whit {
namespace {

struct Row {
  const char* name;
  Splitter splitter;
};
constexpr Row kRows[] = {
    {"gpt-2", next_piece_gpt2},
    {"llama-bpe", next_piece_llama3},
    {"smollm", next_piece_smollm},
};

}  // namespace

Splitter splitter_by_name(std::string_view name) {
  for (const Row& row : kRows)
    if (name == row.name) return row.splitter;
  throw Error(ErrorKind::input, "the tokenizer's pre-tokenizer is not a known one", "tokenizer.ggml.pre",
              std::string(name), suggest_name(name, splitter_names()));
}

std::vector<std::string> splitter_names() {
  std::vector<std::string> names;
  for (const Row& row : kRows) names.push_back(row.name);
  return names;
}

}  // namespace whit
