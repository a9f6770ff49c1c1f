#include "data/pre_tokenizers/properties.h"

#include <algorithm>

namespace whit {
namespace {

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
    {"word", kOnigurumaWord},
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

}  // namespace

std::string property_class(std::string_view name) {
  for (const Named& row : kProperties)
    if (name == row.name) return std::string(row.text);
  for (const std::string_view category : kCategories)
    if (name == category) {
      std::string text = "\\p{" + std::string(name) + "}";
      text[3] = static_cast<char>(text[3] - 32);
      return text;
    }
  if (name.empty() || !std::all_of(name.begin(), name.end(), [](char c) { return c >= 'a' && c <= 'z'; })) return {};
  return "\\p{sc:" + std::string(name) + "}";
}

std::string posix_class(std::string_view name) {
  for (const Named& row : kPosix)
    if (name == row.name) return std::string(row.text);
  for (const std::string_view known : kPosixAsProperty)
    if (name == known) return property_class(name);
  return {};
}

}  // namespace whit
