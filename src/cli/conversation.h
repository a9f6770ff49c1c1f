// What a verb says to a chat model: which template, which variables, what ends an answer.
#pragma once

#include <string>
#include <vector>

#include "data/chat.h"
#include "data/tokenizer.h"

namespace whit {

struct ChatChoice {
  std::string name;      // of a template: the model's own, one of ours, or a file; empty: as the model has it
  std::string thinking;  // "on", "off", or as the template does by itself
  std::string date;      // YYYY-MM-DD; empty: today
  std::string tools;     // a JSON file
};

class Conversation {
 public:
  // ErrorKind::usage for a choice that the model's template does not have; ErrorKind::input where the model has no
  // template, or one that cannot be evaluated.
  Conversation(const ChatChoice& choice, const Tokenizer& tokenizer, const std::string& model);

  // The ids of a prompt, ending where the answer begins.
  std::vector<int32_t> encode(const Json& messages) const;
  // The message for an answer that was given to the last prompt. A thought that the prompt opened is put back, and
  // closed where the answer was cut short inside it: templates look for both ends to leave it out.
  Json message_of(const std::string& answer) const;

  const std::vector<int32_t>& ends() const { return ends_; }        // ids that end an answer, besides the tokenizer's
  const std::vector<std::string>& stops() const { return stops_; }  // texts that do, where no token does

 private:
  void find_ends();
  [[noreturn]] void explain(const Error& error) const;

  const Tokenizer& tokenizer_;
  std::string model_;
  std::optional<ChatTemplate> chat_;
  ChatOptions options_;
  std::vector<int32_t> ends_;
  std::vector<std::string> stops_;
  mutable std::string opened_;  // "<think>", where the last prompt ends with it
};

// For help: the names of our own templates.
std::string chat_template_names();

}  // namespace whit
