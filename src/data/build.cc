#include <algorithm>
#include <iterator>
#include <set>

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

bool is_known_end(std::string_view token) noexcept {
  constexpr std::string_view kNames[] = {
      "<|eot_id|>", "<|im_end|>", "<|end|>", "<|return|>", "<|call|>", "<|flush|>", "<|calls|>", "<end_of_turn>",
      "<|endoftext|>", "</s>", "<|eom_id|>", "<EOT>", "_<EOT>", "[EOT]", "[EOS]", "<|end_of_text|>", "<|end_of_turn|>",
      "<end_of_utterance>", "<eos>", "<turn|>", "<|tool_response>", "<\uff5cend\u2581of\u2581sentence\uff5c>", "[e~[",
      // What stands between files of code, and what fills up.
      "<|fim_pad|>", "<fim-pad>", "<fim_pad>", "<PAD>", "[PAD]", "<|fim_repo|>", "<|repo_name|>", "<fim-repo>",
      "<REPO>", "<reponame>", "<|file_sep|>"};
  return std::find(std::begin(kNames), std::end(kNames), token) != std::end(kNames);
}

std::vector<int32_t> all_ends(const TokenizerParts& parts) {
  std::set<std::string_view> there;
  for (const AddedToken& token : parts.added)
    if (token.special && is_known_end(token.content)) there.insert(token.content);
  // Where messages have several parts, <|end|> ends a part; and </s> is text beside <|tool_response>.
  const bool calls = there.contains("<|call|>") || there.contains("<|calls|>");
  if (calls && (there.contains("<|return|>") || there.contains("<|flush|>"))) there.erase("<|end|>");
  if (there.contains("<|tool_response>")) there.erase("</s>");
  std::set<int32_t> ends(parts.ends.begin(), parts.ends.end());
  for (const AddedToken& token : parts.added)
    if (token.special && there.contains(token.content)) ends.insert(token.id);
  for (const int32_t id : {parts.eos, parts.eot})
    if (id >= 0) ends.insert(id);
  return {ends.begin(), ends.end()};
}

void check_token_ids(const TokenizerParts& parts) {
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
  for (const AddedToken& token : parts.added) check(token.id, "added token", 0);
}

std::shared_ptr<const Tokenizer> build_tokenizer(TokenizerParts parts) {
  WHIT_CHECK(parts.types.size() == parts.tokens.size());
  check_token_ids(parts);
  parts.ends = all_ends(parts);
  if (parts.model == TokenizerModel::byte_level) return make_byte_level_tokenizer(std::move(parts));
  return make_sentencepiece_tokenizer(std::move(parts));
}

std::shared_ptr<const Tokenizer> make_tokenizer(const KeyValues& metadata) {
  return build_tokenizer(tokenizer_parts(metadata));
}
std::shared_ptr<const Tokenizer> make_tokenizer(const std::map<std::string, std::string>& files) {
  return build_tokenizer(tokenizer_parts(files));
}
KeyValues tokenizer_metadata(const std::map<std::string, std::string>& files, uint64_t rows,
                             std::vector<std::string>* notes) {
  TokenizerParts parts = tokenizer_parts(files);
  const size_t tokens = parts.tokens.size();
  if (notes) *notes = parts.notes;
  if (notes && parts.model == TokenizerModel::byte_level && parts.pre.empty())
    notes->push_back(
        "no value of tokenizer.ggml.pre stands for how the tokenizer cuts text: a key of ours keeps it, and other "
        "programs refuse the file until they know a name");
  if (notes && tokens > rows)
    notes->push_back("the tokenizer has " + std::to_string(tokens) + " tokens and the embedding " +
                     std::to_string(rows) + " rows: the tokens from " + parts.tokens[rows] +
                     " on are left out, no model can say or hear them");
  return tokenizer_keys(std::move(parts), rows);
}

}  // namespace whit
