// Chat templates: Jinja, evaluated by an interpreter of our own (docs/decisions/0012-jinja.md) as transformers does it.
#pragma once

#include <ctime>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/options.h"

namespace whit {

namespace jinja {
struct Tree;
}

// 26 July 2024: what a template that asks for today's date is told where a text must not depend on the day.
std::tm fixed_chat_date();
// Now, on the clock of this machine.
std::tm chat_date_today();
// "YYYY-MM-DD", or with "THH:MM:SS". ErrorKind::usage for anything else and for days that do not exist.
std::tm parse_chat_date(const std::string& text, const std::string& where);

struct ChatOptions {
  Json tools;  // a list of JSON schemas; null: none
  bool add_generation_prompt = true;
  std::optional<bool> thinking;  // by the switch that the template has; absent: as it does by itself
  std::map<std::string, std::string> special_tokens;  // "bos_token" ... with their texts
  std::tm now = fixed_chat_date();
};

// A parsed template, immutable.
class ChatTemplate {
 public:
  // ErrorKind::input that names the line where this is no template.
  explicit ChatTemplate(std::string_view jinja);

  // The prompt text, special tokens written out. `messages`: a list of objects with `role`, `content` and what else the
  // template reads. ErrorKind::usage with the template's own words for messages that it refuses; ErrorKind::input that
  // names the line for what cannot be evaluated, and for a template that does more than kept bounds allow.
  std::string render(const Json& messages, const ChatOptions& options = {}) const;
  // The same with every variable given as such.
  std::string render_variables(const Json& variables, const std::tm& now) const;

  // Whether it reads this name anywhere.
  bool reads(const std::string& name) const;
  // The variables among enable_thinking and thinking that it reads.
  std::vector<std::string> thinking_switches() const;
  // What it writes after an assistant's message, where a token that ends an answer is to be looked for. Empty where it
  // refuses to render one.
  std::string after_answer(const ChatOptions& options) const;

 private:
  std::shared_ptr<const jinja::Tree> tree_;
};

// Templates of our own for models that have none, by name: "chatml" ...
std::vector<std::string> builtin_chat_templates();
// Their Jinja; empty for an unknown name.
std::string_view builtin_chat_template(std::string_view name);

}  // namespace whit
