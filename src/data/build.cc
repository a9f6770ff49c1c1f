#include <algorithm>
#include <array>

#include "base/error.h"
#include "data/base_tokenizer.h"

namespace whit {

int byte_token_value(std::string_view token) noexcept {
  if (token.size() != 6 || token.substr(0, 3) != "<0x" || token[5] != '>') return -1;
  const auto digit = [](char c) {
    if (c >= '0' && c <= '9') return c - '0';
    if (c >= 'A' && c <= 'F') return c - 'A' + 10;
    return -1;
  };
  const int high = digit(token[3]), low = digit(token[4]);
  return high < 0 || low < 0 ? -1 : 16 * high + low;
}

void add_known_ends(TokenizerParts& parts) {
  constexpr std::array<std::string_view, 9> names = {"<|eot_id|>",    "<|im_end|>",      "<|end|>",
                                                     "<|endoftext|>", "<|end_of_text|>", "<end_of_turn>",
                                                     "<|eom_id|>",    "<|end_of_turn|>", "</s>"};
  for (const int32_t id : {parts.eos, parts.eot})
    if (id >= 0) parts.ends.push_back(id);
  for (const AddedToken& token : parts.added)
    if (token.special && std::find(names.begin(), names.end(), token.content) != names.end())
      parts.ends.push_back(token.id);
  std::sort(parts.ends.begin(), parts.ends.end());
  parts.ends.erase(std::unique(parts.ends.begin(), parts.ends.end()), parts.ends.end());
}

std::shared_ptr<const Tokenizer> build_tokenizer(TokenizerParts parts) {
  WHIT_CHECK(parts.types.size() == parts.tokens.size());
  const auto check = [&](int32_t id, const char* what, int32_t least) {
    if (id < least || id >= static_cast<int64_t>(parts.tokens.size()))
      throw Error(ErrorKind::input, "a token id of the tokenizer is out of range", what, std::to_string(id),
                  "the vocabulary has " + std::to_string(parts.tokens.size()) + " tokens");
  };
  check(parts.unknown, "unknown token", -1);
  check(parts.bos, "BOS", -1);
  check(parts.eos, "EOS", -1);
  check(parts.eot, "EOT", -1);
  for (const int32_t id : parts.front) check(id, "token before the text", 0);
  for (const int32_t id : parts.back) check(id, "token after the text", 0);
  for (const int32_t id : parts.ends) check(id, "token that ends an answer", 0);
  for (const AddedToken& token : parts.added) check(token.id, "added token", 0);
  add_known_ends(parts);
  if (parts.model == TokenizerModel::byte_level) return make_byte_level_tokenizer(std::move(parts));
  return make_sentencepiece_tokenizer(std::move(parts));
}

std::shared_ptr<const Tokenizer> make_tokenizer(const KeyValues& metadata) {
  return build_tokenizer(tokenizer_parts(metadata));
}
std::shared_ptr<const Tokenizer> make_tokenizer(const std::map<std::string, std::string>& files) {
  return build_tokenizer(tokenizer_parts(files));
}
KeyValues tokenizer_metadata(const std::map<std::string, std::string>& files, uint64_t rows) {
  return tokenizer_keys(tokenizer_parts(files), rows);
}

}  // namespace whit
