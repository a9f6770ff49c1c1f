#include "data/base_tokenizer.h"

#include <algorithm>

#include "base/error.h"

namespace whit {
namespace {

std::vector<AddedToken> looked_for_in_raw_text(const std::vector<AddedToken>& added) {
  std::vector<AddedToken> raw;
  std::copy_if(added.begin(), added.end(), std::back_inserter(raw),
               [](const auto& token) { return !token.normalized; });
  return raw;
}

}  // namespace

BaseTokenizer::BaseTokenizer(TokenizerParts parts)
    : parts_(std::move(parts)), raw_added_(looked_for_in_raw_text(parts_.added)) {
  ids_.reserve(parts_.tokens.size());
  for (size_t id = 0; id < parts_.tokens.size(); ++id)
    if (parts_.types[id] != TokenType::unused) ids_.emplace(parts_.tokens[id], static_cast<int32_t>(id));
}

std::vector<int32_t> BaseTokenizer::encode(std::string_view text, bool add_special, bool parse_special) const {
  std::vector<int32_t> out;
  if (add_special) out = parts_.front;
  Run run{parse_special, text.data(), {}, {}, {}, out};
  raw_added_.split(
      text, parse_special, [&](std::string_view stretch) { encode_stretch(stretch, run); },
      [&](int32_t id) { out.push_back(id); });
  if (add_special) out.insert(out.end(), parts_.back.begin(), parts_.back.end());
  return out;
}

std::string_view BaseTokenizer::in_form(std::string_view text, Run& run) const {
  if (surely_normalized(text, parts_.form)) return text;
  return run.buffers.emplace_back(normalize_unicode(text, parts_.form));
}

std::vector<AddedToken> BaseTokenizer::normalized_added(
    const std::function<std::string(std::string_view)>& normalize) const {
  std::vector<AddedToken> out;
  for (AddedToken token : parts_.added) {
    if (!token.normalized) continue;
    token.content = normalize(normalize_unicode(token.content, parts_.form));
    out.push_back(std::move(token));
  }
  return out;
}

void BaseTokenizer::set_pieces(const std::vector<AddedToken>& added, std::string (*bytes)(std::string_view)) {
  for (const AddedToken& token : added)
    if (type(token.id) != TokenType::byte) pieces_[static_cast<size_t>(token.id)] = bytes(token.content);
}

bool BaseTokenizer::is_special(int32_t id) const noexcept {
  return valid(id) && (type(id) == TokenType::control || type(id) == TokenType::unknown);
}

std::string BaseTokenizer::piece(int32_t id) const {
  return valid(id) ? pieces_[static_cast<size_t>(id)] : std::string();
}

int32_t BaseTokenizer::id_of(std::string_view token) const noexcept {
  const auto found = ids_.find(token);
  return found == ids_.end() ? -1 : found->second;
}

}  // namespace whit
