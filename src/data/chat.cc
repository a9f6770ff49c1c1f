#include "data/chat.h"

#include <algorithm>
#include <iterator>

#include "base/error.h"
#include "base/names.h"
#include "data/chat_forms.h"

namespace whit {

namespace {

bool contains(std::string_view text, std::string_view part) { return text.find(part) != std::string_view::npos; }

bool blank(char c) { return c == ' ' || (c >= '\t' && c <= '\r'); }

std::string_view right_trimmed(std::string_view text) {
  while (!text.empty() && blank(text.back())) text.remove_suffix(1);
  return text;
}

std::string trimmed(std::string_view text) {
  text = right_trimmed(text);
  while (!text.empty() && blank(text.front())) text.remove_prefix(1);
  return std::string(text);
}

std::string without(std::string_view text, std::string_view part) {
  std::string out;
  for (size_t at = text.find(part); at != std::string_view::npos; at = text.find(part)) {
    out += text.substr(0, at);
    text.remove_prefix(at + part.size());
  }
  return out += text;
}

// Inside a Jinja string a line end is written either as such or as \n; one after a backslash is none.
std::string unescaped(std::string_view text) {
  std::string out;
  for (size_t i = 0; i < text.size(); ++i) {
    if (text[i] != '\\' || i + 1 == text.size()) {
      out.push_back(text[i]);
      continue;
    }
    const char next = text[++i];
    if (next != '\n') out.push_back(next == 'n' ? '\n' : next == 't' ? '\t' : next);
  }
  return out;
}

// Spellings that mean the same made alike: line ends in strings, the two quotes, message.content, runs of spaces.
std::string normalized(std::string_view jinja) {
  const std::string plain = unescaped(jinja);
  constexpr std::string_view kDotted = "message.content", kIndexed = "message['content']";
  std::string out;
  for (size_t i = 0; i < plain.size();) {
    if (std::string_view(plain).substr(i, kDotted.size()) == kDotted) {
      out += kIndexed;
      i += kDotted.size();
      continue;
    }
    const char c = plain[i++];
    if (c != ' ' || out.empty() || out.back() != ' ') out.push_back(c == '"' ? '\'' : c);
  }
  return out;
}

// The text of a Jinja expression that joins strings, and the variable `today`, from `at` to the end of its block.
std::string joined(std::string_view jinja, size_t at) {
  constexpr std::string_view kToday = "today";
  std::string out;
  while (at < jinja.size()) {
    const char c = jinja[at];
    if (c == '\'' || c == '"') {
      size_t end = at + 1;
      while (end < jinja.size() && jinja[end] != c) end += jinja[end] == '\\' ? 2 : 1;
      out += unescaped(jinja.substr(at + 1, end - at - 1));
      at = end + 1;
    } else if (jinja.substr(at, kToday.size()) == kToday) {
      out += "2024-07-26";
      at += kToday.size();
    } else if (blank(c) || c == '+' || c == '~') {
      ++at;
    } else if (c == '-' || c == '%' || c == '}') {
      return out;
    } else {
      break;
    }
  }
  throw Error(ErrorKind::input, "the chat template's own system message is not understood", "",
              std::string(jinja.substr(std::min(at, jinja.size()), 60)), "a system message with --system");
}

// The system message that a template writes when the messages have none. Mistral Small's is a variable; ChatML's is a
// string of the template that holds a whole system message, from <|im_start|>system to <|im_end|>. Empty where there
// is none.
std::string default_system(std::string_view jinja) {
  constexpr std::string_view variable = "set default_system_message = ";
  if (const size_t at = jinja.find(variable); at != std::string_view::npos) return joined(jinja, at + variable.size());
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

class Renderer {
 public:
  Renderer(const ChatForm& form, std::string_view jinja)
      : form_(form),
        jinja_(jinja),
        trims_(contains(jinja, "| trim") || contains(jinja, "|trim") || contains(jinja, ".strip()")) {}

  std::string render(const std::vector<ChatMessage>& messages, bool thinking) {
    thinks_ = thinking;
    // A template is free to leave out the BOS that its family has.
    if (jinja_.empty() || contains(jinja_, "bos_token")) out_ += form_.begin;
    size_t first = 0;
    const bool has_system = !messages.empty() && messages[0].role == "system";
    if (form_.place == SystemPlace::turn) {
      if (const std::string text = default_system(jinja_); !messages.empty() && !has_system && !text.empty())
        add(form_.system, "", text);
    } else if (form_.place == SystemPlace::always) {
      add(form_.system, "", has_system ? messages[0].content : default_system(jinja_));
      first = has_system;
    } else if (form_.place == SystemPlace::header) {
      add_header(has_system ? messages[0].content : std::string());
      first = has_system;
    } else if (has_system && form_.place != SystemPlace::nowhere) {
      first = 1;
      if (messages.size() == 1) wrong_role(messages[0], "it is written with a user's message, and there is none");
    }
    const size_t holder = form_.place == SystemPlace::last_user ? messages.size() - 1 : first;
    for (size_t i = first; i < messages.size(); ++i) {
      std::string before;  // the system message, where it is part of a user's
      if (first == 1 && i == holder && form_.place != SystemPlace::always && form_.place != SystemPlace::header)
        before = std::string(form_.system.before) + messages[0].content + std::string(form_.system.after);
      add_message(messages, i, first, before);
    }
    return out_ += thinks_ ? form_.answer : form_.no_thought;
  }

 private:
  void add(const ChatTurn& turn, const std::string& system, const std::string& content) {
    const bool trims = turn.trim == Trim::yes || (turn.trim == Trim::as_written && trims_);
    out_ += turn.before;
    // Llama-2 trims the two together, Gemma the user's text alone.
    if (form_.system.before.empty())
      out_ += system + (trims ? trimmed(content) : content);
    else
      out_ += trims ? trimmed(system + content) : system + content;
    out_ += turn.after;
  }

  // SmolLM3's first turn. /think or /no_think in the message outdoes the switch, /system_override leaves the lines out;
  // all three are taken out of it. Published templates differ in what they have of this.
  void add_header(const std::string& system) {
    if (contains(system, "/no_think"))
      thinks_ = false;
    else if (contains(system, "/think"))
      thinks_ = true;
    std::string instructions(right_trimmed(without(without(system, "/no_think"), "/think")));
    out_ += form_.system.before;
    if (contains(jinja_, "/system_override") && contains(system, "/system_override")) {
      out_ += right_trimmed(without(instructions, "/system_override"));
      out_ += form_.system.after;
      return;
    }
    out_ += "## Metadata\n\nKnowledge Cutoff Date: June 2025\n";
    if (contains(jinja_, "Today Date: ")) out_ += "Today Date: 26 July 2024\n";
    out_ += std::string("Reasoning Mode: ") + (thinks_ ? "/think" : "/no_think") + "\n\n## Custom Instructions\n\n";
    out_ += instructions.empty() ? own_instructions() : instructions + "\n\n";
    // The first of these templates ends the turn inside the branch for tools, that is, not at all.
    const std::string text = normalized(jinja_);
    std::string dense;
    std::copy_if(text.begin(), text.end(), std::back_inserter(dense), [](char c) { return !blank(c); });
    if (!contains(dense, "{{-'<|im_end|>'-}}{%-endif-%}{%-endif-%}")) out_ += form_.system.after;
  }

  // The two texts of the template for messages without instructions, after its choice between them.
  std::string own_instructions() const {
    constexpr std::string_view open = "{{-";
    size_t at = jinja_.find("elif reasoning_mode == ");
    for (int skipped = 0; at != std::string_view::npos; ++skipped) {
      at = jinja_.find(open, at);
      if (at == std::string_view::npos) break;
      at += open.size();
      if (skipped == !thinks_) return joined(jinja_, at);
    }
    return {};
  }

  void add_message(const std::vector<ChatMessage>& messages, size_t i, size_t first, const std::string& system) {
    const ChatMessage& message = messages[i];
    const bool user = message.role == "user", assistant = message.role == "assistant";
    if (form_.alternates && !(((i - first) % 2 == 0) ? user : assistant))
      wrong_role(message, form_.place == SystemPlace::nowhere
                              ? "user and assistant take turns, and there is no system message"
                              : "after an optional system message, user and assistant take turns");
    if (user) return add(form_.user, system, message.content);
    if (!system.empty() && !user) wrong_role(message, "the last message is the user's: the system message goes there");
    if (assistant && form_.place == SystemPlace::header) {
      out_ += thinks_ ? form_.assistant.before : form_.no_thought;
      out_ += message.content.substr(std::min(message.content.find_first_not_of('\n'), message.content.size()));
      out_ += form_.assistant.after;
      return;
    }
    if (assistant) return add(form_.assistant, "", form_.drops_thoughts ? spoken(messages, i) : message.content);
    if (message.role != "system" || form_.place != SystemPlace::turn) wrong_role(message, "user or assistant");
    add(form_.system, "", message.content);
  }

  // What was said after the thoughts.
  std::string spoken(const std::vector<ChatMessage>& messages, size_t i) {
    if (std::none_of(messages.begin() + static_cast<ptrdiff_t>(i), messages.end(),
                     [](const ChatMessage& later) { return later.role == "user"; }))
      wrong_role(messages[i], "the last message is the user's: the template writes thoughts after it");
    constexpr std::string_view kEnd = "</think>";
    const std::string& content = messages[i].content;
    const size_t end = content.rfind(kEnd);
    if (end == std::string::npos) return content;
    const size_t start = content.find_first_not_of('\n', end + kEnd.size());
    return start == std::string::npos ? std::string() : content.substr(start);
  }

  const ChatForm& form_;
  std::string_view jinja_;
  bool trims_;
  bool thinks_ = true;
  std::string out_;
};

}  // namespace

std::string ChatTemplate::name() const { return std::string(form_->name); }
bool ChatTemplate::has_thinking_switch() const noexcept { return !form_->no_thought.empty(); }

std::optional<ChatTemplate> recognise_chat_template(std::string_view jinja) {
  const std::string text = normalized(jinja);
  for (const ChatForm& form : chat_forms()) {
    const auto occurs = [&](std::string_view mark) { return contains(text, normalized(mark)); };
    if (std::all_of(form.marks.begin(), form.marks.end(), occurs) &&
        std::none_of(form.absent.begin(), form.absent.end(), [&](auto mark) { return !mark.empty() && occurs(mark); }))
      return ChatTemplate(form);
  }
  return std::nullopt;
}

ChatTemplate chat_template_by_name(std::string_view name) {
  for (const ChatForm& form : chat_forms())
    if (form.name == name) return ChatTemplate(form);
  throw Error(ErrorKind::usage, "unknown chat template", "", std::string(name),
              suggest_name(name, chat_template_names()));
}

std::vector<std::string> chat_template_names() {
  std::vector<std::string> names;
  for (const ChatForm& form : chat_forms())
    if (names.empty() || names.back() != form.name) names.emplace_back(form.name);
  return names;
}

std::string render_chat(ChatTemplate kind, std::string_view jinja, const std::vector<ChatMessage>& messages,
                        bool thinking) {
  if (!thinking && !kind.has_thinking_switch())
    throw Error(ErrorKind::usage, "the chat template has no switch for thinking", "", kind.name());
  return Renderer(kind.form(), jinja).render(messages, thinking);
}

std::vector<std::string> chat_stop_strings(ChatTemplate kind) {
  std::vector<std::string> stops;
  for (const std::string_view stop : kind.form().stops)
    if (!stop.empty()) stops.emplace_back(stop);
  return stops;
}

}  // namespace whit
