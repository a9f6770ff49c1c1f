// Chat templates, recognised by their content; nothing is executed.
#pragma once

#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace whit {

struct ChatMessage {
  std::string role;  // "system" "user" "assistant"
  std::string content;
};

struct ChatForm;  // a row of chat_forms.h

class ChatTemplate {
 public:
  explicit ChatTemplate(const ChatForm& form) noexcept : form_(&form) {}
  std::string name() const;
  const ChatForm& form() const noexcept { return *form_; }
  bool has_thinking_switch() const noexcept;
  friend bool operator==(const ChatTemplate& a, const ChatTemplate& b) { return a.name() == b.name(); }

 private:
  const ChatForm* form_;
};

// By content; nullopt when it is none of the known ones. Linear in the text.
std::optional<ChatTemplate> recognise_chat_template(std::string_view jinja);
// By name ("chatml" ...), ErrorKind::usage with the nearest known name otherwise.
ChatTemplate chat_template_by_name(std::string_view name);
std::vector<std::string> chat_template_names();

// The prompt text with special tokens written out, ending where the assistant's answer begins. `jinja` is consulted for
// what the form leaves open (SmolLM2's ChatML has a default system message). BOS is written only where the template
// does. thinking false: the answer begins with an empty thought. Where a template writes today's date it is 26 July
// 2024, so that a prompt does not depend on the day. ErrorKind::usage for messages that the template refuses or would
// leave out, and for thinking false where there is no such switch; ErrorKind::input for a default system message that
// is more than joined strings.
std::string render_chat(ChatTemplate kind, std::string_view jinja, const std::vector<ChatMessage>& messages,
                        bool thinking = true);
// Strings that end an answer besides the tokenizer's end ids.
std::vector<std::string> chat_stop_strings(ChatTemplate kind);

}  // namespace whit
