// The tokens of a model's vocabulary and those that are added to it, with the rules of Hugging Face's library: a token
// that the vocabulary has keeps its id, another gets the next free one, and what is said last of a token holds.
#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <unordered_map>
#include <unordered_set>

#include "data/tokenizer_parts.h"

namespace whit {

class TokenTable {
 public:
  explicit TokenTable(const TokenizerParts& parts);  // with the tokens of the model's vocabulary alone

  int32_t id_of(const std::string& content) const;  // -1: no such token
  bool is_added(const std::string& content) const { return ids_.contains(content); }
  // Adds the token, or says anew what it is; its id follows from its content.
  int32_t add(AddedToken token);
  // `token` says its id, which must be the one that it gets: otherwise ErrorKind::input with `where` and both.
  void add_with_id(const AddedToken& token, const std::string& where);
  // All tokens, their types, and the added ones.
  void store(TokenizerParts& parts) const;

 private:
  std::unordered_map<std::string, int32_t> model_ids_;
  std::map<int32_t, std::string> model_contents_;
  std::unordered_map<std::string, int32_t> ids_;  // of added ones
  std::map<int32_t, AddedToken> added_;           // by id
  std::unordered_set<std::string> ever_special_;  // decoding leaves these out, whatever was said of them later
};

}  // namespace whit
