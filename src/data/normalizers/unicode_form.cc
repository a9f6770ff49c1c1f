#include "data/normalizers/unicode_form.h"

#include <utf8proc.h>

#include <algorithm>
#include <vector>

#include "base/error.h"
#include "data/unicode.h"

namespace whit {
namespace {

// The tables of Hugging Face's library are those of Unicode 9. Characters that a later version gave a decomposition or
// a combining class are neither taken apart nor moved there, and nothing is composed with them (U+11930 and U+11935
// have been a pair since Unicode 13). tools/compare_tokenizers.py --every finds what is missing here.
struct Range {
  char32_t first, last;
};
constexpr Range kLater[] = {
    {0x7fd, 0x7fd},     {0x898, 0x89f},     {0x8ca, 0x8d3},     {0x9fe, 0x9fe},     {0xc3c, 0xc3c},
    {0xd3b, 0xd3c},     {0xeba, 0xeba},     {0x1715, 0x1715},   {0x1abf, 0x1ace},   {0x1df6, 0x1dfa},
    {0x32ff, 0x32ff},   {0xa7f2, 0xa7f4},   {0xa82c, 0xa82c},   {0xab69, 0xab69},   {0x10781, 0x10785},
    {0x10787, 0x107b0}, {0x107b2, 0x107ba}, {0x10d24, 0x10d27}, {0x10eab, 0x10eac}, {0x10efd, 0x10eff},
    {0x10f46, 0x10f50}, {0x10f82, 0x10f85}, {0x11070, 0x11070}, {0x1133b, 0x1133b}, {0x1145e, 0x1145e},
    {0x11839, 0x1183a}, {0x11930, 0x11930}, {0x11938, 0x11938}, {0x1193d, 0x1193e}, {0x11943, 0x11943},
    {0x119e0, 0x119e0}, {0x11a34, 0x11a34}, {0x11a47, 0x11a47}, {0x11a99, 0x11a99}, {0x11d42, 0x11d42},
    {0x11d44, 0x11d45}, {0x11d97, 0x11d97}, {0x11f41, 0x11f42}, {0x16ff0, 0x16ff1}, {0x1e030, 0x1e06d},
    {0x1e08f, 0x1e08f}, {0x1e130, 0x1e136}, {0x1e2ae, 0x1e2ae}, {0x1e2ec, 0x1e2ef}, {0x1e4ec, 0x1e4ef},
    {0x1f16c, 0x1f16c}, {0x1fbf0, 0x1fbf9}};

bool is_later(char32_t value) {
  if (value < kLater[0].first) return false;
  const Range* range =
      std::lower_bound(std::begin(kLater), std::end(kLater), value, [](Range r, char32_t v) { return r.last < v; });
  return range != std::end(kLater) && range->first <= value;
}

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
    if (point.value == kInvalidCodePoint || is_later(point.value)) {
      normalizer.flush();
      out.append(text.substr(at, point.length));
    } else {
      normalizer.add(point.value);
    }
    at += point.length;
  }
  normalizer.flush();
  return out;
}

}  // namespace whit
