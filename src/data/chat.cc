#include "data/chat.h"

#include "base/error.h"
#include "base/names.h"

namespace whit {
namespace {

bool contains(std::string_view text, std::string_view part) { return text.find(part) != std::string_view::npos; }

std::string trimmed(std::string_view text) {
  const auto blank = [](char c) { return c == ' ' || (c >= '\t' && c <= '\r'); };
  while (!text.empty() && blank(text.front())) text.remove_prefix(1);
  while (!text.empty() && blank(text.back())) text.remove_suffix(1);
  return std::string(text);
}

// Inside a Jinja string a line end is written either as such or as \n.
std::string unescaped(std::string_view text) {
  std::string out;
  for (size_t i = 0; i < text.size(); ++i) {
    if (text[i] != '\\' || i + 1 == text.size()) {
      out.push_back(text[i]);
      continue;
    }
    const char next = text[++i];
    out.push_back(next == 'n' ? '\n' : next == 't' ? '\t' : next);
  }
  return out;
}

// The system message that a ChatML template writes when the messages have none: a string of the template that holds a
// whole system message, from <|im_start|>system to <|im_end|>. Empty where there is none.
std::string default_system(std::string_view jinja) {
  constexpr std::string_view open = "<|im_start|>system", close = "<|im_end|>";
  for (size_t at = jinja.find(open); at != std::string_view::npos; at = jinja.find(open, at + 1)) {
    if (at == 0 || (jinja[at - 1] != '\'' && jinja[at - 1] != '"')) continue;
    size_t quote = at;  // where this string of the template ends
    while (quote < jinja.size() && jinja[quote] != jinja[at - 1]) quote += jinja[quote] == '\\' ? 2 : 1;
    const size_t end = jinja.find(close, at);
    if (end == std::string_view::npos || end > quote) continue;
    std::string text = unescaped(jinja.substr(at + open.size(), end - at - open.size()));
    if (!text.empty() && text[0] == '\n') return text.substr(1);
  }
  return {};
}

[[noreturn]] void wrong_role(const ChatMessage& message, const std::string& hint) {
  throw Error(ErrorKind::usage, "the chat template has no place for this message", "role", message.role, hint);
}

// "content | trim", "content.strip()": whether the family's template trims what it is given.
bool trims(std::string_view jinja) { return contains(jinja, "trim") || contains(jinja, ".strip()"); }

std::string chatml(std::string_view jinja, const std::vector<ChatMessage>& messages) {
  std::string out;
  const bool trim = trims(jinja);
  const auto add = [&](const std::string& role, const std::string& content) {
    out += "<|im_start|>" + role + "\n" + (trim ? trimmed(content) : content) + "<|im_end|>\n";
  };
  if (!messages.empty() && messages[0].role != "system")
    if (const std::string text = default_system(jinja); !text.empty())
      out += "<|im_start|>system\n" + text + "<|im_end|>\n";
  for (const ChatMessage& message : messages) add(message.role, message.content);
  return out + "<|im_start|>assistant\n";
}

std::string llama2(const std::vector<ChatMessage>& messages) {
  std::string out, system;
  size_t first = 0;
  if (!messages.empty() && messages[0].role == "system") {
    system = "<<SYS>>\n" + messages[0].content + "\n<</SYS>>\n\n";
    first = 1;
  }
  for (size_t i = first; i < messages.size(); ++i) {
    const ChatMessage& message = messages[i];
    const bool user = (i - first) % 2 == 0;
    if (message.role != (user ? "user" : "assistant"))
      wrong_role(message, "after an optional system message, user and assistant take turns");
    if (user)
      out += "<s>[INST] " + trimmed((i == first ? system : std::string()) + message.content) + " [/INST]";
    else
      out += " " + trimmed(message.content) + " </s>";
  }
  return out;
}

std::string llama3(std::string_view jinja, const std::vector<ChatMessage>& messages) {
  std::string out = "<|begin_of_text|>";
  const auto add = [&](const std::string& role, const std::string& content) {
    out += "<|start_header_id|>" + role + "<|end_header_id|>\n\n" + trimmed(content) + "<|eot_id|>";
  };
  size_t first = 0;
  if (contains(jinja, "Cutting Knowledge Date: December 2023")) {
    // Llama-3.1 and later open with a system message always. The date is the one these templates fall back to, because
    // a prompt must not depend on the day.
    std::string system;
    if (!messages.empty() && messages[0].role == "system") system = trimmed(messages[first++].content);
    out +=
        "<|start_header_id|>system<|end_header_id|>\n\nCutting Knowledge Date: December 2023\nToday Date: 26 Jul "
        "2024\n\n" +
        system + "<|eot_id|>";
  }
  for (size_t i = first; i < messages.size(); ++i) add(messages[i].role, messages[i].content);
  return out + "<|start_header_id|>assistant<|end_header_id|>\n\n";
}

std::string zephyr(const std::vector<ChatMessage>& messages) {
  std::string out;
  for (const ChatMessage& message : messages) {
    if (message.role != "system" && message.role != "user" && message.role != "assistant")
      wrong_role(message, "system, user or assistant");
    out += "<|" + message.role + "|>\n" + message.content + "</s>\n";
  }
  return out + "<|assistant|>\n";
}

}  // namespace

std::optional<ChatTemplate> recognise_chat_template(std::string_view jinja) {
  if (contains(jinja, "<|im_start|>") && contains(jinja, "<|im_end|>")) return ChatTemplate::chatml;
  if (contains(jinja, "<|start_header_id|>") && contains(jinja, "<|eot_id|>")) return ChatTemplate::llama3;
  if (contains(jinja, "[INST]") && contains(jinja, "<<SYS>>")) return ChatTemplate::llama2;
  // Others with <|user|> end a turn with a token of its own (<|end|>) instead of EOS.
  if (contains(jinja, "<|user|>") && contains(jinja, "<|assistant|>") && contains(jinja, "eos_token") &&
      !contains(jinja, "<|end|>"))
    return ChatTemplate::zephyr;
  return std::nullopt;
}

ChatTemplate chat_template_by_name(std::string_view name) {
  if (name == "chatml") return ChatTemplate::chatml;
  if (name == "llama2") return ChatTemplate::llama2;
  if (name == "llama3") return ChatTemplate::llama3;
  if (name == "zephyr") return ChatTemplate::zephyr;
  const std::vector<std::string> known = {"chatml", "llama2", "llama3", "zephyr"};
  throw Error(ErrorKind::usage, "unknown chat template", "", std::string(name), suggest_name(name, known));
}

std::string render_chat(ChatTemplate kind, std::string_view jinja, const std::vector<ChatMessage>& messages) {
  switch (kind) {
    case ChatTemplate::chatml:
      return chatml(jinja, messages);
    case ChatTemplate::llama2:
      return llama2(messages);
    case ChatTemplate::llama3:
      return llama3(jinja, messages);
    case ChatTemplate::zephyr:
      return zephyr(messages);
  }
  throw Error(ErrorKind::internal, "a chat template without a rendering");
}

std::vector<std::string> chat_stop_strings(ChatTemplate kind) {
  switch (kind) {
    case ChatTemplate::chatml:
      return {"<|im_end|>"};
    case ChatTemplate::llama2:
      return {"</s>"};
    case ChatTemplate::llama3:
      return {"<|eot_id|>"};
    case ChatTemplate::zephyr:
      return {"</s>", "<|user|>"};
  }
  return {};
}

}  // namespace whit
