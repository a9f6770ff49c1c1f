#include "data/token_table.h"

#include <algorithm>

#include "base/error.h"

namespace whit {

TokenTable::TokenTable(const TokenizerParts& parts) {
  model_ids_.reserve(parts.tokens.size());
  for (size_t id = 0; id < parts.tokens.size(); ++id)
    if (parts.types[id] != TokenType::unused) {
      model_ids_.emplace(parts.tokens[id], static_cast<int32_t>(id));
      model_contents_.emplace_hint(model_contents_.end(), static_cast<int32_t>(id), parts.tokens[id]);
    }
}

int32_t TokenTable::id_of(const std::string& content) const {
  if (const auto found = ids_.find(content); found != ids_.end()) return found->second;
  const auto found = model_ids_.find(content);
  return found == model_ids_.end() ? -1 : found->second;
}

int32_t TokenTable::add(AddedToken token) {
  if (token.content.empty()) return -1;
  int32_t id = id_of(token.content);
  if (id < 0) {
    id = static_cast<int32_t>(model_ids_.size());
    if (!added_.empty()) id = std::max(id, added_.rbegin()->first + 1);
    // Hugging Face's library goes by the number of tokens, which in a vocabulary with holes is the id of one of them.
    if (!model_contents_.empty() && model_contents_.rbegin()->first >= static_cast<int32_t>(model_ids_.size()))
      throw Error(
          ErrorKind::input, "an added token has no id, and the vocabulary leaves some out", token.content,
          std::to_string(model_ids_.size()) + " tokens, the last is " + std::to_string(model_contents_.rbegin()->first),
          "give it an id in the vocabulary");
  }
  token.id = id;
  if (token.special) ever_special_.insert(token.content);
  ids_[token.content] = id;
  added_[id] = std::move(token);
  return id;
}

void TokenTable::add_with_id(const AddedToken& token, const std::string& where) {
  const int32_t known = id_of(token.content);
  const auto found = [&] { return token.content + " with id " + std::to_string(token.id); };
  const auto added = added_.find(token.id);
  const auto model = model_contents_.find(token.id);
  const std::string* other = added != added_.end()            ? &added->second.content
                             : model != model_contents_.end() ? &model->second
                                                              : nullptr;
  if (other && *other != token.content)
    throw Error(ErrorKind::input, "an added token has the id of another token", where, found(),
                "that is the id of " + *other);
  if (known >= 0 && known != token.id)
    throw Error(ErrorKind::input, "an added token has another id in the vocabulary", where, found(),
                "there it is " + std::to_string(known));
  if (const int32_t id = add(token); id >= 0 && id != token.id)
    throw Error(ErrorKind::input, "the ids of added tokens leave out a number", where, found(),
                "Hugging Face's library gives it " + std::to_string(id) + ", the next free one");
}

void TokenTable::store(TokenizerParts& parts) const {
  if (!added_.empty())
    parts.tokens.resize(std::max(parts.tokens.size(), static_cast<size_t>(added_.rbegin()->first) + 1));
  parts.types.resize(parts.tokens.size(), TokenType::unused);
  for (const auto& [id, token] : added_) {
    AddedToken added = token;
    added.special = ever_special_.contains(token.content);
    parts.tokens[static_cast<size_t>(id)] = token.content;
    parts.types[static_cast<size_t>(id)] = added.special ? TokenType::control : TokenType::user_defined;
    parts.added.push_back(std::move(added));
  }
  for (size_t id = 0; id < parts.tokens.size(); ++id) {
    TokenType& type = parts.types[id];
    if (type == TokenType::unused)
      parts.tokens[id] = "[PAD" + std::to_string(id) + "]";
    else if (parts.byte_fallback && byte_token_value(parts.tokens[id]) >= 0)
      type = TokenType::byte;
    else if (static_cast<int32_t>(id) == parts.unknown)
      type = TokenType::unknown;
  }
}

}  // namespace whit
