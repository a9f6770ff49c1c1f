// Unicode's normalization forms as Hugging Face's tokenizers have them, over utf8proc's tables.
#pragma once

#include <string>
#include <string_view>

namespace whit {

enum class UnicodeForm { none, nfc, nfd, nfkc, nfkd };

// True where normalize_unicode() would surely give the text back: a quick look that errs on the side of false.
bool surely_normalized(std::string_view text, UnicodeForm form) noexcept;
// Bytes of invalid UTF-8 stay as they are, and nothing is composed or reordered across them. Time n log n at worst, for
// long runs of combining marks; memory some 20 bytes per byte of such a run.
std::string normalize_unicode(std::string_view text, UnicodeForm form);

}  // namespace whit
