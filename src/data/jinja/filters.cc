#include "data/jinja/filters.h"

#include <algorithm>
#include <charconv>
#include <cmath>

#include "base/error.h"
#include "data/jinja/characters.h"
#include "data/jinja/text_methods.h"
#include "data/unicode.h"

namespace whit::jinja {
namespace {

using Filter = Value (*)(Interpreter& in, const Value& value, const Call& call);

// jinja2's soft_str, for filters that go on with a text.
std::string soft(Interpreter& in, const Value& value, const char* what) {
  std::string text = value.is_text() ? in.text_of(value, what) : in.str(value);
  in.meter().touch(text.size());
  return text;
}

Value absolute(Interpreter& in, const Value& value, const Call& call) {
  const Arguments given(in, "abs", call, {});
  if (!value.is_number()) in.fail(std::string("bad operand type for abs(): '") + value.type_name() + "'");
  if (value.is(Type::real)) return std::abs(value.real());
  if (value.whole() == INT64_MIN) in.refuse("an integer of more than 64 bits");
  return value.whole() < 0 ? -value.whole() : value.whole();
}

// An attribute of the object itself, never an item.
Value attr(Interpreter& in, const Value& value, const Call& call) {
  const Arguments given(in, "attr", call, {"name"}, 1);
  const std::string& name = in.text_of(given[0], "attr");
  if (value.is(Type::dict)) {
    bool there = false;
    Value found = method(in, value, name, there);
    return there ? found : Value::undefined("'dict object' has no attribute '" + name + "'");
  }
  return in.attribute(value, name);
}

Value capitalize(Interpreter& in, const Value& value, const Call& call) {
  const Arguments given(in, "capitalize", call, {});
  return in.text(text_methods::capitalized(soft(in, value, "capitalize")));
}

Value center(Interpreter& in, const Value& value, const Call& call) {
  const Arguments given(in, "center", call, {"width"});
  return text_methods::center(in, in.text(soft(in, value, "center")), {{given.get(0, int64_t{80})}, {}});
}

Value fallback(Interpreter& in, const Value& value, const Call& call) {
  const Arguments given(in, "default", call, {"default_value", "boolean"});
  if (!value.is_undefined() && !(given.has(1) && given[1].truth() && !value.truth())) return value;
  return given.get(0, Value::constant(""));
}

Value escape(Interpreter& in, const Value& value, const Call& call) {
  const Arguments given(in, "escape", call, {});
  if (value.is_text() && value.text().markup) return value;
  const std::string text = in.str(value);
  in.meter().touch(text.size());
  return in.text(html_escaped(text), true);
}

Value format(Interpreter& in, const Value& value, const Call& call) {
  if (!call.positional.empty() && !call.named.empty())
    in.fail("can't handle positional and keyword arguments at the same time");
  const std::string pattern = soft(in, value, "format");
  if (call.named.empty()) return in.text(percent_format(in, pattern, in.list(call.positional, ListKind::tuple)));
  std::vector<std::pair<Value, Value>> entries;
  for (const auto& [name, item] : call.named) entries.emplace_back(in.text(name), item);
  return in.text(percent_format(in, pattern, in.dict(entries)));
}

// int() and float() of a text; false where Python raises a ValueError.
bool read_real(std::string_view text, double& out) {
  std::string plain(stripped(text, true, true));
  for (size_t i = 0; i < plain.size(); ++i) {
    if (plain[i] != '_') continue;
    const auto digit = [&](size_t at) { return at < plain.size() && plain[at] >= '0' && plain[at] <= '9'; };
    if (i == 0 || !digit(i - 1) || !digit(i + 1)) return false;
    plain.erase(i, 1);
  }
  std::string_view rest = plain;
  if (!rest.empty() && rest[0] == '+') {
    rest.remove_prefix(1);
    if (!rest.empty() && rest[0] == '-') return false;
  }
  if (rest.empty()) return false;
  if (rest.find_first_of("xX(") != std::string_view::npos) return false;
  const auto result = std::from_chars(rest.data(), rest.data() + rest.size(), out);
  return result.ec == std::errc() && result.ptr == rest.data() + rest.size();
}

bool read_whole(Interpreter& in, std::string_view text, int base, int64_t& out) {
  std::string plain(stripped(text, true, true));
  bool negative = false;
  if (!plain.empty() && (plain[0] == '-' || plain[0] == '+')) {
    negative = plain[0] == '-';
    plain.erase(0, 1);
  }
  const auto alnum = [&](size_t at) {
    return at < plain.size() && std::isalnum(static_cast<unsigned char>(plain[at]));
  };
  if (plain.size() > 2 && plain[0] == '0' && base != 10) {
    const char letter = static_cast<char>(plain[1] | 0x20);
    const int prefix = letter == 'x' ? 16 : letter == 'o' ? 8 : letter == 'b' ? 2 : 0;
    if (prefix && (base == 0 || base == prefix)) {
      base = prefix;
      plain.erase(0, plain[2] == '_' ? 3 : 2);
    }
  }
  if (base == 0) base = 10;
  for (size_t i = 0; i < plain.size(); ++i) {
    if (plain[i] != '_') continue;
    if (i == 0 || !alnum(i - 1) || !alnum(i + 1) || plain[i - 1] == '_') return false;
    plain.erase(i--, 1);
  }
  if (plain.empty() || !alnum(0)) {
    for (const char c : plain)
      if (static_cast<unsigned char>(c) >= 0x80) in.refuse("a number in other digits than 0 to 9");
    return false;
  }
  uint64_t size = 0;
  const auto result = std::from_chars(plain.data(), plain.data() + plain.size(), size, base);
  if (result.ec == std::errc::invalid_argument || result.ptr != plain.data() + plain.size()) return false;
  if (result.ec == std::errc::result_out_of_range || size > static_cast<uint64_t>(INT64_MAX))
    in.refuse("an integer of more than 64 bits");
  out = negative ? -static_cast<int64_t>(size) : static_cast<int64_t>(size);
  return true;
}

int64_t truncated(Interpreter& in, double value) {
  if (!(std::abs(value) < 9.2e18)) in.refuse("an integer of more than 64 bits");
  return static_cast<int64_t>(value);
}

Value to_int(Interpreter& in, const Value& value, const Call& call) {
  const Arguments given(in, "int", call, {"default", "base"});
  const Value otherwise = given.get(0, int64_t{0});
  if (value.is_undefined()) in.fail(value.why());
  if (value.is_whole()) return value.whole();
  if (value.is(Type::real)) {
    if (std::isnan(value.real())) return otherwise;
    if (std::isinf(value.real())) in.fail("cannot convert float infinity to integer");
    return truncated(in, value.real());
  }
  if (!value.is_text()) return otherwise;
  const int64_t base = given.has(1) ? in.whole_of(given[1], "int") : 10;
  if (base != 0 && (base < 2 || base > 36)) in.refuse("int with this base");
  int64_t whole = 0;
  if (read_whole(in, value.bytes(), static_cast<int>(base), whole)) return whole;
  double real = 0;
  if (!read_real(value.bytes(), real) || !std::isfinite(real)) return otherwise;
  return truncated(in, real);
}

Value to_float(Interpreter& in, const Value& value, const Call& call) {
  const Arguments given(in, "float", call, {"default"});
  if (value.is_undefined()) in.fail(value.why());
  if (value.is_number()) return value.real();
  double real = 0;
  if (value.is_text() && read_real(value.bytes(), real)) return real;
  return given.get(0, 0.0);
}

Value indent(Interpreter& in, const Value& value, const Call& call) {
  const Arguments given(in, "indent", call, {"width", "first", "blank"});
  const std::string& text = in.text_of(value, "indent");
  in.meter().touch(text.size());
  std::string space;
  if (given.has(0) && given[0].is_text()) {
    space = given[0].bytes();
  } else {
    const int64_t width = given.has(0) ? in.whole_of(given[0], "indent") : 4;
    if (width > 4096) in.refuse("indent by more than 4096");
    space.assign(static_cast<size_t>(std::max<int64_t>(0, width)), ' ');
  }
  const bool blank = given.has(2) && given[2].truth();
  std::string out = given.has(1) && given[1].truth() ? space : "";
  const std::string whole = text + "\n";
  const auto lines = split_lines(whole, false);
  in.meter().touch(space.size() * lines.size());
  const Charge beforehand(in.meter(), space.size() * lines.size() + whole.size());
  for (size_t i = 0; i < lines.size(); ++i) {
    if (i > 0) out += "\n";
    if (i > 0 && (blank || !lines[i].empty())) out += space;
    out += lines[i];
  }
  return in.text(std::move(out));
}

Value length(Interpreter& in, const Value& value, const Call& call) {
  const Arguments given(in, "length", call, {});
  return in.length(value);
}

Value lower_case(Interpreter& in, const Value& value, const Call& call) {
  const Arguments given(in, "lower", call, {});
  return in.text(lower(soft(in, value, "lower")));
}
Value upper_case(Interpreter& in, const Value& value, const Call& call) {
  const Arguments given(in, "upper", call, {});
  return in.text(upper(soft(in, value, "upper")));
}

Value replace(Interpreter& in, const Value& value, const Call& call) {
  const Arguments given(in, "replace", call, {"old", "new", "count"}, 2);
  const std::string text = in.str(value), old = in.str(given[0]), with = in.str(given[1]);
  in.meter().touch(text.size());
  return in.text(text_methods::replaced(in, text, old, with, given.given(2) ? in.whole_of(given[2], "replace") : -1));
}

Value round_number(Interpreter& in, const Value& value, const Call& call) {
  const Arguments given(in, "round", call, {"precision", "method"});
  const int64_t precision = given.has(0) ? in.whole_of(given[0], "round") : 0;
  const std::string method = given.has(1) ? in.str(given[1]) : "common";
  if (method != "common" && method != "ceil" && method != "floor") in.fail("method must be common, ceil or floor");
  if (value.is_undefined()) in.fail(value.why());
  if (!value.is_number()) in.fail(std::string("round: a number is wanted, not ") + value.type_name());
  if (precision < 0 || precision > 15) in.refuse("round to this precision");
  if (method != "common") {
    const double scale = std::pow(10.0, static_cast<double>(precision)), scaled = value.real() * scale;
    return (method == "ceil" ? std::ceil(scaled) : std::floor(scaled)) / scale;
  }
  if (value.is_whole()) return value.whole();
  if (!std::isfinite(value.real())) return value;
  // As printf rounds: exactly, ties of the binary value to even.
  char buffer[400];
  const int count = std::snprintf(buffer, sizeof(buffer), "%.*f", static_cast<int>(precision), value.real());
  double out = 0;
  std::from_chars(buffer, buffer + count, out);
  return out;
}

Value safe(Interpreter& in, const Value& value, const Call& call) {
  const Arguments given(in, "safe", call, {});
  return in.text(in.str(value), true);
}

Value string(Interpreter& in, const Value& value, const Call& call) {
  const Arguments given(in, "string", call, {});
  return value.is_text() ? value : in.text(in.str(value));
}

Value title(Interpreter& in, const Value& value, const Call& call) {
  const Arguments given(in, "title", call, {});
  const std::string text = soft(in, value, "title");
  std::string out, word;
  const auto end_word = [&] {
    if (word.empty()) return;
    const size_t first = next_code_point(word).length;
    out += upper(word.substr(0, first)) + lower(std::string_view(word).substr(first));
    word.clear();
  };
  for (const std::string_view point : points_of(text)) {
    const bool breaks = is_python_space(next_code_point(point).value) ||
                        std::string_view("-({[<").find(point) != std::string_view::npos;
    if (breaks) {
      end_word();
      out += point;
    } else {
      word += point;
    }
  }
  end_word();
  return in.text(std::move(out));
}

Value tojson(Interpreter& in, const Value& value, const Call& call) {
  const Arguments given(in, "tojson", call, {"ensure_ascii", "indent", "separators", "sort_keys"});
  JsonStyle style;
  style.ascii = given.has(0) && given[0].truth();
  style.sort = given.has(3) && given[3].truth();
  if (given.given(1)) {
    style.indented = true;
    style.item_separator = ",";
    if (given[1].is_text()) {
      style.indent = given[1].bytes();
    } else {
      const int64_t width = in.whole_of(given[1], "tojson");
      if (width > 4096) in.refuse("tojson with an indent of more than 4096");
      style.indent.assign(static_cast<size_t>(std::max<int64_t>(0, width)), ' ');
    }
  }
  if (given.given(2)) {
    const Values marks = in.items(given[2]);
    if (marks.size() != 2) in.fail("tojson: two separators are wanted");
    style.item_separator = in.text_of(marks[0], "tojson");
    style.key_separator = in.text_of(marks[1], "tojson");
  }
  return in.text(to_json(in, value, style));
}

Value trim(Interpreter& in, const Value& value, const Call& call) {
  const Arguments given(in, "trim", call, {"chars"});
  const Value text = value.is_text() ? value : in.text(in.str(value));
  return text_methods::strip(in, text, {{given.get(0, Value())}, {}});
}

Value truncate(Interpreter& in, const Value& value, const Call& call) {
  const Arguments given(in, "truncate", call, {"length", "killwords", "end", "leeway"});
  const int64_t length = given.has(0) ? in.whole_of(given[0], "truncate") : 255;
  const std::string end = given.has(2) ? in.text_of(given[2], "truncate") : "...";
  const int64_t leeway = given.given(3) ? in.whole_of(given[3], "truncate") : 5;
  const auto end_length = static_cast<int64_t>(count_points(end));
  if (length < end_length || leeway < 0) in.fail("truncate: a longer length and no negative leeway are wanted");
  if (in.length(value) <= length + leeway) return value;
  const std::string& text = in.text_of(value, "truncate");
  std::string_view kept = part_of(value.text(), 0, length - end_length);
  if (!(given.has(1) && given[1].truth()))
    if (const size_t space = kept.rfind(' '); space != std::string_view::npos) kept = kept.substr(0, space);
  in.meter().touch(text.size());
  return in.text(std::string(kept) + end);
}

Value wordcount(Interpreter& in, const Value& value, const Call& call) {
  const Arguments given(in, "wordcount", call, {});
  const std::string text = soft(in, value, "wordcount");
  int64_t count = 0;
  bool inside = false;
  for (const std::string_view point : points_of(text)) {
    // Python's \w: letters and numbers, and the underscore.
    const char32_t c = next_code_point(point).value;
    const bool word = is_alphabetic(c) || is_decimal(c) || is_numeric_letter(c) || c == '_';
    if (word && !inside) ++count;
    inside = word;
  }
  return count;
}

const std::pair<const char*, Filter> kFilters[] = {
    {"abs", absolute},
    {"attr", attr},
    {"batch", filters::batch},
    {"capitalize", capitalize},
    {"center", center},
    {"count", length},
    {"d", fallback},
    {"default", fallback},
    {"dictsort", filters::dictsort},
    {"e", escape},
    {"escape", escape},
    {"filesizeformat", nullptr},
    {"first", filters::first},
    {"float", to_float},
    {"forceescape", nullptr},
    {"format", format},
    {"groupby", filters::groupby},
    {"indent", indent},
    {"int", to_int},
    {"items", filters::items},
    {"join", filters::join},
    {"last", filters::last},
    {"length", length},
    {"list", filters::list},
    {"lower", lower_case},
    {"map", filters::map},
    {"max", filters::max},
    {"min", filters::min},
    {"pprint", nullptr},
    {"random", nullptr},
    {"reject", filters::reject},
    {"rejectattr", filters::rejectattr},
    {"replace", replace},
    {"reverse", filters::reverse},
    {"round", round_number},
    {"safe", safe},
    {"select", filters::select},
    {"selectattr", filters::selectattr},
    {"slice", filters::slice},
    {"sort", filters::sort},
    {"string", string},
    {"striptags", nullptr},
    {"sum", filters::sum},
    {"title", title},
    {"tojson", tojson},
    {"trim", trim},
    {"truncate", truncate},
    {"unique", filters::unique},
    {"upper", upper_case},
    {"urlencode", nullptr},
    {"urlize", nullptr},
    {"wordcount", wordcount},
    {"wordwrap", nullptr},
    {"xmlattr", nullptr},
};

const std::pair<const char*, Filter>* find_filter(const std::string& name) noexcept {
  const auto* found =
      std::find_if(std::begin(kFilters), std::end(kFilters), [&](const auto& row) { return name == row.first; });
  return found == std::end(kFilters) ? nullptr : found;
}

}  // namespace

bool is_filter(const std::string& name) noexcept { return find_filter(name) != nullptr; }

Value Interpreter::filter(const std::string& name, const Value& value, const Call& call) {
  const auto* found = find_filter(name);
  if (!found) fail("No filter named '" + name + "'.");
  if (!found->second) refuse("the filter '" + name + "'");
  return found->second(*this, value, call);
}

}  // namespace whit::jinja
