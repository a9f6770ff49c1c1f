// A step of a pre-tokenizer: where a pattern matches, a piece of text is cut.
#pragma once

#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "data/pre_tokenizers/pattern.h"
#include "data/pre_tokenizers/splitter.h"

namespace whit {

// What becomes of a match; the names of tokenizer.json.
enum class SplitBehavior { removed, isolated, merged_with_previous, merged_with_next, contiguous };

struct SplitStep {
  std::string pattern;  // in Oniguruma's spelling
  SplitBehavior behavior = SplitBehavior::isolated;
  bool inverted = false;    // what lies between the matches is taken for the matches
  bool of_letters = false;  // after ByteLevel: the pattern sees the letters that stand for the bytes
  bool puts_space = false;  // no cut: a space goes before a piece that does not begin with one

  bool operator==(const SplitStep&) const = default;
};

// A step that is ready to be used.
class Split {
 public:
  explicit Split(const SplitStep& step);

  bool puts_space() const { return step_.puts_space; }
  // The hand-written form of the step, or nullptr.
  Splitter splitter() const { return splitter_; }
  // Begin and end of the pieces of `text` in their order, without empty ones. Bytes that are no UTF-8 are each seen as
  // U+FFFD.
  std::vector<Pattern::Match> pieces(std::string_view text) const;

 private:
  SplitStep step_;
  Splitter splitter_ = nullptr;
  std::optional<Pattern> pattern_;
};

}  // namespace whit
