#include "data/chat.h"

#include <algorithm>

#include "base/error.h"
#include "data/jinja/interpreter.h"

namespace whit {

namespace {

// What transformers does to messages first: keys without a value go, and thoughts get all of the names that templates
// read them by.
Json prepared(const Json& messages) {
  if (!messages.is_array()) throw Error(ErrorKind::usage, "messages are a list", "messages", messages.type_name());
  Json out = Json::array();
  for (const Json& message : messages) {
    if (!message.is_object()) throw Error(ErrorKind::usage, "a message is an object", "messages", message.type_name());
    Json kept = Json::object();
    for (const auto& [key, value] : message.items())
      if (!value.is_null()) kept[key] = value;
    for (const char* name : {"reasoning_content", "thinking", "reasoning"}) {
      if (!kept.contains(name)) continue;
      const Json thoughts = kept[name];
      Json named = Json::object();
      named["thinking"] = thoughts;
      for (const auto& [key, value] : kept.items()) named[key] = value;
      named["reasoning_content"] = thoughts;
      kept = std::move(named);
      break;
    }
    out.push_back(std::move(kept));
  }
  return out;
}

int number_in(const std::string& text, size_t at, size_t length) {
  int value = 0;
  for (size_t i = at; i < at + length; ++i) {
    if (i >= text.size() || text[i] < '0' || text[i] > '9') return -1;
    value = value * 10 + (text[i] - '0');
  }
  return value;
}

}  // namespace

std::tm fixed_chat_date() { return parse_chat_date("2024-07-26", ""); }

std::tm chat_date_today() {
  const std::time_t now = std::time(nullptr);
  std::tm out{};
  localtime_r(&now, &out);
  return out;
}

std::tm parse_chat_date(const std::string& text, const std::string& where) {
  const bool timed = text.size() == 19;
  const auto is = [&](size_t at, char c) { return text[at] == c; };
  const int year = number_in(text, 0, 4), month = number_in(text, 5, 2), day = number_in(text, 8, 2);
  bool right = (text.size() == 10 || timed) && year > 0 && month >= 1 && month <= 12 && is(4, '-') && is(7, '-');
  const bool leap = year % 4 == 0 && (year % 100 != 0 || year % 400 == 0);
  constexpr int kDays[] = {31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31};
  right = right && day >= 1 && day <= kDays[month - 1] + (leap && month == 2 ? 1 : 0);
  const int hour = timed ? number_in(text, 11, 2) : 0, minute = timed ? number_in(text, 14, 2) : 0,
            second = timed ? number_in(text, 17, 2) : 0;
  if (timed)
    right = right && is(10, 'T') && is(13, ':') && is(16, ':') && hour >= 0 && hour < 24 && minute >= 0 &&
            minute < 60 && second >= 0 && second < 60;
  if (!right) throw Error(ErrorKind::usage, "this is no date", where, text, "YYYY-MM-DD, like 2024-07-26");
  std::tm out{};
  out.tm_year = year - 1900;
  out.tm_mon = month - 1;
  out.tm_mday = day;
  out.tm_hour = hour;
  out.tm_min = minute;
  out.tm_sec = second;
  out.tm_yday = day - 1 + (leap && month > 2 ? 1 : 0);
  for (int m = 0; m + 1 < month; ++m) out.tm_yday += kDays[m];
  // Days since Monday, 1 January of the year 1, in the calendar of today.
  const int before = year - 1;
  out.tm_wday = (before * 365 + before / 4 - before / 100 + before / 400 + out.tm_yday + 1) % 7;
  out.tm_isdst = -1;
  return out;
}

ChatTemplate::ChatTemplate(std::string_view jinja) : tree_(std::make_shared<jinja::Tree>(jinja::parse(jinja))) {}

std::string ChatTemplate::render(const Json& messages, const ChatOptions& options) const {
  Json variables = Json::object();
  for (const auto& [name, text] : options.special_tokens) variables[name] = text;
  if (options.thinking)
    for (const std::string& name : thinking_switches()) variables[name] = *options.thinking;
  variables["messages"] = prepared(messages);
  variables["tools"] = options.tools;
  variables["documents"] = nullptr;
  variables["add_generation_prompt"] = options.add_generation_prompt;
  return render_variables(variables, options.now);
}

std::string ChatTemplate::render_variables(const Json& variables, const std::tm& now) const {
  jinja::Meter meter{jinja::Limits()};
  jinja::Interpreter interpreter(*tree_, now, meter);
  for (const auto& [name, value] : variables.items()) interpreter.set(name, jinja::from_json(value, meter));
  return interpreter.run();
}

bool ChatTemplate::reads(const std::string& name) const { return tree_->symbols.numbers.contains(name); }

std::vector<std::string> ChatTemplate::thinking_switches() const {
  std::vector<std::string> names;
  for (const char* name : {"enable_thinking", "thinking"})
    if (reads(name)) names.emplace_back(name);
  return names;
}

std::string ChatTemplate::after_answer(const ChatOptions& options) const {
  constexpr const char* kAnswer = "An answer to look for.";
  ChatOptions without = options;
  without.add_generation_prompt = false;
  try {
    const std::string text =
        render(Json::array({{{"role", "user"}, {"content", "Hello"}}, {{"role", "assistant"}, {"content", kAnswer}}}),
               without);
    const size_t at = text.rfind(kAnswer);
    return at == std::string::npos ? std::string() : text.substr(at + std::char_traits<char>::length(kAnswer));
  } catch (const Error&) {
    return {};
  }
}

}  // namespace whit
