#include "data/jinja/lexer.h"

#include <algorithm>
#include <charconv>

#include "base/error.h"
#include "data/jinja/characters.h"
#include "data/jinja/meter.h"
#include "data/unicode.h"

namespace whit::jinja {
namespace {

constexpr auto npos = std::string_view::npos;

[[noreturn]] void no_template(int line, const std::string& what) {
  throw Error(ErrorKind::input, "the chat template cannot be read", template_line(line), what);
}

bool digit(char c) { return c >= '0' && c <= '9'; }

// Line ends become \n, and one at the very end goes.
std::string with_plain_lines(std::string_view source) {
  std::string out;
  out.reserve(source.size());
  for (size_t i = 0; i < source.size(); ++i) {
    if (source[i] == '\r') {
      out.push_back('\n');
      if (i + 1 < source.size() && source[i + 1] == '\n') ++i;
    } else {
      out.push_back(source[i]);
    }
  }
  if (!out.empty() && out.back() == '\n') out.pop_back();
  return out;
}

class Lexer {
 public:
  explicit Lexer(std::string_view source) : source_(with_plain_lines(source)), text_(source_) {}

  std::vector<Token> run() {
    if (const size_t at = find_invalid_utf8(text_); at != npos) {
      line_ += static_cast<int>(std::count(text_.begin(), text_.begin() + static_cast<ptrdiff_t>(at), '\n'));
      no_template(line_, "bytes that are no UTF-8");
    }
    while (at_ < text_.size()) read_data();
    add(TokenKind::end, {});
    return std::move(tokens_);
  }

 private:
  void add(TokenKind kind, std::string text) { tokens_.push_back({kind, line_, std::move(text), 0, 0}); }
  std::string_view rest() const { return text_.substr(at_); }
  bool at(std::string_view mark) const { return rest().starts_with(mark); }
  void advance(size_t count) {
    line_ += static_cast<int>(std::count(text_.begin() + static_cast<ptrdiff_t>(at_),
                                         text_.begin() + static_cast<ptrdiff_t>(at_ + count), '\n'));
    at_ += count;
    if (count) line_starts_ = text_[at_ - 1] == '\n';
  }
  size_t spaces(size_t from) const {  // their bytes
    size_t end = from;
    while (end < text_.size()) {
      const CodePoint point = next_code_point(text_.substr(end));
      if (!is_python_space(point.value)) break;
      end += point.length;
    }
    return end - from;
  }

  // Text up to the next tag, and what the tag opens.
  void read_data() {
    size_t open = at_;
    for (;; ++open) {
      open = text_.find('{', open);
      if (open == npos || open + 1 >= text_.size()) {
        open = npos;
        break;
      }
      const char second = text_[open + 1];
      if (second == '%' || second == '{' || second == '#') break;
    }
    if (open == npos) {
      const std::string data(rest());
      add(TokenKind::data, data);
      advance(rest().size());
      return;
    }
    const char kind = text_[open + 1];
    size_t after = open + 2;
    char sign = 0;
    if (after < text_.size() && (text_[after] == '-' || text_[after] == '+')) sign = text_[after++];
    const size_t raw = kind == '%' ? raw_end(after) : 0;
    put_data(text_.substr(at_, open - at_), sign, kind == '{');
    advance(open - at_);
    if (raw) {
      advance(raw - at_);
      return read_raw();
    }
    if (kind != '#') add(kind == '%' ? TokenKind::block_begin : TokenKind::variable_begin, {});
    advance(after - at_);
    if (kind == '#')
      read_comment();
    else
      read_code(kind == '%');
  }

  // Where `{% raw %}` ends whose opening bracket and sign end at `after`; 0: it is another tag.
  size_t raw_end(size_t after) const {
    size_t end = after + spaces(after);
    if (!text_.substr(end).starts_with("raw")) return 0;
    end += 3;
    end += spaces(end);
    if (text_.substr(end).starts_with("%}")) return end + 2;
    if (text_.substr(end).starts_with("-%}")) return end + 3 + spaces(end + 3);
    return 0;
  }

  void put_data(std::string_view data, char sign, bool variable) {
    if (sign == '-') {
      data = stripped(data, false, true);
    } else if (sign != '+' && !variable) {
      const size_t line = data.rfind('\n') == npos ? 0 : data.rfind('\n') + 1;
      if (line > 0 || line_starts_)
        if (stripped(data.substr(line), true, false).empty()) data = data.substr(0, line);
    }
    if (!data.empty()) add(TokenKind::data, std::string(data));
  }

  void read_raw() {
    for (size_t open = text_.find("{%", at_); open != npos; open = text_.find("{%", open + 1)) {
      size_t end = open + 2;
      char sign = 0;
      if (end < text_.size() && (text_[end] == '-' || text_[end] == '+')) sign = text_[end++];
      end += spaces(end);
      if (!text_.substr(end).starts_with("endraw")) continue;
      end += 6;
      end += spaces(end);
      const size_t close = tag_end(end, true);
      if (!close) continue;
      put_data(text_.substr(at_, open - at_), sign, false);
      advance(close - at_);
      return;
    }
    no_template(line_, "Missing end of raw directive");
  }

  void read_comment() {
    const size_t end = text_.find("#}", at_);
    if (end == npos) no_template(line_, "Missing end of comment tag");
    const char before = end > at_ ? text_[end - 1] : '\0';
    size_t after = end + 2;
    if (before == '-')
      after += spaces(after);
    else if (before != '+' && after < text_.size() && text_[after] == '\n')
      ++after;
    advance(after - at_);
  }

  // Where the tag that closes at `from` ends, with the white space that goes with it; 0: none closes there.
  size_t tag_end(size_t from, bool block) const {
    const std::string_view close = block ? "%}" : "}}", text = text_.substr(from);
    if (text.starts_with(std::string("-") += close)) return from + 3 + spaces(from + 3);
    if (block && text.starts_with("+%}")) return from + 3;
    if (!text.starts_with(close)) return 0;
    return from + 2 + (block && text.substr(2).starts_with("\n") ? 1 : 0);
  }

  void read_code(bool block) {
    std::string open;  // brackets
    for (;;) {
      if (at_ >= text_.size()) return;
      if (open.empty())
        if (const size_t end = tag_end(at_, block)) {
          add(block ? TokenKind::block_end : TokenKind::variable_end, {});
          return advance(end - at_);
        }
      if (const size_t blank = spaces(at_)) {
        advance(blank);
        continue;
      }
      if (!read_number() && !read_name() && !read_text()) read_operator(open);
    }
  }

  // The end of digits that may have single underscores between them; `from` where there is none.
  template <class Digit>
  size_t digits_end(size_t from, Digit is_digit) const {
    size_t end = from;
    while (end < text_.size()) {
      if (is_digit(text_[end]))
        ++end;
      else if (text_[end] == '_' && end > from && end + 1 < text_.size() && is_digit(text_[end + 1]))
        end += 2;
      else
        break;
    }
    return end;
  }

  bool read_number() {
    if (!digit(text_[at_])) return false;
    const size_t whole = digits_end(at_, digit);
    size_t end = whole;
    const auto exponent = [&](size_t from) {
      if (from >= text_.size() || (text_[from] | 0x20) != 'e') return from;
      size_t start = from + 1;
      if (start < text_.size() && (text_[start] == '+' || text_[start] == '-')) ++start;
      const size_t stop = digits_end(start, digit);
      return stop == start ? from : stop;
    };
    if (end + 1 < text_.size() && text_[end] == '.' && digit(text_[end + 1])) end = digits_end(end + 1, digit);
    end = exponent(end);
    // Not after a point: `a.0.1` has two integers.
    if (end > whole && !(at_ > 0 && text_[at_ - 1] == '.')) {
      const std::string plain = without_underscores(at_, end);
      Token token{TokenKind::real, line_, plain, 0, 0};
      if (std::from_chars(plain.data(), plain.data() + plain.size(), token.real).ec != std::errc())
        no_template(line_, "the number " + plain);
      tokens_.push_back(token);
      advance(end - at_);
      return true;
    }
    int base = 10;
    size_t start = at_;
    end = whole;
    if (text_[at_] == '0') {
      const char letter = at_ + 1 < text_.size() ? static_cast<char>(text_[at_ + 1] | 0x20) : '\0';
      const int other = letter == 'b' ? 2 : letter == 'o' ? 8 : letter == 'x' ? 16 : 0;
      const auto in_base = [&](char c) {
        const char low = static_cast<char>(c | 0x20);
        const int value = digit(c) ? c - '0' : low >= 'a' && low <= 'f' ? low - 'a' + 10 : 99;
        return value < (other ? other : 1);  // a decimal that begins with 0 is zeros alone
      };
      end = other ? digits_end(at_ + 2, in_base) : digits_end(at_, in_base);
      if (other && end > at_ + 2)
        base = other, start = at_ + 2;
      else if (other)
        end = at_ + 1;
    }
    const std::string plain = without_underscores(start, end);
    Token token{TokenKind::integer, line_, plain, 0, 0};
    if (std::from_chars(plain.data(), plain.data() + plain.size(), token.integer, base).ec != std::errc())
      refuse(line_, "an integer of more than 64 bits");
    tokens_.push_back(token);
    advance(end - at_);
    return true;
  }

  std::string without_underscores(size_t from, size_t to) const {
    std::string plain(text_.substr(from, to - from));
    std::erase(plain, '_');
    return plain;
  }

  bool read_name() {
    size_t end = at_;
    while (end < text_.size()) {
      const CodePoint point = next_code_point(text_.substr(end));
      if (!(character_class(point.value) & kWord)) break;
      end += point.length;
    }
    if (end == at_) return false;
    add(TokenKind::name, std::string(text_.substr(at_, end - at_)));
    advance(end - at_);
    return true;
  }

  bool read_text() {
    const char quote = text_[at_];
    if (quote != '\'' && quote != '"') return false;
    size_t end = at_ + 1;
    while (end < text_.size() && text_[end] != quote) end += text_[end] == '\\' ? 2 : 1;
    if (end >= text_.size()) return false;
    add(TokenKind::text, unescaped(text_.substr(at_ + 1, end - at_ - 1)));
    advance(end + 1 - at_);
    return true;
  }

  std::string unescaped(std::string_view raw) const {
    std::string out;
    for (size_t i = 0; i < raw.size(); ++i) {
      if (raw[i] != '\\') {
        out.push_back(raw[i]);
        continue;
      }
      const char c = raw[++i];
      constexpr std::string_view kPlain = "\\'\"abfnrtv", kMeant = "\\'\"\a\b\f\n\r\t\v";
      if (const size_t known = kPlain.find(c); known != npos) {
        out.push_back(kMeant[known]);
      } else if (c == '\n') {
        continue;
      } else if (c >= '0' && c < '8') {
        const size_t length = std::min<size_t>(3, raw.find_first_not_of("01234567", i) - i);
        put_number(raw.substr(i, length), 8, out);
        i += std::min(length, raw.size() - i) - 1;
      } else if (c == 'x' || c == 'u' || c == 'U') {
        const size_t length = c == 'x' ? 2 : c == 'u' ? 4 : 8;
        const std::string_view hex = raw.substr(i + 1, length);
        if (hex.size() < length || hex.find_first_not_of("0123456789abcdefABCDEF") != npos)
          no_template(line_, "a truncated escape in a string");
        put_number(hex, 16, out);
        i += length;
      } else if (c == 'N') {
        refuse(line_, "an escape by a character's name in a string");
      } else {
        out.push_back('\\');
        out.push_back(c);
      }
    }
    return out;
  }

  void put_number(std::string_view digits, int base, std::string& out) const {
    uint32_t value = 0;
    std::from_chars(digits.data(), digits.data() + digits.size(), value, base);
    if (value > 0x10ffff) no_template(line_, "a character beyond Unicode in a string");
    if (value >= 0xd800 && value < 0xe000) refuse(line_, "half of a surrogate pair in a string");
    append_utf8(out, value);
  }

  void read_operator(std::string& open) {
    static constexpr std::string_view kOperators[] = {"//", "**", "==", "!=", ">=", "<=", "+", "-", "/",
                                                      "*",  "%",  "~",  "[",  "]",  "(",  ")", "{", "}",
                                                      ">",  "<",  "=",  ".",  ":",  "|",  ",", ";"};
    const auto* found =
        std::find_if(std::begin(kOperators), std::end(kOperators), [&](std::string_view op) { return at(op); });
    if (found == std::end(kOperators)) {
      const size_t length = next_code_point(rest()).length;
      no_template(line_, "unexpected char '" + std::string(rest().substr(0, length)) + "'");
    }
    const char c = (*found)[0];
    if (c == '(' || c == '[' || c == '{') open.push_back(c == '(' ? ')' : c == '[' ? ']' : '}');
    if (c == ')' || c == ']' || c == '}') {
      if (open.empty()) no_template(line_, std::string("unexpected '") + c + "'");
      if (open.back() != c) no_template(line_, std::string("unexpected '") + c + "', expected '" + open.back() + "'");
      open.pop_back();
    }
    add(TokenKind::op, std::string(*found));
    advance(found->size());
  }

  std::string source_;
  std::string_view text_;
  size_t at_ = 0;
  int line_ = 1;
  bool line_starts_ = true;
  std::vector<Token> tokens_;
};

}  // namespace

std::vector<Token> tokenize(std::string_view source) { return Lexer(source).run(); }

std::string describe(const Token& token) {
  switch (token.kind) {
    case TokenKind::name:
    case TokenKind::op:
      return token.text;
    case TokenKind::text:
      return "string";
    case TokenKind::integer:
      return "integer";
    case TokenKind::real:
      return "float";
    case TokenKind::data:
      return "template data / text";
    case TokenKind::block_begin:
      return "begin of statement block";
    case TokenKind::block_end:
      return "end of statement block";
    case TokenKind::variable_begin:
      return "begin of print statement";
    case TokenKind::variable_end:
      return "end of print statement";
    case TokenKind::end:
      return "end of template";
  }
  return "";
}

}  // namespace whit::jinja
