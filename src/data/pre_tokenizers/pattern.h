// A pattern of a tokenizer.json, matched by PCRE2 as Hugging Face's tokenizers match it.
#pragma once

#include <memory>
#include <string_view>
#include <utility>
#include <vector>

namespace whit {

class Pattern {
 public:
  // In Oniguruma's spelling. ErrorKind::input for what is not understood.
  explicit Pattern(std::string_view pattern);
  ~Pattern();
  Pattern(Pattern&&) noexcept;
  Pattern& operator=(Pattern&&) noexcept;

  // Begin and end of the matches in `text`, valid UTF-8, from left to right; an empty one stands nowhere right behind
  // another. The work is bounded by the length of the text: ErrorKind::input for a pattern that needs more.
  using Match = std::pair<size_t, size_t>;
  std::vector<Match> find_all(std::string_view text) const;

 private:
  struct Code;
  std::unique_ptr<Code> code_;
};

}  // namespace whit
