// Patterns as tokenizer.json spells them, in the spelling of PCRE2.
#pragma once

#include <string>
#include <string_view>

namespace whit {

// Hugging Face's tokenizers match with Oniguruma, whose syntax and classes differ from PCRE2's: \h is a hexadecimal
// digit, \w has marks, scripts are not their extensions, classes nest and intersect, ^ and $ are those of lines. The
// result means to PCRE2 (UTF, UCP, MULTILINE, newline LF) what `pattern` means to Oniguruma. What has no such
// translation (references to groups, conditions, \X, \G, \K, free spacing, ...) is ErrorKind::input and named.
//
// A callout stands before every alternative and after every repetition, so that no two are far apart in work: who
// counts them bounds the time of a match (Pattern does).
std::string pcre2_of_oniguruma(std::string_view pattern);

}  // namespace whit
