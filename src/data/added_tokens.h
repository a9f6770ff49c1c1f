// Tokens that are looked for in the text itself before anything else: special ones and ones added by hand.
#pragma once

#include <cstdint>
#include <functional>
#include <string>
#include <string_view>
#include <vector>

#include "data/models/pair_map.h"

namespace whit {

struct AddedToken {
  int32_t id = -1;
  std::string content;
  bool single_word = false;  // only where no word character touches it
  bool lstrip = false;       // swallows the white space before it
  bool rstrip = false;       // and after it
  bool normalized = false;   // looked for in the normalized text, after those that are not
  bool special = false;
};

// Finds the longest token at the leftmost place, again and again. Time is text x the longest token at worst.
class AddedTokens {
 public:
  explicit AddedTokens(std::vector<AddedToken> tokens);
  bool empty() const noexcept { return tokens_.empty(); }

  // Calls `between` for every non-empty stretch without tokens and `token` for each one found, in text order.
  // parse_special false: special tokens are ordinary text.
  void split(std::string_view text, bool parse_special, const std::function<void(std::string_view)>& between,
             const std::function<void(int32_t id)>& token) const;

 private:
  const AddedToken* longest_at(std::string_view text, size_t at) const noexcept;

  std::vector<AddedToken> tokens_;
  PairMap<int32_t> steps_;          // (node of the trie, byte) -> node
  std::vector<int32_t> tokens_at_;  // per node: the token that ends there, or -1
  bool begins_[256] = {};
};

}  // namespace whit
