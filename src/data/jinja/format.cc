// Python's two ways to format: "%s" % value and "{}".format(value).
#include <algorithm>
#include <charconv>
#include <cmath>
#include <optional>

#include "data/jinja/characters.h"
#include "data/jinja/interpreter.h"

namespace whit::jinja {
namespace {

constexpr int64_t kWidest = 4096;

// How a number or text is laid out; what both ways have in common.
struct Layout {
  char align = 0;  // < > ^ =
  std::string fill = " ";
  char sign = '-';  // + and space too
  bool alternate = false, zero = false;
  char grouping = 0;  // , or _
  int64_t width = 0;
  int64_t precision = -1;
};

std::string padded(const std::string& text, const Layout& layout, char usual) {
  const int64_t missing = layout.width - static_cast<int64_t>(count_points(text));
  if (missing <= 0) return text;
  const char align = layout.align ? layout.align : usual;
  const int64_t before = align == '>' || align == '=' ? missing : align == '^' ? missing / 2 : 0;
  std::string out;
  for (int64_t i = 0; i < before; ++i) out += layout.fill;
  out += text;
  for (int64_t i = before; i < missing; ++i) out += layout.fill;
  return out;
}

// Sign and digits laid out: zeros go between the two.
std::string padded_number(const std::string& sign, std::string digits, Layout layout) {
  if (layout.zero && !layout.align) layout.align = '=', layout.fill = "0";
  if (layout.grouping) {
    const size_t end = digits.find_first_not_of("0123456789");
    for (size_t at = end == std::string::npos ? digits.size() : end; at > 3;) {
      at -= 3;
      digits.insert(at, 1, layout.grouping);
    }
  }
  if (layout.align == '=') {
    Layout rest = layout;
    rest.width -= static_cast<int64_t>(sign.size());
    return sign + padded(digits, rest, '>');
  }
  return padded(sign + digits, layout, '>');
}

std::string sign_of(bool negative, const Layout& layout) {
  return negative ? "-" : layout.sign == '-' ? "" : std::string(1, layout.sign);
}

std::string whole_text(Interpreter& in, int64_t value, char type, const Layout& layout) {
  const bool negative = value < 0;
  const uint64_t size = negative ? uint64_t{0} - static_cast<uint64_t>(value) : static_cast<uint64_t>(value);
  const int base = type == 'x' || type == 'X' ? 16 : type == 'o' ? 8 : type == 'b' ? 2 : 10;
  char buffer[72];
  std::string digits(buffer, std::to_chars(buffer, buffer + sizeof(buffer), size, base).ptr);
  if (type == 'X') digits = upper(digits);
  if (base != 10 && layout.grouping) in.refuse("a format with grouped digits of base " + std::to_string(base));
  std::string sign = sign_of(negative, layout);
  if (layout.alternate && base != 10) sign += std::string("0") + type;
  return padded_number(sign, digits, layout);
}

std::string real_format(Interpreter& in, double value, char type, const Layout& layout) {
  if (!std::isfinite(value)) in.refuse("a format of a number that is not finite");
  if (layout.alternate) in.refuse("a format with '#' of a float");
  const int precision = layout.precision < 0 ? 6 : static_cast<int>(layout.precision);
  char buffer[512];
  const double size = std::abs(value);
  std::string digits;
  const char kind[] = {'%', '.', '*', type == '%' ? 'f' : type, '\0'};
  const int count = std::snprintf(buffer, sizeof(buffer), kind, precision, type == '%' ? size * 100 : size);
  if (count < 0 || count >= static_cast<int>(sizeof(buffer))) in.refuse("a number of that many digits");
  digits.assign(buffer, static_cast<size_t>(count));
  if (type == '%') digits += '%';
  return padded_number(sign_of(std::signbit(value), layout), digits, layout);
}

std::string first_points(const std::string& text, int64_t count) {
  return count < 0 ? text : text.substr(0, offset_of_point(text, static_cast<size_t>(count)));
}

int64_t read_number(Interpreter& in, std::string_view text, size_t& at) {
  int64_t value = 0;
  for (; at < text.size() && text[at] >= '0' && text[at] <= '9'; ++at) {
    value = value * 10 + (text[at] - '0');
    if (value > kWidest) in.refuse("a format wider than " + std::to_string(kWidest));
  }
  return value;
}

// ---- "%s" % value ----

class Percent {
 public:
  Percent(Interpreter& in, std::string_view format, const Value& arguments)
      : in_(in), format_(format), arguments_(arguments) {
    tuple_ = arguments.is_list(ListKind::tuple) || arguments.is_list(ListKind::group);
  }

  std::string run() {
    std::string out;
    while (at_ < format_.size()) {
      const size_t mark = std::min(format_.find('%', at_), format_.size());
      out += format_.substr(at_, mark - at_);
      at_ = mark + 1;
      if (mark < format_.size()) out += item();
      if (out.size() > in_.meter().limits().bytes) in_.refuse("a text of that size");
    }
    // A mapping may be left over, and so may what looks like one to Python: lists and undefined values.
    const bool left = tuple_ ? next_ < arguments_.list().items.size() : next_ == 0 && !by_name_;
    if (left && (tuple_ || !(arguments_.is(Type::dict) || arguments_.is(Type::list) || arguments_.is_undefined())))
      in_.fail("not all arguments converted during string formatting");
    return out;
  }

 private:
  Value take() {
    if (tuple_) {
      if (next_ >= arguments_.list().items.size()) in_.fail("not enough arguments for format string");
      return arguments_.list().items[next_++];
    }
    if (next_++ > 0) in_.fail("not enough arguments for format string");
    return arguments_;
  }

  std::string item() {
    const auto current = [&] {
      if (at_ >= format_.size()) in_.fail("incomplete format");
      return format_[at_];
    };
    std::optional<Value> chosen;
    if (current() == '(') {
      int open = 1;
      const size_t start = ++at_;
      for (; open > 0; ++at_) open += current() == '(' ? 1 : current() == ')' ? -1 : 0;
      const std::string name(format_.substr(start, at_ - 1 - start));
      if (!arguments_.is(Type::dict)) in_.fail("format requires a mapping");
      const Value* found = arguments_.dict().find(name);
      if (!found) in_.fail("KeyError: '" + name + "'");
      chosen = *found;
      by_name_ = true;
    }
    Layout layout;
    for (;; ++at_) {
      const char flag = current();
      if (flag == '-')
        layout.align = '<';
      else if (flag == '+' || (flag == ' ' && layout.sign != '+'))
        layout.sign = flag;
      else if (flag == '#')
        layout.alternate = true;
      else if (flag == '0')
        layout.zero = true;
      else if (flag != ' ')
        break;
    }
    if (current() == '*') in_.refuse("a format with '*'");
    layout.width = read_number(in_, format_, at_);
    if (current() == '.') {
      ++at_;
      if (current() == '*') in_.refuse("a format with '*'");
      layout.precision = read_number(in_, format_, at_);
    }
    while (current() == 'h' || current() == 'l' || current() == 'L') ++at_;
    const char type = format_[at_++];
    if (type == '%') return "%";
    const Value value = chosen ? *chosen : take();
    switch (type) {
      case 's':
      case 'r':
        return padded(first_points(type == 's' ? in_.str(value) : in_.repr(value), layout.precision), layout, '>');
      case 'd':
      case 'i':
      case 'u':
      case 'x':
      case 'X':
      case 'o':
        return whole(value, type, layout);
      case 'f':
      case 'F':
      case 'e':
      case 'E':
      case 'g':
      case 'G':
        if (value.is_undefined()) in_.fail(value.why());
        if (!value.is_number()) in_.fail(std::string("must be real number, not ") + value.type_name());
        return real_format(in_, value.real(), type, layout);
      case 'c':
        if (value.is_text() && count_points(value.bytes()) == 1) return padded(value.bytes(), layout, '>');
        in_.refuse("a format of this value by '%c'");
      default:
        in_.fail(std::string("unsupported format character '") + type + "'");
    }
  }

  std::string whole(const Value& value, char type, const Layout& layout) {
    if (value.is_undefined()) in_.fail(value.why());
    const bool decimal = type == 'd' || type == 'i' || type == 'u';
    if (!value.is_whole() && !(decimal && value.is(Type::real)))
      in_.fail(std::string("%") + type + " format: a number is required, not " + value.type_name());
    if (layout.precision >= 0) in_.refuse("a format of an integer with a precision");
    if (value.is(Type::real) && !(std::abs(value.real()) < 9.2e18)) in_.refuse("an integer of more than 64 bits");
    return whole_text(in_, value.is_whole() ? value.whole() : static_cast<int64_t>(value.real()), decimal ? 'd' : type,
                      layout);
  }

  Interpreter& in_;
  std::string_view format_;
  const Value& arguments_;
  bool tuple_, by_name_ = false;
  size_t at_ = 0, next_ = 0;
};

// ---- "{}".format(value) ----

class Brace {
 public:
  Brace(Interpreter& in, std::string_view format, const Call& call) : in_(in), format_(format), call_(call) {}

  std::string run() {
    std::string out;
    for (size_t at = 0; at < format_.size();) {
      const char c = format_[at];
      if (c != '{' && c != '}') {
        out.push_back(c);
        ++at;
      } else if (at + 1 < format_.size() && format_[at + 1] == c) {
        out.push_back(c);
        at += 2;
      } else if (c == '}') {
        in_.fail("Single '}' encountered in format string");
      } else {
        const size_t end = format_.find('}', at);
        if (end == std::string_view::npos) in_.fail("expected '}' before end of string");
        const std::string_view field = format_.substr(at + 1, end - at - 1);
        if (field.find('{') != std::string_view::npos) in_.refuse("a format inside of a format");
        out += replaced(field);
        at = end + 1;
      }
      if (out.size() > in_.meter().limits().bytes) in_.refuse("a text of that size");
    }
    return out;
  }

 private:
  std::string replaced(std::string_view field) {
    const size_t colon = field.find(':');
    std::string_view name = field.substr(0, colon);
    const std::string_view spec = colon == std::string_view::npos ? std::string_view() : field.substr(colon + 1);
    char conversion = 0;
    if (const size_t mark = name.find('!'); mark != std::string_view::npos) {
      if (mark + 2 != name.size()) in_.fail("a format's conversion is one letter");
      conversion = name[mark + 1];
      name = name.substr(0, mark);
    }
    Value value = chosen(name);
    if (conversion == 's' || conversion == 'r')
      value = in_.text(conversion == 's' ? in_.str(value) : in_.repr(value));
    else if (conversion)
      in_.refuse(std::string("a format's conversion '") + conversion + "'");
    return laid_out(value, spec);
  }

  // "0", "name", "" for the next one; then .attribute and [item].
  Value chosen(std::string_view path) {
    const size_t end = std::min(path.find_first_of(".["), path.size());
    const std::string first(path.substr(0, end));
    Value value;
    const bool number =
        !first.empty() && std::all_of(first.begin(), first.end(), [](char c) { return c >= '0' && c <= '9'; });
    if (first.empty() || number) {
      if (number ? next_ > 0 : numbered_) in_.fail("cannot switch between automatic and manual field numbering");
      size_t at = 0, read = 0;
      if (number)
        numbered_ = true, at = static_cast<size_t>(read_number(in_, first, read));
      else
        at = next_++;
      if (at >= call_.positional.size()) in_.fail("a format wants more arguments than there are");
      value = call_.positional[at];
    } else {
      const auto found =
          std::find_if(call_.named.begin(), call_.named.end(), [&](const auto& entry) { return entry.first == first; });
      if (found == call_.named.end()) in_.fail("KeyError: '" + first + "'");
      value = found->second;
    }
    for (std::string_view rest = path.substr(end); !rest.empty();) {
      const bool attribute = rest[0] == '.';
      const size_t stop = attribute ? std::min(rest.find_first_of(".[", 1), rest.size()) : rest.find(']');
      if (stop == std::string_view::npos || stop == 1) in_.fail("a format's field is not complete");
      const std::string name(rest.substr(1, stop - 1));
      if (attribute) {
        value = in_.attribute(value, name);
      } else {
        size_t read = 0;
        const bool index = name.find_first_not_of("0123456789") == std::string::npos;
        value = in_.item(value, index ? Value(read_number(in_, name, read)) : in_.text(name));
      }
      rest.remove_prefix(attribute ? stop : stop + 1);
      if (!rest.empty() && rest[0] != '.' && rest[0] != '[') in_.fail("Only '.' or '[' may follow ']' in format field");
    }
    return value;
  }

  std::string laid_out(const Value& value, std::string_view spec) {
    if (spec.empty()) return in_.str(value);
    if (value.is_undefined()) in_.fail("unsupported format string passed to Undefined.__format__");
    Layout layout;
    size_t at = 0;
    const size_t first = offset_of_point(spec, 1);
    constexpr std::string_view kAligns = "<>=^";
    if (first < spec.size() && kAligns.find(spec[first]) != std::string_view::npos) {
      layout.fill = spec.substr(0, first);
      layout.align = spec[first];
      at = first + 1;
    } else if (kAligns.find(spec[0]) != std::string_view::npos) {
      layout.align = spec[0];
      at = 1;
    }
    const auto is = [&](char c) { return at < spec.size() && spec[at] == c; };
    if (is('+') || is('-') || is(' ')) layout.sign = spec[at++];
    if (is('#')) layout.alternate = true, ++at;
    if (is('0')) layout.zero = true, ++at;
    layout.width = read_number(in_, spec, at);
    if (is(',') || is('_')) layout.grouping = spec[at++];
    if (is('.')) {
      ++at;
      layout.precision = read_number(in_, spec, at);
    }
    const char type = at < spec.size() ? spec[at++] : 0;
    if (at != spec.size()) in_.fail("Invalid format specifier '" + std::string(spec) + "'");
    if (layout.grouping && layout.zero) in_.refuse("a format with grouped digits after zeros");
    const auto among = [&](std::string_view types) { return type && types.find(type) != std::string_view::npos; };
    if (value.is_text() && (type == 0 || type == 's')) {
      if (layout.sign != '-' || layout.grouping || layout.alternate || layout.align == '=')
        in_.fail("a format of a number for a string");
      if (layout.zero && !layout.align) layout.fill = "0";
      return padded(first_points(value.bytes(), layout.precision), layout, '<');
    }
    if (value.is_whole() && (among("dxXob") || (type == 0 && value.is(Type::integer)))) {
      if (layout.precision >= 0) in_.fail("Precision not allowed in integer format specifier");
      return whole_text(in_, value.whole(), type ? type : 'd', layout);
    }
    if (value.is_number() && among("fFeEgG%")) return real_format(in_, value.real(), type, layout);
    in_.refuse("the format '" + std::string(spec) + "' of a value of type " + value.type_name());
  }

  Interpreter& in_;
  std::string_view format_;
  const Call& call_;
  size_t next_ = 0;
  bool numbered_ = false;
};

}  // namespace

std::string percent_format(Interpreter& in, const std::string& format, const Value& arguments) {
  in.meter().touch(format.size());
  return Percent(in, format, arguments).run();
}

std::string brace_format(Interpreter& in, const std::string& format, const Call& call) {
  return Brace(in, format, call).run();
}

}  // namespace whit::jinja
