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

enum class ChatTemplate { chatml, llama2, llama3, zephyr };

// By content; nullopt when it is none of the known ones.
std::optional<ChatTemplate> recognise_chat_template(std::string_view jinja);
// By name ("chatml" ...), ErrorKind::usage with the nearest known name otherwise.
ChatTemplate chat_template_by_name(std::string_view name);

// The prompt text with special tokens written out, ending where the assistant's answer begins. `jinja` is consulted for
// what the family leaves open (SmolLM2's ChatML has a default system message). BOS is written only where the template
// does.
std::string render_chat(ChatTemplate kind, std::string_view jinja, const std::vector<ChatMessage>& messages);
// Strings that end an answer besides the tokenizer's end ids.
std::vector<std::string> chat_stop_strings(ChatTemplate kind);

}  // namespace whit
