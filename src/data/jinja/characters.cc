#include "data/jinja/characters.h"

#include <utf8proc.h>

#include <algorithm>

#include "data/unicode.h"

namespace whit::jinja {
namespace {

utf8proc_category_t category(char32_t value) noexcept {
  return value > 0x10ffff ? UTF8PROC_CATEGORY_CN : utf8proc_category(static_cast<utf8proc_int32_t>(value));
}

struct CaseForm {
  char32_t value;
  std::string_view upper, title;
};
constexpr CaseForm kCaseForms[] = {
#include "data/jinja/case_forms.inc"
};

const CaseForm* case_form(char32_t value) noexcept {
  if (value < 0xdf) return nullptr;
  const auto* found = std::lower_bound(std::begin(kCaseForms), std::end(kCaseForms), value,
                                       [](const CaseForm& form, char32_t v) { return form.value < v; });
  return found != std::end(kCaseForms) && found->value == value ? found : nullptr;
}

// Of the letters that are no Ll or Lu: Roman numerals and circled letters, which have case all the same.
bool other_upper(char32_t c) noexcept {
  return (c >= 0x2160 && c <= 0x216f) || (c >= 0x24b6 && c <= 0x24cf) || (c >= 0x1f130 && c <= 0x1f149) ||
         (c >= 0x1f150 && c <= 0x1f169) || (c >= 0x1f170 && c <= 0x1f189);
}
bool other_lower(char32_t c) noexcept {
  return c == 0xaa || c == 0xba || (c >= 0x2b0 && c <= 0x2b8) || (c >= 0x2c0 && c <= 0x2c1) ||
         (c >= 0x2e0 && c <= 0x2e4) || c == 0x345 || c == 0x37a || (c >= 0x1d2c && c <= 0x1d6a) || c == 0x1d78 ||
         (c >= 0x1d9b && c <= 0x1dbf) || c == 0x2071 || c == 0x207f || (c >= 0x2090 && c <= 0x209c) ||
         (c >= 0x2170 && c <= 0x217f) || (c >= 0x24d0 && c <= 0x24e9);
}
bool is_upper(char32_t c) noexcept { return category(c) == UTF8PROC_CATEGORY_LU || other_upper(c); }
bool is_lower(char32_t c) noexcept { return category(c) == UTF8PROC_CATEGORY_LL || other_lower(c); }

bool case_ignorable(char32_t c) noexcept {
  switch (category(c)) {
    case UTF8PROC_CATEGORY_MN:
    case UTF8PROC_CATEGORY_ME:
    case UTF8PROC_CATEGORY_CF:
    case UTF8PROC_CATEGORY_LM:
    case UTF8PROC_CATEGORY_SK:
      return true;
    default:
      break;
  }
  constexpr char32_t kMarks[] = {0x27,   0x2e,   0x3a,   0xb7,   0x387,  0x55f,  0x5f4,  0x2018, 0x2019,
                                 0x2024, 0x2027, 0xfe13, 0xfe52, 0xfe55, 0xff07, 0xff0e, 0xff1a};
  return std::find(std::begin(kMarks), std::end(kMarks), c) != std::end(kMarks);
}

std::vector<char32_t> values_of(std::string_view text) {
  std::vector<char32_t> values;
  while (!text.empty()) {
    const CodePoint point = next_code_point(text);
    values.push_back(point.value);
    text.remove_prefix(point.length);
  }
  return values;
}

// A capital sigma at the end of a word has a small form of its own.
bool final_sigma(const std::vector<char32_t>& values, size_t at) noexcept {
  size_t before = at;
  while (before > 0 && case_ignorable(values[before - 1])) --before;
  if (before == 0 || !is_cased(values[before - 1])) return false;
  size_t after = at + 1;
  while (after < values.size() && case_ignorable(values[after])) ++after;
  return after == values.size() || !is_cased(values[after]);
}

// The character that ends `text`; not empty.
CodePoint last_code_point(std::string_view text) noexcept {
  size_t start = text.size() - 1;
  while (start > 0 && (static_cast<unsigned char>(text[start]) & 0xc0) == 0x80) --start;
  return {next_code_point(text.substr(start)).value, static_cast<uint32_t>(text.size() - start)};
}

template <class Goes>
std::string_view strip(std::string_view text, bool left, bool right, Goes goes) noexcept {
  while (left && !text.empty()) {
    const CodePoint point = next_code_point(text);
    if (!goes(point.value)) break;
    text.remove_prefix(point.length);
  }
  while (right && !text.empty()) {
    const CodePoint point = last_code_point(text);
    if (!goes(point.value)) break;
    text.remove_suffix(point.length);
  }
  return text;
}

}  // namespace

bool is_python_space(char32_t c) noexcept {
  if (c < 0x80) return c == ' ' || (c >= 9 && c <= 13) || (c >= 0x1c && c <= 0x1f);
  return c == 0x85 || c == 0xa0 || c == 0x1680 || (c >= 0x2000 && c <= 0x200a) || c == 0x2028 || c == 0x2029 ||
         c == 0x202f || c == 0x205f || c == 0x3000;
}

std::string_view stripped(std::string_view text, bool left, bool right) noexcept {
  return strip(text, left, right, is_python_space);
}

std::string_view stripped(std::string_view text, std::string_view set, bool left, bool right) noexcept {
  return strip(text, left, right, [&](char32_t value) {
    for (std::string_view rest = set; !rest.empty();) {
      const CodePoint point = next_code_point(rest);
      if (point.value == value) return true;
      rest.remove_prefix(point.length);
    }
    return false;
  });
}

size_t count_points(std::string_view text) noexcept {
  return static_cast<size_t>(
      std::count_if(text.begin(), text.end(), [](char c) { return (static_cast<unsigned char>(c) & 0xc0) != 0x80; }));
}

size_t offset_of_point(std::string_view text, size_t index) noexcept {
  size_t at = 0;
  for (; at < text.size() && index > 0; --index) at += next_code_point(text.substr(at)).length;
  return at;
}

std::vector<std::string_view> points_of(std::string_view text) {
  std::vector<std::string_view> points;
  while (!text.empty()) {
    const size_t length = next_code_point(text).length;
    points.push_back(text.substr(0, length));
    text.remove_prefix(length);
  }
  return points;
}

std::vector<std::string_view> split_lines(std::string_view text, bool keep_ends) {
  std::vector<std::string_view> lines;
  size_t start = 0;
  for (size_t at = 0; at < text.size();) {
    const CodePoint point = next_code_point(text.substr(at));
    const char32_t c = point.value;
    size_t end = at + point.length;
    if ((c >= 10 && c <= 13) || (c >= 0x1c && c <= 0x1e) || c == 0x85 || c == 0x2028 || c == 0x2029) {
      if (c == '\r' && end < text.size() && text[end] == '\n') ++end;
      lines.push_back(text.substr(start, (keep_ends ? end : at) - start));
      start = end;
    }
    at = end;
  }
  if (start < text.size()) lines.push_back(text.substr(start));
  return lines;
}

std::string upper(std::string_view text) {
  std::string out;
  for (const char32_t value : values_of(text)) {
    if (const CaseForm* form = case_form(value))
      out += form->upper;
    else
      append_utf8(out, static_cast<char32_t>(utf8proc_toupper(static_cast<utf8proc_int32_t>(value))));
  }
  return out;
}

std::string lower(std::string_view text) {
  std::string out;
  const std::vector<char32_t> values = values_of(text);
  for (size_t i = 0; i < values.size(); ++i) {
    if (values[i] == 0x130)  // capital I with a dot: i and a dot
      out += "i\u0307";
    else if (values[i] == 0x3a3 && final_sigma(values, i))
      out += "\u03c2";
    else
      append_utf8(out, static_cast<char32_t>(utf8proc_tolower(static_cast<utf8proc_int32_t>(values[i]))));
  }
  return out;
}

std::string title_first(std::string_view character) {
  std::string out;
  for (const char32_t value : values_of(character)) {
    if (const CaseForm* form = case_form(value))
      out += form->title;
    else
      append_utf8(out, static_cast<char32_t>(utf8proc_totitle(static_cast<utf8proc_int32_t>(value))));
  }
  return out;
}

bool all_cased(std::string_view text, bool upper) noexcept {
  bool cased = false;
  for (; !text.empty(); text.remove_prefix(next_code_point(text).length)) {
    const char32_t value = next_code_point(text).value;
    if (category(value) == UTF8PROC_CATEGORY_LT || (upper ? is_lower(value) : is_upper(value))) return false;
    cased = cased || (upper ? is_upper(value) : is_lower(value));
  }
  return cased;
}

bool is_cased(char32_t value) noexcept {
  return is_upper(value) || is_lower(value) || category(value) == UTF8PROC_CATEGORY_LT;
}

bool is_alphabetic(char32_t value) noexcept {
  const utf8proc_category_t kind = category(value);
  return kind >= UTF8PROC_CATEGORY_LU && kind <= UTF8PROC_CATEGORY_LO;
}

bool is_decimal(char32_t value) noexcept { return category(value) == UTF8PROC_CATEGORY_ND; }

bool is_numeric_letter(char32_t value) noexcept {
  return category(value) == UTF8PROC_CATEGORY_NL || category(value) == UTF8PROC_CATEGORY_NO;
}

bool is_printable(char32_t value) noexcept {
  switch (category(value)) {
    case UTF8PROC_CATEGORY_CN:
    case UTF8PROC_CATEGORY_CC:
    case UTF8PROC_CATEGORY_CF:
    case UTF8PROC_CATEGORY_CS:
    case UTF8PROC_CATEGORY_CO:
    case UTF8PROC_CATEGORY_ZL:
    case UTF8PROC_CATEGORY_ZP:
      return false;
    case UTF8PROC_CATEGORY_ZS:
      return value == ' ';
    default:
      return true;
  }
}

}  // namespace whit::jinja
