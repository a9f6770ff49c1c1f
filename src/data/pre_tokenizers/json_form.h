// Pre-tokenizers as tokenizer.json writes them.
#pragma once

#include <nlohmann/json.hpp>
#include <vector>

#include "data/pre_tokenizers/split.h"

namespace whit {

// The `pre_tokenizer` of a byte-level tokenizer: Split, Digits, Punctuation, Whitespace, WhitespaceSplit,
// CharDelimiterSplit, BertPreTokenizer and FixedLength around one ByteLevel, in Sequences. Anything else is
// ErrorKind::input and shown. Patterns are not tried yet: Split does that.
std::vector<SplitStep> read_pre_tokenizer(const nlohmann::json& step);
nlohmann::json write_pre_tokenizer(const std::vector<SplitStep>& steps);

}  // namespace whit
