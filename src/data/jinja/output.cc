// Values as text: Python's str and repr.
#include <charconv>
#include <cmath>

#include "data/jinja/characters.h"
#include "data/jinja/interpreter.h"
#include "data/unicode.h"

namespace whit::jinja {

std::string real_text(double value) {
  if (std::isnan(value)) return "nan";
  if (std::isinf(value)) return value > 0 ? "inf" : "-inf";
  char buffer[64];
  // The fewest digits that give the same double: d.ddde+XX.
  const auto end = std::to_chars(buffer, buffer + sizeof(buffer), value, std::chars_format::scientific).ptr;
  std::string_view text(buffer, static_cast<size_t>(end - buffer));
  std::string sign;
  if (text.front() == '-') {
    sign = "-";
    text.remove_prefix(1);
  }
  const size_t mark = text.find('e');
  std::string digits(1, text[0]);
  if (mark > 2) digits += text.substr(2, mark - 2);
  int exponent = 0;
  const std::string_view power = text.substr(mark + (text[mark + 1] == '+' ? 2 : 1));
  std::from_chars(power.data(), power.data() + power.size(), exponent);
  const int count = static_cast<int>(digits.size());
  if (exponent < -4 || exponent >= 16) {
    std::string out = sign + digits.substr(0, 1);
    if (count > 1) out += "." + digits.substr(1);
    const int size = std::abs(exponent);
    return out + "e" + (exponent < 0 ? "-" : "+") + (size < 10 ? "0" : "") + std::to_string(size);
  }
  if (exponent < 0) return sign + "0." + std::string(static_cast<size_t>(-exponent - 1), '0') + digits;
  const auto whole = static_cast<size_t>(exponent) + 1;
  if (digits.size() <= whole) return sign + digits + std::string(whole - digits.size(), '0') + ".0";
  return sign + digits.substr(0, whole) + "." + digits.substr(whole);
}

std::string repr_text(std::string_view text) {
  const char quote = text.find('\'') != std::string_view::npos && text.find('"') == std::string_view::npos ? '"' : '\'';
  std::string out(1, quote);
  const auto hex = [&](const char* mark, char32_t value, int digits) {
    out += mark;
    for (int shift = 4 * (digits - 1); shift >= 0; shift -= 4) out.push_back("0123456789abcdef"[(value >> shift) & 15]);
  };
  while (!text.empty()) {
    const CodePoint point = next_code_point(text);
    const char32_t c = point.value;
    if (c == static_cast<char32_t>(quote) || c == '\\')
      (out += '\\') += static_cast<char>(c);
    else if (c == '\n' || c == '\t' || c == '\r')
      out += c == '\n' ? "\\n" : c == '\t' ? "\\t" : "\\r";
    else if (c < ' ' || c == 0x7f)
      hex("\\x", c, 2);
    else if (c < 0x7f || is_printable(c))
      out += text.substr(0, point.length);
    else if (c <= 0xff)
      hex("\\x", c, 2);
    else if (c <= 0xffff)
      hex("\\u", c, 4);
    else
      hex("\\U", c, 8);
    text.remove_prefix(point.length);
  }
  out.push_back(quote);
  return out;
}

std::string html_escaped(std::string_view text) {
  std::string out;
  for (const char c : text) {
    switch (c) {
      case '&':
        out += "&amp;";
        break;
      case '<':
        out += "&lt;";
        break;
      case '>':
        out += "&gt;";
        break;
      case '\'':
        out += "&#39;";
        break;
      case '"':
        out += "&#34;";
        break;
      default:
        out.push_back(c);
    }
  }
  return out;
}

std::string Interpreter::repr_list(const List& list) {
  if (list.kind == ListKind::range) {
    std::string out = "range(" + std::to_string(list.start) + ", " + std::to_string(list.stop);
    return out + (list.stride == 1 ? ")" : ", " + std::to_string(list.stride) + ")");
  }
  std::string inner;
  for (const Value& item : list.items) {
    if (!inner.empty()) inner += ", ";
    inner += repr(item);
  }
  switch (list.kind) {
    case ListKind::tuple:
    case ListKind::group:
      return "(" + inner + (list.items.size() == 1 ? ",)" : ")");
    case ListKind::keys:
      return "dict_keys([" + inner + "])";
    case ListKind::values:
      return "dict_values([" + inner + "])";
    case ListKind::items:
      return "dict_items([" + inner + "])";
    default:
      return "[" + inner + "]";
  }
}

std::string Interpreter::repr(const Value& value) {
  meter_.step();
  switch (value.type()) {
    case Type::none:
      return "None";
    case Type::undefined:
      return "Undefined";
    case Type::boolean:
      return value.whole() ? "True" : "False";
    case Type::integer:
      return std::to_string(value.whole());
    case Type::real:
      return real_text(value.real());
    case Type::text:
      meter_.touch(value.bytes().size());
      return repr_text(text_of(value, "repr"));
    case Type::list:
      return repr_list(value.list());
    case Type::dict: {
      std::string out;
      for (const auto& [key, item] : value.dict().entries) {
        out += out.empty() ? "{" : ", ";
        out += repr(key) + ": " + repr(item);
        meter_.touch(out.size() / 16);
      }
      return out.empty() ? "{}" : out + "}";
    }
    case Type::object:
      break;
  }
  // Python writes addresses of these.
  refuse(std::string("the text of a value of type ") + value.type_name());
}

std::string Interpreter::str(const Value& value) {
  if (value.is_text()) return value.bytes();
  return value.is_undefined() ? std::string() : repr(value);
}

const std::string& Interpreter::text_of(const Value& value, const char* what) {
  if (value.is_undefined()) fail(value.why());
  if (!value.is_text()) fail(std::string(what) + ": a string is wanted, not " + value.type_name());
  if (value.text().markup) refuse(std::string("text marked as safe in ") + what);
  return value.bytes();
}

int64_t Interpreter::whole_of(const Value& value, const char* what) {
  if (value.is_undefined()) fail(value.why());
  if (!value.is_whole()) fail(std::string(what) + ": an integer is wanted, not " + value.type_name());
  return value.whole();
}

int64_t length_of(const Text& text) {
  return static_cast<int64_t>(text.ascii ? text.bytes.size() : count_points(text.bytes));
}

std::string_view part_of(const Text& text, int64_t start, int64_t stop) {
  const std::string_view bytes = text.bytes;
  if (text.ascii) return bytes.substr(static_cast<size_t>(start), static_cast<size_t>(stop - start));
  const size_t from = offset_of_point(bytes, static_cast<size_t>(start));
  return bytes.substr(from, offset_of_point(bytes.substr(from), static_cast<size_t>(stop - start)));
}

}  // namespace whit::jinja
