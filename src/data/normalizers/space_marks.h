// SentencePiece's mark for a space, U+2581: normalizer and its inverse.
#pragma once

#include <string>
#include <string_view>

#include "data/tokenizer_parts.h"

namespace whit {

inline constexpr std::string_view kSpaceMark = "\xe2\x96\x81";

// Every space becomes a mark, and one is put in front as `prefix` says. `first`: the stretch begins the whole text.
// An empty stretch stays empty.
std::string mark_spaces(std::string_view text, SpacePrefix prefix, bool first);
std::string unmark_spaces(std::string_view text);

}  // namespace whit
