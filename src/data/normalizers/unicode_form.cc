#include "data/normalizers/unicode_form.h"

#include <utf8proc.h>

#include <algorithm>
#include <vector>

#include "base/error.h"
#include "data/unicode.h"

namespace whit {
namespace {

bool composes(UnicodeForm form) { return form == UnicodeForm::nfc || form == UnicodeForm::nfkc; }

class Normalizer {
 public:
  Normalizer(UnicodeForm form, std::string& out)
      : options_(static_cast<utf8proc_option_t>(
            UTF8PROC_STABLE | (composes(form) ? UTF8PROC_COMPOSE : UTF8PROC_DECOMPOSE) |
            (form == UnicodeForm::nfkc || form == UnicodeForm::nfkd ? UTF8PROC_COMPAT : 0))),
        composes_(composes(form)),
        out_(out) {}

  void add(char32_t value) {
    utf8proc_int32_t parts[32];  // U+FDFA has the longest decomposition: 18
    const auto count = utf8proc_decompose_char(static_cast<utf8proc_int32_t>(value), parts, 32, options_, nullptr);
    WHIT_CHECK(count > 0 && count <= 32);
    points_.insert(points_.end(), parts, parts + count);
  }

  // Orders the marks of what was added, composes it and writes it. utf8proc has both steps in one function, which takes
  // quadratic time for long runs of marks; of marks in order it is linear.
  void flush() {
    const auto rank = [](utf8proc_int32_t point) { return utf8proc_get_property(point)->combining_class; };
    for (auto at = points_.begin(); at != points_.end();) {
      const auto end = std::find_if(at, points_.end(), [&](auto point) { return rank(point) == 0; });
      std::stable_sort(at, end, [&](auto a, auto b) { return rank(a) < rank(b); });
      at = end == points_.end() ? end : end + 1;
    }
    auto count = static_cast<utf8proc_ssize_t>(points_.size());
    if (composes_ && count > 1) count = utf8proc_normalize_utf32(points_.data(), count, options_);
    WHIT_CHECK(count >= 0);
    for (utf8proc_ssize_t i = 0; i < count; ++i)
      append_utf8(out_, static_cast<char32_t>(points_[static_cast<size_t>(i)]));
    points_.clear();
  }

 private:
  utf8proc_option_t options_;
  bool composes_;
  std::string& out_;
  std::vector<utf8proc_int32_t> points_;
};

}  // namespace

bool surely_normalized(std::string_view text, UnicodeForm form) noexcept {
  if (form == UnicodeForm::none) return true;
  // Nothing below U+0300, whose first byte is 0xcc, changes in NFC.
  const unsigned char first = form == UnicodeForm::nfc ? 0xcc : 0x80;
  return std::all_of(text.begin(), text.end(), [&](char c) { return static_cast<unsigned char>(c) < first; });
}

std::string normalize_unicode(std::string_view text, UnicodeForm form) {
  std::string out;
  if (surely_normalized(text, form)) return out = text;
  out.reserve(text.size() + text.size() / 8);
  Normalizer normalizer(form, out);
  const auto is_ascii = [&](size_t at) { return at < text.size() && static_cast<unsigned char>(text[at]) < 0x80; };
  for (size_t at = 0; at < text.size();) {
    // ASCII begins anew: it composes with what follows, not with what precedes.
    if (is_ascii(at)) {
      normalizer.flush();
      for (; is_ascii(at) && is_ascii(at + 1); ++at) out.push_back(text[at]);
    }
    const CodePoint point = next_code_point(text.substr(at));
    if (point.value == kInvalidCodePoint) {
      normalizer.flush();
      out.push_back(text[at]);
    } else {
      normalizer.add(point.value);
    }
    at += point.length;
  }
  normalizer.flush();
  return out;
}

}  // namespace whit
