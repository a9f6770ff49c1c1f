// tojson, as transformers has it: Python's json.dumps.
#include <algorithm>
#include <cmath>

#include "data/jinja/interpreter.h"
#include "data/unicode.h"

namespace whit::jinja {
namespace {

class Writer {
 public:
  Writer(Interpreter& in, const JsonStyle& style) : in_(in), style_(style) {}

  void write(const Value& value, int level) {
    in_.meter().step();
    switch (value.type()) {
      case Type::none:
        out += "null";
        return;
      case Type::boolean:
        out += value.whole() ? "true" : "false";
        return;
      case Type::integer:
        out += std::to_string(value.whole());
        return;
      case Type::real:
        out += number(value.real());
        return;
      case Type::text:
        write_text(value.bytes());
        return;
      case Type::list:
        if (value.list().kind == ListKind::list || value.list().kind == ListKind::tuple ||
            value.list().kind == ListKind::group)
          return write_list(value.list(), level);
        break;
      case Type::dict:
        return write_dict(value.dict(), level);
      default:
        break;
    }
    in_.fail(std::string("Object of type ") + value.type_name() + " is not JSON serializable");
  }

  std::string out;

 private:
  static std::string number(double value) {
    if (std::isnan(value)) return "NaN";
    if (std::isinf(value)) return value > 0 ? "Infinity" : "-Infinity";
    return real_text(value);
  }

  void break_line(int level) {
    if (!style_.indented) return;
    out += "\n";
    in_.meter().touch(style_.indent.size() * static_cast<size_t>(level));
    for (int i = 0; i < level; ++i) out += style_.indent;
    if (out.size() > in_.meter().limits().bytes) in_.refuse("a text of that size");
  }

  void hex(char32_t unit) {
    out += "\\u";
    for (int shift = 12; shift >= 0; shift -= 4) out.push_back("0123456789abcdef"[(unit >> shift) & 15]);
  }

  void write_text(std::string_view text) {
    in_.meter().touch(text.size());
    out.push_back('"');
    while (!text.empty()) {
      const CodePoint point = next_code_point(text);
      const char32_t c = point.value;
      constexpr std::string_view kSpecial = "\"\\\n\r\t\f\b", kNames = "\"\\nrtfb";
      if (c < 0x80 && kSpecial.find(static_cast<char>(c)) != std::string_view::npos) {
        (out += '\\') += kNames[kSpecial.find(static_cast<char>(c))];
      } else if (c < 0x20 || (style_.ascii && c >= 0x7f && c < 0x10000 && c != 0x7f)) {
        hex(c);
      } else if (style_.ascii && c >= 0x10000) {
        hex(0xd800 + ((c - 0x10000) >> 10));
        hex(0xdc00 + ((c - 0x10000) & 0x3ff));
      } else {
        out += text.substr(0, point.length);
      }
      text.remove_prefix(point.length);
    }
    out.push_back('"');
  }

  void write_list(const List& list, int level) {
    out.push_back('[');
    for (size_t i = 0; i < list.items.size(); ++i) {
      if (i) out += style_.item_separator;
      break_line(level + 1);
      write(list.items[i], level + 1);
    }
    if (!list.items.empty()) break_line(level);
    out.push_back(']');
  }

  std::string key_text(const Value& key) const {
    switch (key.type()) {
      case Type::text:
        return key.bytes();
      case Type::none:
        return "null";
      case Type::boolean:
        return key.whole() ? "true" : "false";
      case Type::integer:
        return std::to_string(key.whole());
      case Type::real:
        return number(key.real());
      default:
        in_.fail(std::string("keys must be str, int, float, bool or None, not ") + key.type_name());
    }
  }

  void write_dict(const Dict& dict, int level) {
    std::vector<const std::pair<Value, Value>*> entries;
    for (const auto& entry : dict.entries) entries.push_back(&entry);
    if (style_.sort)
      std::stable_sort(entries.begin(), entries.end(),
                       [&](const auto* a, const auto* b) { return in_.less(a->first, b->first); });
    out.push_back('{');
    bool first = true;
    for (const auto* entry : entries) {
      if (!first) out += style_.item_separator;
      first = false;
      break_line(level + 1);
      write_text(key_text(entry->first));
      out += style_.key_separator;
      write(entry->second, level + 1);
    }
    if (!entries.empty()) break_line(level);
    out.push_back('}');
  }

  Interpreter& in_;
  const JsonStyle& style_;
};

}  // namespace

std::string to_json(Interpreter& in, const Value& value, const JsonStyle& style) {
  Writer writer(in, style);
  writer.write(value, 0);
  return std::move(writer.out);
}

}  // namespace whit::jinja
