#include "data/gguf_chat.h"

#include <algorithm>
#include <limits>
#include <nlohmann/json.hpp>

#include "base/error.h"
#include "base/json.h"

namespace whit {
namespace {

constexpr char kChatTemplate[] = "tokenizer.chat_template";    // the default one
constexpr char kNamedTemplate[] = "tokenizer.chat_template.";  // and then its name: the others
constexpr char kChatTemplates[] = "tokenizer.chat_templates";  // string array, names of the others
// Ours: {"bos_token": "<s>", ...} as JSON, where ids do not say it; nothing else is named then.
constexpr char kSpecialTokens[] = "tokenizer.whit.special_tokens";

struct NamedId {
  const char *name, *key;
};
// Those that only a template reads.
constexpr NamedId kNamedIds[] = {
    {"sep_token", "tokenizer.ggml.seperator_token_id"},  // as ggml spells it
    {"cls_token", "tokenizer.ggml.cls_token_id"},
    {"mask_token", "tokenizer.ggml.mask_token_id"},
};

// What a reader takes from the ids alone.
std::map<std::string, std::string> named_by_ids(const KeyValues& metadata, const TokenizerParts& parts) {
  std::map<std::string, std::string> named;
  const auto add = [&](const char* name, int32_t id) {
    if (id >= 0 && static_cast<size_t>(id) < parts.tokens.size()) named[name] = parts.tokens[static_cast<size_t>(id)];
  };
  add("bos_token", parts.bos);
  add("eos_token", parts.eos);
  add("unk_token", parts.unknown);
  add("pad_token", parts.padding);
  for (const NamedId& row : kNamedIds) add(row.name, token_id(metadata, row.key));
  return named;
}

}  // namespace

int32_t token_id(const KeyValues& metadata, const char* key) {
  if (!metadata.has(key)) return -1;
  const uint64_t id = metadata.unsigned_integer(key);
  // Some writers say "none" as all ones.
  if (id == std::numeric_limits<uint32_t>::max()) return -1;
  if (id > static_cast<uint64_t>(std::numeric_limits<int32_t>::max()))
    throw Error(ErrorKind::input, "a token id of the tokenizer is out of range", key, std::to_string(id));
  return static_cast<int32_t>(id);
}

int32_t id_of_token(const TokenizerParts& parts, const std::string& text) {
  const auto found = std::find(parts.tokens.begin(), parts.tokens.end(), text);
  return found == parts.tokens.end() ? -1 : static_cast<int32_t>(found - parts.tokens.begin());
}

void read_chat(const KeyValues& metadata, TokenizerParts& parts) {
  if (const std::string jinja = metadata.string(kChatTemplate, ""); !jinja.empty())
    parts.chat_templates["default"] = jinja;
  for (const auto& [key, value] : metadata.all())
    if (key.starts_with(kNamedTemplate)) {
      const std::string name = key.substr(sizeof(kNamedTemplate) - 1);
      if (name != "default" || !parts.chat_templates.contains(name)) parts.chat_templates[name] = metadata.string(key);
    }
  if (const auto* names = metadata.array<std::string>(kChatTemplates))
    for (const std::string& name : *names) metadata.string(kNamedTemplate + name);  // is there
  parts.special_tokens = named_by_ids(metadata, parts);
  if (!metadata.has(kSpecialTokens)) return;
  const nlohmann::json told = parse_json(metadata.string(kSpecialTokens), kSpecialTokens, 2);
  const auto refuse = [] { throw Error(ErrorKind::input, "an object of names and tokens is wanted", kSpecialTokens); };
  if (!told.is_object()) refuse();
  parts.special_tokens.clear();
  for (const auto& [name, token] : told.items()) {
    if (!token.is_string()) refuse();
    parts.special_tokens[name] = token;
  }
}

void write_chat(const TokenizerParts& parts, KeyValues& metadata) {
  std::vector<std::string> names;
  for (const auto& [name, jinja] : parts.chat_templates) {
    if (name != "default") names.push_back(name);
    metadata.set(name == "default" ? kChatTemplate : kNamedTemplate + name, jinja);
  }
  if (!names.empty()) metadata.set(kChatTemplates, std::move(names));
  for (const NamedId& row : kNamedIds)
    if (const auto named = parts.special_tokens.find(row.name); named != parts.special_tokens.end())
      if (const int32_t id = id_of_token(parts, named->second); id >= 0)
        metadata.set(row.key, static_cast<uint32_t>(id));
  if (parts.special_tokens != named_by_ids(metadata, parts))
    metadata.set(kSpecialTokens, nlohmann::json(parts.special_tokens).dump(-1, ' ', false, nlohmann::json::error_handler_t::replace));
}

}  // namespace whit
