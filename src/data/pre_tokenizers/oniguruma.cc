#include "data/pre_tokenizers/oniguruma.h"

#include <fmt/format.h>

#include <array>
#include <optional>
#include <vector>

#include "base/error.h"
#include "data/unicode.h"

namespace whit {
namespace {

constexpr char kCallout[] = "(?C)";
constexpr int kMostNesting = 50;
constexpr size_t kMostBytes = 1 << 16;

// What \w is to Oniguruma: outside of brackets its table of Latin-1 counts superscripts and fractions in.
constexpr char kPosixWord[] = "\\p{Alphabetic}\\p{M}\\p{Nd}\\p{Pc}";
constexpr char kWord[] = "\\p{Alphabetic}\\p{M}\\p{Nd}\\p{Pc}\\x{b2}\\x{b3}\\x{b9}\\x{bc}-\\x{be}";

struct Named {
  std::string_view name, text;  // text: between the brackets of a class
};
// \p{...} without case, spaces, '-' and '_'. What is in neither list is the name of a script.
constexpr Named kProperties[] = {
    {"letter", "\\p{L}"},
    {"casedletter", "\\p{L&}"},
    {"lc", "\\p{L&}"},
    {"uppercaseletter", "\\p{Lu}"},
    {"lowercaseletter", "\\p{Ll}"},
    {"titlecaseletter", "\\p{Lt}"},
    {"modifierletter", "\\p{Lm}"},
    {"otherletter", "\\p{Lo}"},
    {"mark", "\\p{M}"},
    {"nonspacingmark", "\\p{Mn}"},
    {"spacingmark", "\\p{Mc}"},
    {"enclosingmark", "\\p{Me}"},
    {"number", "\\p{N}"},
    {"decimalnumber", "\\p{Nd}"},
    {"letternumber", "\\p{Nl}"},
    {"othernumber", "\\p{No}"},
    {"punctuation", "\\p{P}"},
    {"punct", "\\p{P}"},
    {"connectorpunctuation", "\\p{Pc}"},
    {"dashpunctuation", "\\p{Pd}"},
    {"openpunctuation", "\\p{Ps}"},
    {"closepunctuation", "\\p{Pe}"},
    {"initialpunctuation", "\\p{Pi}"},
    {"finalpunctuation", "\\p{Pf}"},
    {"otherpunctuation", "\\p{Po}"},
    {"symbol", "\\p{S}"},
    {"mathsymbol", "\\p{Sm}"},
    {"currencysymbol", "\\p{Sc}"},
    {"modifiersymbol", "\\p{Sk}"},
    {"othersymbol", "\\p{So}"},
    {"separator", "\\p{Z}"},
    {"spaceseparator", "\\p{Zs}"},
    {"lineseparator", "\\p{Zl}"},
    {"paragraphseparator", "\\p{Zp}"},
    {"control", "\\p{Cc}"},
    {"cntrl", "\\p{Cc}"},
    {"format", "\\p{Cf}"},
    {"privateuse", "\\p{Co}"},
    {"unassigned", "\\p{Cn}"},
    {"any", "\\x{0}-\\x{10ffff}"},
    {"ascii", "\\x{0}-\\x{7f}"},
    {"alpha", "\\p{Alphabetic}"},
    {"alphabetic", "\\p{Alphabetic}"},
    {"alnum", "\\p{Alphabetic}\\p{Nd}"},
    {"blank", "\\p{Zs}\\t"},
    {"digit", "\\p{Nd}"},
    {"lower", "\\p{Lowercase}"},
    {"lowercase", "\\p{Lowercase}"},
    {"upper", "\\p{Uppercase}"},
    {"uppercase", "\\p{Uppercase}"},
    {"space", "\\p{White_Space}"},
    {"whitespace", "\\p{White_Space}"},
    {"word", kWord},
    {"xdigit", "0-9A-Fa-f"},
    {"emoji", "\\p{Emoji}"},
    {"emojipresentation", "\\p{Emoji_Presentation}"},
    {"emojimodifier", "\\p{Emoji_Modifier}"},
    {"extendedpictographic", "\\p{Extended_Pictographic}"},
    {"ideographic", "\\p{Ideographic}"},
};
constexpr std::string_view kCategories[] = {"l",  "lu", "ll", "lt", "lm", "lo", "m",  "mn", "mc", "me", "n",  "nd",
                                            "nl", "no", "p",  "pc", "pd", "ps", "pe", "pi", "pf", "po", "s",  "sm",
                                            "sc", "sk", "so", "z",  "zs", "zl", "zp", "c",  "cc", "cf", "co", "cn"};
// [:name:]
constexpr Named kPosix[] = {{"punct", "\\p{P}\\p{S}"}, {"word", kPosixWord}};
constexpr std::string_view kPosixAsProperty[] = {"alpha", "alnum", "ascii", "blank", "cntrl",
                                                 "digit", "lower", "space", "upper", "xdigit"};

// Characters that are, without case, also one character beyond ASCII: a ligature or a sharp s.
constexpr std::string_view kFoldedPairs[] = {"ss", "ff", "fi", "fl", "st"};

// Options in force.
struct Options {
  bool no_case = false;  // i
  bool dot_all = false;  // m
};

// A set of characters: `flat` between brackets, and expressions that match one character each.
struct CharacterSet {
  std::string flat;
  std::vector<std::string> others;

  void add(std::string_view text, bool negated) {
    if (negated)
      others.push_back(fmt::format("[^{}]", text));
    else
      flat += text;
  }
  // Matches one character.
  std::string expression(bool negated) const {
    if (others.empty()) return fmt::format("[{}{}]", negated ? "^" : "", flat);
    std::string any = flat.empty() ? std::string() : fmt::format("[{}]", flat);
    for (const std::string& other : others) any += (any.empty() ? "" : "|") + other;
    return negated ? fmt::format("(?:(?!{})\\p{{Any}})", any) : fmt::format("(?:{})", any);
  }
};

class Translator {
 public:
  explicit Translator(std::string_view pattern) : pattern_(pattern) {}

  std::string translate() {
    if (pattern_.size() > kMostBytes) refuse("a pattern this long");
    if (find_invalid_utf8(pattern_) != std::string_view::npos) refuse("bytes that are no UTF-8");
    std::string out = alternatives({}, true);
    if (at_ < pattern_.size()) refuse("a closing parenthesis without an opening one");
    return out;
  }

 private:
  [[noreturn]] void refuse(const std::string& what) const {
    constexpr size_t kMostShown = 400;
    throw Error(ErrorKind::input, "the tokenizer's pattern has something that is not read: " + what,
                fmt::format("at byte {} of the pattern", at_), std::string(pattern_.substr(0, kMostShown)));
  }

  bool done() const { return at_ >= pattern_.size(); }
  bool sees(std::string_view text) const { return pattern_.substr(at_, text.size()) == text; }
  bool take(std::string_view text) {
    if (!sees(text)) return false;
    at_ += text.size();
    return true;
  }
  char32_t next() {
    if (done()) refuse("an end where more must follow");
    const CodePoint point = next_code_point(pattern_.substr(at_));
    at_ += point.length;
    return point.value;
  }

  static bool is_alphanumeric(char32_t c) {
    return (c >= '0' && c <= '9') || (c >= 'A' && c <= 'Z') || (c >= 'a' && c <= 'z');
  }
  // The same inside and outside of brackets.
  static std::string literal(char32_t c) {
    if (c < 0x20 || c == 0x7f) return fmt::format("\\x{{{:x}}}", static_cast<unsigned>(c));
    std::string out;
    if (c < 0x80 && !is_alphanumeric(c)) out = "\\";
    append_utf8(out, c);
    return out;
  }

  void check_case(char32_t c, Options options) const {
    if (options.no_case && c >= 0x80) refuse("a character beyond ASCII where case is ignored");
  }

  // Up to the closing parenthesis of the group, or the end.
  std::string alternatives(Options options, bool counted) {
    if (++depth_ > kMostNesting) refuse("groups this deep");
    std::string out = counted ? kCallout : "";
    bool repeatable = false;   // the atom before can be repeated
    size_t atom = out.size();  // where it begins
    char32_t before = 0;       // the literal before, for pairs that fold to one character
    while (!done() && !sees(")")) {
      if (take("|")) {
        out += "|";
        if (counted) out += kCallout;
        repeatable = false, before = 0;
      } else if (sees("*") || sees("+") || sees("?") || is_interval()) {
        if (!repeatable) refuse("a repetition of nothing");
        repeat(out, atom, counted);
        before = 0;
      } else if (const std::optional<Options> changed = bare_options(options)) {
        // They hold up to the end of the group, alternatives and all.
        out += group_of(*changed) + alternatives(*changed, counted) + ")";
        break;
      } else {
        atom = out.size();
        char32_t c = 0;
        repeatable = add_atom(out, c, options, counted);
        if (options.no_case && c != 0 && before != 0) {
          const auto lower = [](char32_t value) { return static_cast<char>(value < 0x80 ? value | 0x20 : 0); };
          const std::string pair = {lower(before), lower(c)};
          for (const std::string_view folded : kFoldedPairs)
            if (pair == folded) refuse("'" + pair + "' where case is ignored");
        }
        before = c;
      }
    }
    --depth_;
    return out;
  }

  static std::string group_of(Options options) { return options.no_case ? "(?i:" : "(?-i:"; }

  // "(?i)" and its like, or the comment "(?#...)"; nothing is taken where it is something else.
  std::optional<Options> bare_options(Options options) {
    const size_t start = at_;
    if (take("(?")) {
      if (const std::optional<Options> changed = option_letters(options); changed && take(")")) return changed;
    }
    at_ = start;
    return std::nullopt;
  }

  std::optional<Options> option_letters(Options options) {
    bool on = true, any = false;
    for (;; ++at_) {
      if (sees("i"))
        options.no_case = on, any = true;
      else if (sees("m"))
        options.dot_all = on, any = true;
      else if (sees("x"))
        refuse("free spacing (?x)");
      else if (sees("-") && on)
        on = false;
      else
        break;
    }
    return any ? std::optional(options) : std::nullopt;
  }

  // One thing that is no repetition; false where it cannot be repeated. `c` is set where it is a character.
  bool add_atom(std::string& out, char32_t& c, Options options, bool counted) {
    if (sees("(")) return add_group(out, options, counted);
    if (sees("[")) {
      ++at_;
      out += character_class(options);
      return true;
    }
    if (take(".")) {
      out += options.dot_all ? "\\p{Any}" : "[^\\n]";
      return true;
    }
    if (take("^")) return out += "^", false;
    if (take("$")) return out += "$", false;
    if (sees("\\")) return add_escape(out, c, options);
    c = next();
    check_case(c, options);
    out += literal(c);
    return true;
  }

  bool add_group(std::string& out, Options options, bool counted) {
    if (take("(?#")) {
      while (!done() && !sees(")")) next();
      if (!take(")")) refuse("a comment without an end");
      return false;
    }
    bool repeatable = true;
    std::string open = "(?:";
    if (take("(?:") || take("(?>")) {
      if (pattern_[at_ - 1] == '>') open = "(?>";
    } else if (take("(?=") || take("(?!")) {
      open = pattern_.substr(at_ - 3, 3);
      repeatable = false;
    } else if (take("(?<=") || take("(?<!")) {
      open = pattern_.substr(at_ - 4, 4);
      repeatable = counted = false;  // of bounded length
    } else if (take("(?<")) {        // a name, which nothing can ask for
      while (!done() && !sees(">")) next();
      if (!take(">")) refuse("a group's name without an end");
    } else if (sees("(*")) {
      refuse("a call (*...)");
    } else if (take("(?")) {
      const std::optional<Options> changed = option_letters(options);
      if (!changed || !take(":")) refuse("a group of an unknown kind");
      options = *changed;
      open = group_of(options);
    } else {
      ++at_;
    }
    out += open + alternatives(options, counted) + ")";
    if (!take(")")) refuse("an opening parenthesis without a closing one");
    return repeatable;
  }

  bool add_escape(std::string& out, char32_t& c, Options options) {
    CharacterSet set;
    if (add_set_escape(set, options, false)) {
      out += set.expression(false);
      return true;
    }
    const char letter = at_ + 1 < pattern_.size() ? pattern_[at_ + 1] : '\0';
    if (letter == 'b' || letter == 'B') {
      at_ += 2;
      const bool edge = letter == 'b';
      out += fmt::format("(?:(?<=[{0}])(?{1}[{0}])|(?<![{0}])(?{2}[{0}]))", kWord, edge ? "!" : "=", edge ? "=" : "!");
      return false;
    }
    if (letter == 'A' || letter == 'z' || letter == 'Z') {
      at_ += 2;
      out += {'\\', letter};
      return false;
    }
    if (letter == 'R') {
      at_ += 2;
      out += "(?>\\x{d}\\x{a}|[\\x{a}-\\x{d}\\x{85}\\x{2028}\\x{2029}])";
      return true;
    }
    if (letter == 'N' || letter == 'O') {
      at_ += 2;
      out += letter == 'N' ? "[^\\n]" : "\\p{Any}";
      return true;
    }
    c = escaped_character(false);
    check_case(c, options);
    out += literal(c);
    return true;
  }

  // \d \D \s \S \w \W \h \H \p{...} \P{...}, in and outside of brackets; nothing is taken where it is another escape.
  bool add_set_escape(CharacterSet& set, Options options, bool in_class) {
    constexpr Named kEscapes[] = {{"d", "\\p{Nd}"}, {"s", "\\p{White_Space}"}, {"w", kWord}, {"h", "0-9A-Fa-f"}};
    const char letter = at_ + 1 < pattern_.size() ? pattern_[at_ + 1] : '\0';
    for (const Named& row : kEscapes) {
      const bool negated = letter == row.name[0] - 32;
      if (letter != row.name[0] && !negated) continue;
      at_ += 2;
      set.add(in_class && row.text == kWord ? kPosixWord : row.text, negated);
      return true;
    }
    if (letter != 'p' && letter != 'P') return false;
    if (options.no_case) refuse("\\p where case is ignored");
    at_ += 2;
    bool negated = letter == 'P';
    std::string name;
    if (take("{")) {
      if (take("^")) negated = !negated;
      while (!done() && !sees("}")) {
        const char32_t c = next();
        if (c >= 0x80) refuse("a property of this name");
        if (c != ' ' && c != '-' && c != '_') name.push_back(static_cast<char>(c >= 'A' && c <= 'Z' ? c + 32 : c));
      }
      if (!take("}")) refuse("a property's name without an end");
    } else {
      refuse("a property without braces");
    }
    set.add(property(name), negated);
    return true;
  }

  std::string property(const std::string& name) const {
    for (const Named& row : kProperties)
      if (name == row.name) return std::string(row.text);
    for (const std::string_view category : kCategories)
      if (name == category) {
        std::string text = "\\p{" + name + "}";
        text[3] = static_cast<char>(text[3] - 32);
        return text;
      }
    for (const char c : name)
      if (c < 'a' || c > 'z') refuse("a property of this name");
    return "\\p{sc:" + name + "}";  // PCRE2 knows which scripts there are
  }

  // A character that is written with a backslash.
  char32_t escaped_character(bool in_class) {
    take("\\");
    const char32_t c = next();
    constexpr std::pair<char, char> kControls[] = {{'t', '\t'}, {'n', '\n'}, {'r', '\r'},  {'f', '\f'},
                                                   {'v', '\v'}, {'a', '\a'}, {'e', '\x1b'}};
    for (const auto& [name, value] : kControls)
      if (c == static_cast<char32_t>(name)) return static_cast<char32_t>(value);
    if (c == 'b' && in_class) return '\b';
    if (c == 'x' || c == 'u') return hexadecimal(c == 'u');
    if (is_alphanumeric(c)) refuse(fmt::format("\\{}", static_cast<char>(c)));
    return c;
  }

  char32_t hexadecimal(bool four) {
    const bool braces = !four && take("{");
    const size_t most = braces ? 8 : four ? 4 : 2;
    char32_t value = 0;
    size_t digits = 0;
    while (digits < most && !done()) {
      const char c = pattern_[at_];
      const int digit = c >= '0' && c <= '9'   ? c - '0'
                        : c >= 'a' && c <= 'f' ? c - 'a' + 10
                        : c >= 'A' && c <= 'F' ? c - 'A' + 10
                                               : -1;
      if (digit < 0) break;
      value = value * 16 + static_cast<char32_t>(digit);
      ++at_, ++digits;
    }
    const bool ends = braces ? take("}") : true;
    if (digits == 0 || (four && digits < 4) || !ends || value > 0x10ffff || (value >= 0xd800 && value < 0xe000) ||
        (!braces && !four && value >= 0x80))
      refuse("a character by such a number");
    return value;
  }

  // Behind its opening bracket.
  std::string character_class(Options options) {
    if (++depth_ > kMostNesting) refuse("classes this deep");
    const bool negated = take("^");
    CharacterSet set;
    std::string others_and;  // (?=[...]) of the sets that && joins to the last one
    bool first = true, after_set = false, after_range = false;
    for (;; first = false) {
      if (done()) refuse("an opening bracket without a closing one");
      if (!first && take("]")) break;
      if (take("&&")) {
        if (set.flat.empty() && set.others.empty()) refuse("&& without a class before it");
        others_and += "(?=" + set.expression(false) + ")";
        set = {};
        after_set = after_range = false;
        if (sees("]")) refuse("&& without a class after it");
        continue;
      }
      if (add_nested(set, options)) {
        after_set = true, after_range = false;
        continue;
      }
      if (sees("-") && after_set && !sees("-]")) refuse("a range that begins with a class");
      const char32_t from = sees("\\") ? escaped_character(true) : next();
      check_case(from, options);
      const bool ranges = sees("-") && !sees("-]") && !sees("-&&") && !(from == '-' && after_range);
      after_set = after_range = false;
      if (!ranges) {
        set.flat += literal(from);
        continue;
      }
      take("-");
      if (sees("[")) refuse("a range that ends in a class");
      const char32_t to = sees("\\") ? escaped_character(true) : next();
      check_case(to, options);
      if (to < from) refuse("a range that ends before it begins");
      set.flat += literal(from) + "-" + literal(to);
      after_range = true;
    }
    --depth_;
    if (others_and.empty()) return set.expression(negated);
    const std::string all = others_and + set.expression(false);
    return negated ? fmt::format("(?:(?!{})\\p{{Any}})", all) : fmt::format("(?:{})", all);
  }

  // A set inside of a class: [:alpha:], [...] or an escape.
  bool add_nested(CharacterSet& set, Options options) {
    if (take("[:")) {
      const bool negated = take("^");
      const size_t end = pattern_.find(":]", at_);
      if (end == std::string_view::npos) refuse("[: without :]");
      const std::string name(pattern_.substr(at_, end - at_));
      if (options.no_case) refuse("[:" + name + ":] where case is ignored");
      for (const Named& row : kPosix)
        if (name == row.name) return at_ = end + 2, set.add(row.text, negated), true;
      for (const std::string_view known : kPosixAsProperty)
        if (name == known) return at_ = end + 2, set.add(property(name), negated), true;
      refuse("[:" + name + ":]");
    }
    if (take("[")) {
      const std::string nested = character_class(options);
      if (nested.starts_with("[") && !nested.starts_with("[^"))
        set.flat += nested.substr(1, nested.size() - 2);
      else
        set.others.push_back(nested);
      return true;
    }
    return sees("\\") && add_set_escape(set, options, true);
  }

  struct Interval {
    uint32_t least, most;  // most: kEndless
    size_t length;
  };
  static constexpr uint32_t kEndless = ~0u;
  // {n} {n,} {,m} {n,m} at the current place. Other braces are characters.
  std::optional<Interval> interval() const {
    size_t at = at_ + 1;
    const auto number = [&]() -> std::optional<uint32_t> {
      const size_t start = at;
      uint32_t value = 0;
      for (; at < pattern_.size() && pattern_[at] >= '0' && pattern_[at] <= '9' && at - start < 6; ++at)
        value = value * 10 + static_cast<uint32_t>(pattern_[at] - '0');
      return at == start ? std::nullopt : std::optional(value);
    };
    const std::optional<uint32_t> least = number();
    std::optional<uint32_t> most = least;
    if (at < pattern_.size() && pattern_[at] == ',') {
      ++at;
      most = number();
      if (!most && !least) return std::nullopt;
      if (!most) most = kEndless;
    }
    if (!most || at >= pattern_.size() || pattern_[at] != '}') return std::nullopt;
    return Interval{least.value_or(0), *most, at + 1 - at_};
  }
  bool is_interval() const { return sees("{") && interval().has_value(); }

  // The repetitions behind the atom that begins at `atom` of `out`.
  void repeat(std::string& out, size_t atom, bool counted) {
    for (bool first = true; sees("*") || sees("+") || sees("?") || is_interval(); first = false) {
      if (!first) out = out.substr(0, atom) + "(?:" + out.substr(atom) + ")";
      bool fixed = false;
      if (sees("{")) {
        const Interval times = *interval();
        if (times.least > times.most) refuse("{n,m} with m below n");
        at_ += times.length;
        fixed = times.least == times.most;
        out += times.most == kEndless ? fmt::format("{{{},}}", times.least)
                                      : fmt::format("{{{},{}}}", times.least, times.most);
        // {n}? is an optional {n}, and {n,m}+ a repeated {n,m}.
        if (!fixed && take("?")) out += "?";
      } else {
        out.push_back(static_cast<char>(next()));
        if (sees("?") || sees("+")) out.push_back(static_cast<char>(next()));
      }
      if (counted && !fixed) out += kCallout;
    }
  }

  std::string_view pattern_;
  size_t at_ = 0;
  int depth_ = 0;
};

}  // namespace

std::string pcre2_of_oniguruma(std::string_view pattern) { return Translator(pattern).translate(); }

}  // namespace whit
