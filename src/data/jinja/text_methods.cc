#include "data/jinja/text_methods.h"

#include <algorithm>

#include "data/jinja/characters.h"
#include "data/unicode.h"

namespace whit::jinja::text_methods {
namespace {

constexpr auto npos = std::string_view::npos;

// The text of `self`, whose use is paid for.
const std::string& of(Interpreter& in, const Value& self, const char* what) {
  const std::string& text = in.text_of(self, what);
  in.meter().touch(text.size());
  return text;
}

bool all(Interpreter& in, const Value& self, const Call& call, bool (*is)(char32_t)) {
  const Arguments given(in, "a test of characters", call, {});
  std::string_view text = of(in, self, "a test of characters");
  if (text.empty()) return false;
  for (; !text.empty(); text.remove_prefix(next_code_point(text).length))
    if (!is(next_code_point(text).value)) return false;
  return true;
}

// Superscripts and the like are digits to Python; which of them is not known here.
bool digit_or_refuse(Interpreter& in, const Value& self) {
  for (std::string_view text = self.bytes(); !text.empty(); text.remove_prefix(next_code_point(text).length))
    if (is_numeric_letter(next_code_point(text).value)) in.refuse("isdigit of numbers that are no decimal digits");
  return true;
}

// Optional start and end of find, count, startswith: code points, negative from the end.
std::string_view section(const Value& self, const Arguments& given, size_t first, Interpreter& in, int64_t& start) {
  const int64_t length = length_of(self.text());
  const auto bound = [&](size_t i, int64_t otherwise) {
    if (!given.given(i)) return otherwise;
    const int64_t at = in.whole_of(given[i], "an index");
    return at < 0 ? std::max<int64_t>(0, at + length) : at;
  };
  start = bound(first, 0);
  const int64_t stop = std::min(bound(first + 1, length), length);
  if (start > stop) {
    start = -1;  // nothing is found there, not even an empty text
    return {};
  }
  return part_of(self.text(), start, stop);
}

Value find_in(Interpreter& in, const Value& self, const Call& call, const char* name, bool last, bool must) {
  of(in, self, name);
  const Arguments given(in, name, call, {"", "", ""}, 1);
  const std::string& wanted = in.text_of(given[0], name);
  int64_t start = 0;
  const std::string_view text = section(self, given, 1, in, start);
  const size_t at = start < 0 ? npos : last ? text.rfind(wanted) : text.find(wanted);
  if (at == npos && must) in.fail("substring not found");
  if (at == npos) return int64_t{-1};
  return start + static_cast<int64_t>(count_points(text.substr(0, at)));
}

Value with_end(Interpreter& in, const Value& self, const Call& call, const char* name, bool front) {
  of(in, self, name);
  const Arguments given(in, name, call, {"", "", ""}, 1);
  int64_t start = 0;
  const std::string_view text = section(self, given, 1, in, start);
  const auto fits = [&](const Value& wanted) {
    const std::string& end = in.text_of(wanted, name);
    return start >= 0 && (front ? text.starts_with(end) : text.ends_with(end));
  };
  if (!given[0].is_list(ListKind::tuple)) return fits(given[0]);
  const Values& any = given[0].list().items;
  return std::any_of(any.begin(), any.end(), fits);
}

Value strip_ends(Interpreter& in, const Value& self, const Call& call, const char* name, bool left, bool right) {
  if (!self.text().markup) of(in, self, name);
  const Arguments given(in, name, call, {""});
  const std::string& text = self.bytes();
  if (!given.given(0)) return in.text(std::string(stripped(text, left, right)), self.text().markup);
  const std::string& set = in.text_of(given[0], name);
  in.meter().touch(text.size() * set.size());
  return in.text(std::string(stripped(text, set, left, right)), self.text().markup);
}

Value texts(Interpreter& in, const std::vector<std::string_view>& parts, ListKind kind = ListKind::list) {
  Values values;
  for (const std::string_view part : parts) values.push_back(in.text(std::string(part)));
  return in.list(std::move(values), kind);
}

// Words between white space, `most` splits at most, from the right where asked.
std::vector<std::string_view> words(std::string_view text, int64_t most, bool right) {
  std::vector<std::string_view> parts;
  for (text = stripped(text, true, true); !text.empty();) {
    if (most == 0) {
      parts.push_back(text);
      break;
    }
    size_t cut = right ? npos : text.size();
    for (size_t at = 0; at < text.size();) {
      const CodePoint point = next_code_point(text.substr(at));
      if (is_python_space(point.value)) {
        cut = right ? at + point.length : at;
        if (!right) break;
      }
      at += point.length;
    }
    if (right) {
      const size_t from = cut == npos ? 0 : cut;
      parts.push_back(text.substr(from));
      text = stripped(text.substr(0, from), false, true);
    } else {
      parts.push_back(text.substr(0, cut));
      text = stripped(text.substr(cut), true, false);
    }
    if (most > 0) --most;
  }
  if (right) std::reverse(parts.begin(), parts.end());
  return parts;
}

Value split_text(Interpreter& in, const Value& self, const Call& call, const char* name, bool right) {
  const std::string_view text = of(in, self, name);
  const Arguments given(in, name, call, {"sep", "maxsplit"});
  int64_t most = given.has(1) ? in.whole_of(given[1], name) : -1;
  if (!given.given(0)) {
    // White space is looked for anew from the right for each word.
    if (right) in.meter().step(text.size() / 8 * std::min<uint64_t>(text.size(), 1000) / 8);
    return texts(in, words(text, most, right));
  }
  const std::string& mark = in.text_of(given[0], name);
  if (mark.empty()) in.fail("empty separator");
  std::vector<std::string_view> parts;
  std::string_view rest = text;
  for (size_t at; most != 0 && (at = right ? rest.rfind(mark) : rest.find(mark)) != npos; --most) {
    parts.push_back(right ? rest.substr(at + mark.size()) : rest.substr(0, at));
    rest = right ? rest.substr(0, at) : rest.substr(at + mark.size());
  }
  parts.push_back(rest);
  if (right) std::reverse(parts.begin(), parts.end());
  return texts(in, parts);
}

Value part(Interpreter& in, const Value& self, const Call& call, const char* name, bool last) {
  const std::string_view text = of(in, self, name);
  const Arguments given(in, name, call, {""}, 1);
  const std::string& mark = in.text_of(given[0], name);
  if (mark.empty()) in.fail("empty separator");
  const size_t at = last ? text.rfind(mark) : text.find(mark);
  std::vector<std::string_view> parts = {text, {}, {}};
  if (at == npos && last) parts = {{}, {}, text};
  if (at != npos) parts = {text.substr(0, at), mark, text.substr(at + mark.size())};
  return texts(in, parts, ListKind::tuple);
}

// To `width` characters, `left` and `right` say where the filling goes.
Value filled(Interpreter& in, const Value& self, const Call& call, const char* name, bool left, bool right) {
  const std::string& text = of(in, self, name);
  const Arguments given(in, name, call, {"", ""}, 1);
  const int64_t missing = in.whole_of(given[0], name) - length_of(self.text());
  const std::string fill = given.has(1) ? in.text_of(given[1], name) : " ";
  if (count_points(fill) != 1) in.fail(std::string(name) + ": the fill character must be exactly one character long");
  if (missing <= 0) return self;
  if (static_cast<uint64_t>(missing) > in.meter().limits().bytes / 4) in.refuse("a text of that width");
  const Charge beforehand(in.meter(), static_cast<uint64_t>(missing) * fill.size());
  // As Python centers: where the missing characters are odd and the width is too, one more goes left.
  const int64_t width = missing + length_of(self.text());
  const int64_t before = left && right ? missing / 2 + (missing & width & 1) : left ? missing : 0;
  std::string out;
  for (int64_t i = 0; i < before; ++i) out += fill;
  out += text;
  for (int64_t i = before; i < missing; ++i) out += fill;
  return in.text(std::move(out));
}

}  // namespace

std::string replaced(Interpreter& in, std::string_view text, std::string_view old, std::string_view with,
                     int64_t count) {
  std::string out;
  size_t at = 0;
  const auto grow = [&] {
    if (out.size() > in.meter().limits().bytes) in.refuse("a text of that size");
    in.meter().step();
  };
  if (old.empty()) {  // between all characters, and at both ends
    while (count != 0) {
      out += with;
      grow();
      if (count > 0) --count;
      if (at >= text.size()) return out;
      const size_t length = next_code_point(text.substr(at)).length;
      out += text.substr(at, length);
      at += length;
    }
    return out += text.substr(at);
  }
  for (size_t found; count != 0 && (found = text.find(old, at)) != npos; at = found + old.size()) {
    out += text.substr(at, found - at);
    out += with;
    grow();
    if (count > 0) --count;
  }
  return out += text.substr(at);
}

std::string capitalized(std::string_view text) {
  if (text.empty()) return {};
  const size_t first = next_code_point(text).length;
  // The rest with its first character before it: a sigma knows whether it ends a word.
  const std::string whole = jinja::lower(text), head = jinja::lower(text.substr(0, first));
  return title_first(text.substr(0, first)) + whole.substr(std::min(head.size(), whole.size()));
}

Value capitalize(Interpreter& in, const Value& self, const Call& call) {
  const Arguments given(in, "capitalize", call, {});
  return in.text(capitalized(of(in, self, "capitalize")));
}

Value center(Interpreter& in, const Value& self, const Call& call) {
  return filled(in, self, call, "center", true, true);
}
Value ljust(Interpreter& in, const Value& self, const Call& call) {
  return filled(in, self, call, "ljust", false, true);
}
Value rjust(Interpreter& in, const Value& self, const Call& call) {
  return filled(in, self, call, "rjust", true, false);
}

Value count(Interpreter& in, const Value& self, const Call& call) {
  of(in, self, "count");
  const Arguments given(in, "count", call, {"", "", ""}, 1);
  const std::string& wanted = in.text_of(given[0], "count");
  int64_t start = 0;
  const std::string_view text = section(self, given, 1, in, start);
  if (start < 0) return int64_t{0};
  if (wanted.empty()) return static_cast<int64_t>(count_points(text)) + 1;
  int64_t found = 0;
  for (size_t at = text.find(wanted); at != npos; at = text.find(wanted, at + wanted.size())) ++found;
  return found;
}

Value ends_with(Interpreter& in, const Value& self, const Call& call) {
  return with_end(in, self, call, "endswith", false);
}
Value starts_with(Interpreter& in, const Value& self, const Call& call) {
  return with_end(in, self, call, "startswith", true);
}
Value find(Interpreter& in, const Value& self, const Call& call) {
  return find_in(in, self, call, "find", false, false);
}
Value rfind(Interpreter& in, const Value& self, const Call& call) {
  return find_in(in, self, call, "rfind", true, false);
}
Value index(Interpreter& in, const Value& self, const Call& call) {
  return find_in(in, self, call, "index", false, true);
}
Value rindex(Interpreter& in, const Value& self, const Call& call) {
  return find_in(in, self, call, "rindex", true, true);
}

Value format(Interpreter& in, const Value& self, const Call& call) {
  return in.text(brace_format(in, of(in, self, "format"), call));
}

Value is_alnum(Interpreter& in, const Value& self, const Call& call) {
  return digit_or_refuse(in, self) &&
         all(in, self, call, [](char32_t c) { return is_alphabetic(c) || jinja::is_decimal(c); });
}
Value is_alpha(Interpreter& in, const Value& self, const Call& call) {
  return all(in, self, call, [](char32_t c) { return is_alphabetic(c); });
}
Value is_ascii(Interpreter& in, const Value& self, const Call& call) {
  return self.bytes().empty() || all(in, self, call, [](char32_t c) { return c < 0x80; });
}
Value is_decimal(Interpreter& in, const Value& self, const Call& call) {
  return all(in, self, call, [](char32_t c) { return jinja::is_decimal(c); });
}
Value is_digit(Interpreter& in, const Value& self, const Call& call) {
  return digit_or_refuse(in, self) && all(in, self, call, [](char32_t c) { return jinja::is_decimal(c); });
}
Value is_space(Interpreter& in, const Value& self, const Call& call) {
  return all(in, self, call, [](char32_t c) { return is_python_space(c); });
}
Value is_lower(Interpreter& in, const Value& self, const Call& call) {
  const Arguments given(in, "islower", call, {});
  return all_cased(of(in, self, "islower"), false);
}
Value is_upper(Interpreter& in, const Value& self, const Call& call) {
  const Arguments given(in, "isupper", call, {});
  return all_cased(of(in, self, "isupper"), true);
}

Value join(Interpreter& in, const Value& self, const Call& call) {
  const std::string& mark = of(in, self, "join");
  const Arguments given(in, "join", call, {""}, 1);
  std::string out;
  bool first = true;
  for (const Value& item : in.items(given[0])) {
    if (!first) out += mark;
    first = false;
    if (!item.is_text()) in.fail(std::string("join: expected str instance, ") + item.type_name() + " found");
    out += in.text_of(item, "join");
    in.meter().touch(item.bytes().size() + mark.size());
    if (out.size() > in.meter().limits().bytes) in.refuse("a text of that size");
  }
  return in.text(std::move(out));
}

Value lower(Interpreter& in, const Value& self, const Call& call) {
  const Arguments given(in, "lower", call, {});
  return in.text(jinja::lower(of(in, self, "lower")));
}
Value upper(Interpreter& in, const Value& self, const Call& call) {
  const Arguments given(in, "upper", call, {});
  return in.text(jinja::upper(of(in, self, "upper")));
}

Value strip(Interpreter& in, const Value& self, const Call& call) {
  return strip_ends(in, self, call, "strip", true, true);
}
Value lstrip(Interpreter& in, const Value& self, const Call& call) {
  return strip_ends(in, self, call, "lstrip", true, false);
}
Value rstrip(Interpreter& in, const Value& self, const Call& call) {
  return strip_ends(in, self, call, "rstrip", false, true);
}

Value partition(Interpreter& in, const Value& self, const Call& call) {
  return part(in, self, call, "partition", false);
}
Value rpartition(Interpreter& in, const Value& self, const Call& call) {
  return part(in, self, call, "rpartition", true);
}

Value remove_prefix(Interpreter& in, const Value& self, const Call& call) {
  const std::string& text = of(in, self, "removeprefix");
  const Arguments given(in, "removeprefix", call, {""}, 1);
  const std::string& end = in.text_of(given[0], "removeprefix");
  return in.text(text.starts_with(end) ? text.substr(end.size()) : text);
}
Value remove_suffix(Interpreter& in, const Value& self, const Call& call) {
  const std::string& text = of(in, self, "removesuffix");
  const Arguments given(in, "removesuffix", call, {""}, 1);
  const std::string& end = in.text_of(given[0], "removesuffix");
  return in.text(text.ends_with(end) ? text.substr(0, text.size() - end.size()) : text);
}

Value replace(Interpreter& in, const Value& self, const Call& call) {
  const std::string& text = of(in, self, "replace");
  const Arguments given(in, "replace", call, {"", "", ""}, 2);
  return in.text(replaced(in, text, in.text_of(given[0], "replace"), in.text_of(given[1], "replace"),
                          given.has(2) ? in.whole_of(given[2], "replace") : -1));
}

Value split(Interpreter& in, const Value& self, const Call& call) { return split_text(in, self, call, "split", false); }
Value rsplit(Interpreter& in, const Value& self, const Call& call) {
  return split_text(in, self, call, "rsplit", true);
}

Value split_lines(Interpreter& in, const Value& self, const Call& call) {
  const Arguments given(in, "splitlines", call, {"keepends"});
  return texts(in, jinja::split_lines(of(in, self, "splitlines"), given.has(0) && given[0].truth()));
}

Value title(Interpreter& in, const Value& self, const Call& call) {
  const Arguments given(in, "title", call, {});
  const std::string& text = of(in, self, "title");
  std::string out;
  bool inside = false;  // a word
  // Words are runs of cased characters; each is written as `capitalize` writes it.
  for (const std::string_view point : points_of(text)) {
    const bool cased = is_cased(next_code_point(point).value);
    if (next_code_point(point).value == 0x3a3 && inside) in.refuse("the title case of a sigma");
    out += inside ? jinja::lower(point) : title_first(point);
    inside = cased;
  }
  return in.text(std::move(out));
}

Value zfill(Interpreter& in, const Value& self, const Call& call) {
  const std::string& text = of(in, self, "zfill");
  const Arguments given(in, "zfill", call, {""}, 1);
  const int64_t missing = in.whole_of(given[0], "zfill") - length_of(self.text());
  if (missing <= 0) return self;
  if (missing > 4096) in.refuse("a text of that width");
  const size_t sign = !text.empty() && (text[0] == '+' || text[0] == '-') ? 1 : 0;
  return in.text(text.substr(0, sign) + std::string(static_cast<size_t>(missing), '0') + text.substr(sign));
}

}  // namespace whit::jinja::text_methods
