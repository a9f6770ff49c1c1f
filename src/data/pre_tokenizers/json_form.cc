#include "data/pre_tokenizers/json_form.h"

#include <fmt/format.h>

#include "base/error.h"
#include "base/names.h"
#include "data/pre_tokenizers/splitter.h"
#include "data/tokenizer_json.h"
#include "data/unicode.h"

namespace whit {
namespace {

using namespace tokenizer_json;

constexpr char kWhere[] = "tokenizer.json: pre_tokenizer";
constexpr size_t kMostSteps = 64;
constexpr int kMostNesting = 8;

constexpr std::pair<SplitBehavior, const char*> kBehaviors[] = {
    {SplitBehavior::removed, "Removed"},
    {SplitBehavior::isolated, "Isolated"},
    {SplitBehavior::merged_with_previous, "MergedWithPrevious"},
    {SplitBehavior::merged_with_next, "MergedWithNext"},
    {SplitBehavior::contiguous, "Contiguous"},
};

// The steps that have no pattern in the file, each character by itself.
constexpr char kPunctuation[] = R"([\p{P}$+<=>^`|~])";
constexpr char kSpace[] = R"(\s)";
// Words and signs; \w of Rust's regex crate, which is not Oniguruma's.
constexpr char kWords[] =
    R"([\p{Alphabetic}\p{M}\p{Nd}\p{Pc}\x{200c}\x{200d}]+|[^\p{Alphabetic}\p{M}\p{Nd}\p{Pc}\x{200c}\x{200d}\s]+)";

SplitBehavior behavior_of(const json& step, SplitBehavior fallback) {
  const json& found = member(step, "behavior");
  if (found.is_null()) return fallback;
  std::vector<std::string> known;
  for (const auto& [behavior, name] : kBehaviors) {
    if (found == name) return behavior;
    known.emplace_back(name);
  }
  refuse("a split's behavior is not a known one", kWhere, found,
         found.is_string() ? suggest_name(found.get<std::string>(), known) : std::string());
}

// A text as the pattern that matches it.
std::string literal_pattern(const std::string& text) {
  std::string pattern;
  for (std::string_view rest = text; !rest.empty();) {
    const CodePoint point = next_code_point(rest);
    pattern += fmt::format("\\x{{{:x}}}", static_cast<unsigned>(point.value));
    rest.remove_prefix(point.length);
  }
  return pattern;
}

std::string pattern_of(const json& step) {
  const json& pattern = member(step, "pattern");
  const json &regex = member(pattern, "Regex"), &text = member(pattern, "String");
  if (regex.is_string()) return regex.get<std::string>();
  if (text.is_string()) return literal_pattern(text.get<std::string>());
  refuse("a split needs a pattern", kWhere, step);
}

class Reader {
 public:
  std::vector<SplitStep> steps;
  bool letters = false;  // ByteLevel was there

  void read(const json& step, int depth) {
    if (!step.is_object()) refuse("a pre-tokenizer is wanted", kWhere, step);
    if (is_type(step, "Sequence")) {
      const json& list = member(step, "pretokenizers");
      if (!list.is_array()) refuse("a list is wanted", std::string(kWhere) + ".pretokenizers", list);
      if (depth == kMostNesting) refuse("sequences this deep are not read", kWhere, step);
      for (const json& each : list) read(each, depth + 1);
    } else if (is_type(step, "ByteLevel")) {
      if (letters) refuse("a second ByteLevel is not read", kWhere, step);
      if (boolean(step, "add_prefix_space", true, kWhere)) add({{}, SplitBehavior::isolated, false, false, true});
      if (boolean(step, "use_regex", true, kWhere)) cut(std::string(kGpt2Pattern), SplitBehavior::isolated);
      letters = true;
    } else if (is_type(step, "Split")) {
      cut(pattern_of(step), behavior_of(step, SplitBehavior::isolated), boolean(step, "invert", false, kWhere));
    } else if (is_type(step, "Digits")) {
      cut(boolean(step, "individual_digits", false, kWhere) ? R"(\p{N})" : R"(\p{N}+)", SplitBehavior::isolated);
    } else if (is_type(step, "Punctuation")) {
      cut(kPunctuation, behavior_of(step, SplitBehavior::isolated));
    } else if (is_type(step, "Whitespace")) {
      cut(kWords, SplitBehavior::removed, true);
    } else if (is_type(step, "WhitespaceSplit")) {
      cut(kSpace, SplitBehavior::removed);
    } else if (is_type(step, "BertPreTokenizer")) {
      cut(kSpace, SplitBehavior::removed);
      cut(kPunctuation, SplitBehavior::isolated);
    } else if (is_type(step, "CharDelimiterSplit")) {
      cut(literal_pattern(text_of(member(step, "delimiter"), std::string(kWhere) + ".delimiter")),
          SplitBehavior::removed);
    } else if (is_type(step, "FixedLength")) {
      const json& length = member(step, "length");
      if (!length.is_number_unsigned() || length == 0u || length > 65535u)
        refuse("a length is wanted", std::string(kWhere) + ".length", length, "1 to 65535");
      cut(fmt::format("(?m:.){{1,{}}}", length.get<unsigned>()), SplitBehavior::isolated);
    } else {
      refuse("the tokenizer's pre-tokenizer is not a known one", kWhere, step,
             "Split, Digits, Punctuation, Whitespace and the like around one ByteLevel");
    }
  }

 private:
  void cut(std::string pattern, SplitBehavior behavior, bool inverted = false) {
    add({std::move(pattern), behavior, inverted, letters, false});
  }
  void add(SplitStep step) {
    if (steps.size() == kMostSteps) refuse("a pre-tokenizer of so many steps is not read", kWhere, steps.size());
    steps.push_back(std::move(step));
  }
};

bool is_gpt2(const SplitStep& step) { return step == SplitStep{std::string(kGpt2Pattern)}; }

}  // namespace

std::vector<SplitStep> read_pre_tokenizer(const json& step) {
  Reader reader;
  reader.read(step, 0);
  if (!reader.letters)
    refuse("the tokenizer's pre-tokenizer is not a known one", kWhere, step,
           "without byte_fallback it has a ByteLevel, which makes letters of the bytes");
  return std::move(reader.steps);
}

json write_pre_tokenizer(const std::vector<SplitStep>& steps) {
  json list = json::array();
  bool letters = false;
  const auto byte_level = [&](bool space, bool splits) {
    list.push_back({{"type", "ByteLevel"}, {"add_prefix_space", space}, {"trim_offsets", true}, {"use_regex", splits}});
    letters = true;
  };
  for (size_t i = 0; i < steps.size(); ++i) {
    const SplitStep& step = steps[i];
    // ByteLevel itself cuts by GPT-2's pattern, if it does, right before it makes letters.
    const auto last_before_letters = [&](size_t at) { return at + 1 == steps.size() || steps[at + 1].of_letters; };
    if (step.puts_space) {
      const bool splits = i + 1 < steps.size() && is_gpt2(steps[i + 1]);
      WHIT_CHECK(!letters && last_before_letters(splits ? i + 1 : i));
      byte_level(true, splits);
      i += splits;
      continue;
    }
    if (!letters && is_gpt2(step) && last_before_letters(i)) {
      byte_level(false, true);
      continue;
    }
    if (!letters && step.of_letters) byte_level(false, false);
    const char* behavior = nullptr;
    for (const auto& [value, name] : kBehaviors)
      if (value == step.behavior) behavior = name;
    list.push_back(
        {{"type", "Split"}, {"pattern", {{"Regex", step.pattern}}}, {"behavior", behavior}, {"invert", step.inverted}});
  }
  if (!letters) byte_level(false, false);
  if (list.size() == 1) return list[0];
  return {{"type", "Sequence"}, {"pretokenizers", std::move(list)}};
}

}  // namespace whit
