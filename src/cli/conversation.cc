#include "cli/conversation.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <filesystem>

#include "base/error.h"
#include "base/file.h"
#include "base/json.h"
#include "base/names.h"
#include "cli/named_file.h"

namespace whit {
namespace {

constexpr uint64_t kLargestFile = uint64_t{16} << 20;

Json read_tools(const std::string& file) {
  std::string text;
  reading_file("--tools", file, "a JSON list of tools", {}, [&] {
    text = read_file(file, kLargestFile);
    parse_json(text, file);
  });
  // That looked at depth and keys; here the order of keys is the file's own.
  Json tools = Json::parse(text);
  if (!tools.is_array() || !std::all_of(tools.begin(), tools.end(), [](const Json& tool) { return tool.is_object(); }))
    throw Error(ErrorKind::input, "tools are a JSON list of objects", file, tools.type_name(),
                R"([{"type": "function", "function": {"name": ...}}])");
  return tools;
}

// The template's source.
std::string chosen_template(const ChatChoice& choice, const Tokenizer& tokenizer, const std::string& model) {
  const auto own = tokenizer.chat_templates();
  if (!choice.name.empty()) {
    if (const auto found = own.find(choice.name); found != own.end()) return found->second;
    if (const std::string_view builtin = builtin_chat_template(choice.name); !builtin.empty())
      return std::string(builtin);
    if (choice.name.ends_with(".jinja") || choice.name.find('/') != std::string::npos) {
      const std::string stem = std::filesystem::path(choice.name).stem().string();
      std::string jinja;
      reading_file("--template", choice.name, "a file of Jinja",
                   builtin_chat_template(stem).empty() ? "" : "without an ending it is one of ours: --template " + stem,
                   [&] {
                     jinja = read_file(choice.name, kLargestFile);
                     if (jinja.find('\0') != std::string::npos)
                       throw Error(ErrorKind::input, "a NUL byte: this is not a text", choice.name);
                   });
      return jinja;
    }
    std::vector<std::string> names = builtin_chat_templates();
    for (const auto& [name, jinja] : own) names.push_back(name);
    throw Error(ErrorKind::usage, "unknown chat template", "--template", choice.name,
                suggest_name(choice.name, names) + ", or a file NAME.jinja");
  }
  // As transformers chooses among several.
  const auto by_name = [&](const char* name) { return own.find(name); };
  if (!choice.tools.empty() && by_name("tool_use") != own.end()) return by_name("tool_use")->second;
  if (by_name("default") != own.end()) return by_name("default")->second;
  if (!own.empty()) {
    std::vector<std::string> names;
    for (const auto& [name, jinja] : own) names.push_back(name);
    throw Error(ErrorKind::input, "the model has several chat templates, and none is the default", model,
                fmt::format("{}", fmt::join(names, " ")), "--template with one of them");
  }
  throw Error(ErrorKind::input, "the model has no chat template", model, {},
              "--template with one of " + chat_template_names() + " or FILE.jinja, or --raw -p TEXT for no template");
}

std::string_view without_space(std::string_view text, bool left) {
  const auto blank = [](char c) { return c == ' ' || (c >= '\t' && c <= '\r'); };
  while (left && !text.empty() && blank(text.front())) text.remove_prefix(1);
  while (!left && !text.empty() && blank(text.back())) text.remove_suffix(1);
  return text;
}

}  // namespace

std::string chat_template_names() { return fmt::format("{}", fmt::join(builtin_chat_templates(), " ")); }

Conversation::Conversation(const ChatChoice& choice, const Tokenizer& tokenizer, const std::string& model)
    : tokenizer_(tokenizer), model_(choice.name.empty() ? model : choice.name) {
  const std::string jinja = chosen_template(choice, tokenizer, model);
  try {
    chat_.emplace(jinja);
  } catch (const Error& error) {
    explain(error);
  }
  options_.special_tokens = tokenizer.special_tokens();
  options_.now = choice.date.empty() ? chat_date_today() : parse_chat_date(choice.date, "--date");
  if (!choice.thinking.empty()) {
    options_.thinking = choice.thinking == "on";
    if (chat_->thinking_switches().empty())
      throw Error(ErrorKind::usage, "the chat template has no switch for thinking", "--thinking", choice.thinking,
                  "leave --thinking out");
  }
  if (!choice.date.empty() && !chat_->reads("strftime_now"))
    throw Error(ErrorKind::usage, "the chat template does not ask for the date", "--date", choice.date,
                "leave --date out");
  if (!choice.tools.empty()) {
    if (!chat_->reads("tools"))
      throw Error(ErrorKind::usage, "the chat template has no place for tools", "--tools", choice.tools,
                  "leave --tools out");
    options_.tools = read_tools(choice.tools);
  }
  find_ends();
}

void Conversation::explain(const Error& error) const {
  if (error.kind() != ErrorKind::input) throw error;
  throw Error(error.kind(), error.message(), model_ + ": " + error.where(), error.found(),
              "--template with one of " + chat_template_names() + " or FILE.jinja, or --raw -p TEXT for no template");
}

// The token that the template writes after an answer ends one. A mark like <|im_end|> that is no token of this model is
// looked for as text.
void Conversation::find_ends() {
  const std::string after = chat_->after_answer(options_);
  const std::string_view text = without_space(after, true);
  if (text.empty()) return;
  const std::vector<int32_t> ids = tokenizer_.encode(text, false, true);
  if (!ids.empty() && tokenizer_.is_special(ids[0])) {
    ends_.push_back(ids[0]);
    return;
  }
  const size_t end = text.find('>');
  if (text[0] == '<' && end != std::string_view::npos &&
      text.substr(0, end).find_first_of(" \n") == std::string_view::npos)
    stops_.emplace_back(text.substr(0, end + 1));
}

std::vector<int32_t> Conversation::encode(const Json& messages) const {
  std::string text;
  try {
    text = chat_->render(messages, options_);
  } catch (const Error& error) {
    explain(error);
  }
  opened_.clear();
  const std::string_view shown = without_space(text, false);
  for (const char* tag : {"<think>", "<thinking>", "<thought>", "<reasoning>"})
    if (shown.ends_with(tag)) opened_ = tag;
  return tokenizer_.encode(text, false, true);
}

Json Conversation::message_of(const std::string& answer) const {
  std::string content = answer;
  if (!opened_.empty()) {
    const std::string close = "</" + opened_.substr(1);
    content = opened_ + "\n" + content;
    if (content.find(close) == std::string::npos) content += "\n" + close + "\n\n";
  }
  return {{"role", "assistant"}, {"content", content}};
}

}  // namespace whit
