#include "data/added_tokens.h"

#include <algorithm>

#include "data/unicode.h"

namespace whit {
namespace {

size_t total_bytes(const std::vector<AddedToken>& tokens) {
  size_t total = 0;
  for (const AddedToken& token : tokens) total += token.content.size();
  return total;
}

// The code point that ends at `at` (> 0).
CodePoint code_point_before(std::string_view text, size_t at) noexcept {
  for (size_t length = 1; length <= 4 && length <= at; ++length) {
    const CodePoint point = next_code_point(text.substr(at - length, length));
    if (point.value != kInvalidCodePoint && point.length == length) return point;
  }
  return {kInvalidCodePoint, 1};
}

bool touches_word(std::string_view text, size_t start, size_t stop) {
  if (start > 0 && (character_class(code_point_before(text, start).value) & kWord)) return true;
  return stop < text.size() && (character_class(next_code_point(text.substr(stop)).value) & kWord);
}

}  // namespace

AddedTokens::AddedTokens(std::vector<AddedToken> tokens)
    : tokens_(std::move(tokens)), steps_(total_bytes(tokens_)), tokens_at_(1, -1) {
  std::erase_if(tokens_, [](const AddedToken& token) { return token.content.empty(); });
  for (size_t index = 0; index < tokens_.size(); ++index) {
    const std::string& content = tokens_[index].content;
    begins_[static_cast<unsigned char>(content[0])] = true;
    int32_t node = 0;
    for (const char c : content) {
      const int32_t byte = static_cast<unsigned char>(c);
      if (const int32_t* next = steps_.find(node, byte)) {
        node = *next;
      } else {
        const auto fresh = static_cast<int32_t>(tokens_at_.size());
        steps_.insert(node, byte, fresh);
        tokens_at_.push_back(-1);
        node = fresh;
      }
    }
    tokens_at_[static_cast<size_t>(node)] = static_cast<int32_t>(index);
  }
}

const AddedToken* AddedTokens::longest_at(std::string_view text, size_t at) const noexcept {
  const AddedToken* longest = nullptr;
  int32_t node = 0;
  for (; at < text.size(); ++at) {
    const int32_t* next = steps_.find(node, static_cast<unsigned char>(text[at]));
    if (!next) break;
    node = *next;
    if (const int32_t index = tokens_at_[static_cast<size_t>(node)]; index >= 0)
      longest = &tokens_[static_cast<size_t>(index)];
  }
  return longest;
}

void AddedTokens::split(std::string_view text, bool parse_special, const std::function<void(std::string_view)>& between,
                        const std::function<void(int32_t id)>& token) const {
  size_t done = 0;
  for (size_t at = 0; !empty() && at < text.size();) {
    if (!begins_[static_cast<unsigned char>(text[at])]) {
      ++at;
      continue;
    }
    const AddedToken* found = longest_at(text, at);
    if (!found) {
      ++at;
      continue;
    }
    size_t start = at, stop = at + found->content.size();
    at = stop;
    if (found->special && !parse_special) continue;
    if (found->single_word && touches_word(text, start, stop)) continue;
    while (found->lstrip && start > done) {
      const CodePoint before = code_point_before(text, start);
      if (!(character_class(before.value) & kSpace)) break;
      start -= before.length;
    }
    while (found->rstrip && stop < text.size()) {
      const CodePoint next = next_code_point(text.substr(stop));
      if (!(character_class(next.value) & kSpace)) break;
      stop += next.length;
    }
    // A token inside the white space that the one before has swallowed is a token too, and what follows it text again,
    // as in Hugging Face's library.
    if (done < start) between(text.substr(done, start - done));
    token(found->id);
    done = stop;
  }
  if (done < text.size()) between(text.substr(done));
}

}  // namespace whit
