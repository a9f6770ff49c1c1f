#include "data/huggingface_tokens.h"

#include <algorithm>
#include <optional>
#include <tuple>
#include <utility>

#include "base/error.h"
#include "base/json.h"
#include "data/token_table.h"

namespace whit {
namespace {

using namespace tokenizer_json;

constexpr char kConfig[] = "tokenizer_config.json";
constexpr char kMap[] = "special_tokens_map.json";
constexpr char kAdded[] = "added_tokens.json";

// In the order in which transformers adds those that have no id yet.
constexpr const char* kNames[] = {"bos_token", "eos_token", "unk_token", "sep_token",
                                  "pad_token", "cls_token", "mask_token"};

struct NamedToken {
  std::string name;  // "" in lists of extra tokens
  AddedToken token;
  bool bare = false;      // a string, without flags
  bool from_map = false;  // of special_tokens_map.json
};

bool same(const NamedToken& a, const NamedToken& b) {
  const auto flags = [](const AddedToken& t) {
    return std::tie(t.content, t.single_word, t.lstrip, t.rstrip, t.normalized, t.special);
  };
  return a.bare == b.bare && (a.bare ? a.token.content == b.token.content : flags(a.token) == flags(b.token));
}

bool is_standard(const std::string& key) {
  return std::any_of(std::begin(kNames), std::end(kNames), [&](const char* name) { return key == name; });
}

// Keys of the outermost object, or of the one that it holds under `parent`, in the order of the file: it decides on the
// ids of tokens that come without one.
std::vector<std::string> ordered_keys(const std::string& text, const std::string& parent = {}) {
  std::vector<std::string> keys;
  std::string outer;
  const auto collect = [&](int depth, json::parse_event_t event, json& value) {
    if (event != json::parse_event_t::key) return true;
    if (depth == 1) outer = value.get<std::string>();
    if (depth == (parent.empty() ? 1 : 2) && (parent.empty() || outer == parent))
      keys.push_back(value.get<std::string>());
    return true;
  };
  const json parsed = json::parse(text, collect, false);
  return parsed.is_object() ? keys : std::vector<std::string>();
}

// A string is a special token without flags; an object says its flags. transformers takes an object that is not marked
// as an AddedToken from special_tokens_map.json and added_tokens_decoder only; here it is one everywhere.
AddedToken token_of(const json& value, bool always_special, const std::string& where) {
  AddedToken token;
  if (value.is_string()) {
    token.content = value.get<std::string>();
    token.special = true;
    return token;
  }
  if (!value.is_object()) refuse("a token is a string or an object", where, value);
  token.content = text_of(member(value, "content"), where + ".content");
  token.special = always_special || boolean(value, "special", false, where);
  token.normalized = boolean(value, "normalized", !token.special, where);
  token.single_word = boolean(value, "single_word", false, where);
  token.lstrip = boolean(value, "lstrip", false, where);
  token.rstrip = boolean(value, "rstrip", false, where);
  return token;
}

NamedToken named_token(const std::string& name, const json& value, bool always_special, const std::string& where) {
  return {name, token_of(value, always_special, where), value.is_string(), false};
}

int32_t id_in_key(const std::string& key, const std::string& where) {
  json number = json::parse(key, nullptr, false);
  return id_of(number.is_discarded() ? json(key) : number, where);
}

// The files of the folder that name tokens, read as transformers 5 reads them.
class Folder {
 public:
  Folder(const std::map<std::string, std::string>& files, const json& top)
      : config_(file(files, kConfig)),
        map_(file(files, kMap)),
        added_(file(files, kAdded)),
        decoder_(config_.contains("added_tokens_decoder")),
        top_(top) {
    if (const auto text = files.find(kConfig); text != files.end()) {
      config_keys_ = ordered_keys(text->second);
      extra_keys_ = ordered_keys(text->second, "extra_special_tokens");
    }
    if (const auto text = files.find(kMap); text != files.end()) map_keys_ = ordered_keys(text->second);
    if (boolean(config_, "split_special_tokens", false, kConfig))
      refuse("special tokens that are split like other text are not supported",
             std::string(kConfig) + ": split_special_tokens", json(true), "false");
    const char* cleanup = "clean_up_tokenization_spaces_for_bpe_even_though_it_will_corrupt_output";
    if (boolean(config_, cleanup, false, kConfig) && boolean(config_, "clean_up_tokenization_spaces", false, kConfig))
      refuse("text whose spaces are cleaned up is not supported", std::string(kConfig) + ": " + cleanup, json(true));
    if (decoder_) return;  // transformers does not look at the two older files then
    for (const char* key : {"add_bos_token", "add_eos_token"})
      if (!member(map_, key).is_null())
        refuse("this belongs into tokenizer_config.json", std::string(kMap) + ": " + key, member(map_, key));
  }

  std::vector<NamedToken> named() const {
    std::vector<NamedToken> out;
    for (const char* name : kNames)
      if (auto token = value(name)) out.push_back(std::move(*token));
    // Others by the order of the files: those of special_tokens_map.json come first, then tokenizer_config.json's.
    const auto add_other = [&](const std::string& key) {
      const bool is_name = key.ends_with("_token") && !is_standard(key);
      if (!is_name || std::any_of(out.begin(), out.end(), [&](const auto& known) { return known.name == key; })) return;
      const json &in_config = member(config_, key.c_str()), &in_map = member(map_, key.c_str());
      const bool text = in_config.is_string() || in_config.is_object();
      if (!text && (decoder_ || !(in_map.is_string() || in_map.is_object()))) return;  // add_bos_token and the like
      if (auto token = value(key)) out.push_back(std::move(*token));
    };
    if (!decoder_)
      for (const std::string& key : map_keys_) add_other(key);
    for (const std::string& key : config_keys_) add_other(key);
    const json& extra = member(config_, "extra_special_tokens");
    if (extra.is_object())
      for (const std::string& key : extra_keys_)
        out.push_back(named_token(key, extra.at(key), true, std::string(kConfig) + ": extra_special_tokens." + key));
    return out;
  }

  // `all`: with the list of special_tokens_map.json that has the older name.
  std::vector<NamedToken> extra(bool all = true) const {
    std::vector<NamedToken> out;
    const auto read = [&](const json& list, const std::string& where) {
      if (list.is_null() || list.is_object()) return;
      if (!list.is_array()) refuse("a list of tokens is wanted", where, list);
      for (const json& item : list) out.push_back(named_token({}, item, false, where));
    };
    const auto empty = [](const json& list) { return list.is_null() || list.empty() || list.is_object(); };
    const char *now = "extra_special_tokens", *before = "additional_special_tokens";
    // The newer name holds where both are said.
    const bool in_config = !empty(member(config_, now));
    read(member(config_, in_config ? now : before), std::string(kConfig) + ": " + (in_config ? now : before));
    if (decoder_) return out;
    read(member(map_, now), std::string(kMap) + ": " + now);
    if (out.empty() && all) read(member(map_, before), std::string(kMap) + ": " + before);
    return out;
  }

  // Tokens that come with an id, by id, each with the place that says so.
  std::vector<std::pair<AddedToken, std::string>> with_ids(const std::vector<NamedToken>& named) const {
    std::map<int32_t, std::pair<AddedToken, std::string>> out;
    const auto add = [&](AddedToken token, int32_t id, const std::string& where) {
      token.id = id;
      out[id] = {std::move(token), where};
    };
    const auto is_named = [&](const std::string& content) {
      return std::any_of(named.begin(), named.end(), [&](const auto& each) { return each.token.content == content; });
    };
    if (decoder_) {
      const json& decoder = member(config_, "added_tokens_decoder");
      if (!decoder.is_object()) refuse("an object is wanted", std::string(kConfig) + ": added_tokens_decoder", decoder);
      for (const auto& [key, value] : decoder.items()) {
        const std::string where = std::string(kConfig) + ": added_tokens_decoder." + key;
        add(token_of(value, false, where), id_in_key(key, where), where);
      }
    } else if (added_.is_object()) {
      // Objects of tokenizer_config.json are no tokens yet where transformers compares these.
      const auto is_one = [](const std::string& content) {
        return [&](const NamedToken& each) {
          return (each.bare || each.from_map) && each.token.content == content &&
                 (each.name.empty() || is_standard(each.name));
        };
      };
      const std::vector<NamedToken> extras = extra(false);
      for (const auto& [content, id] : added_.items()) {
        const bool special = std::any_of(named.begin(), named.end(), is_one(content)) ||
                             std::any_of(extras.begin(), extras.end(), is_one(content));
        AddedToken token;
        token.content = content;
        token.special = special;
        token.normalized = !special;
        const std::string where = std::string(kAdded) + ": " + content;
        add(std::move(token), id_of(id, where), where);
      }
    }
    if (!decoder_)
      for (const auto& [token, where] : listed()) add(token, token.id, where);
    for (auto& [id, entry] : out)
      if (is_named(entry.first.content)) entry.first.special = true;
    std::vector<std::pair<AddedToken, std::string>> list;
    for (auto& [id, entry] : out) list.push_back(std::move(entry));
    return list;
  }

  // added_tokens of tokenizer.json.
  std::vector<std::pair<AddedToken, std::string>> listed() const {
    const json& list = member(top_, "added_tokens");
    if (!list.is_null() && !list.is_array()) refuse("a list is wanted", "tokenizer.json: added_tokens", list);
    std::vector<std::pair<AddedToken, std::string>> out;
    for (size_t index = 0; index < list.size(); ++index) {
      const json& item = list[index];
      const std::string where = "tokenizer.json: added_tokens[" + std::to_string(index) + "]";
      AddedToken token;
      token.id = id_of(member(item, "id"), where + ".id");
      token.content = text_of(member(item, "content"), where + ".content");
      token.single_word = boolean(item, "single_word", false, where);
      token.lstrip = boolean(item, "lstrip", false, where);
      token.rstrip = boolean(item, "rstrip", false, where);
      token.normalized = boolean(item, "normalized", true, where);
      token.special = boolean(item, "special", false, where);
      out.emplace_back(std::move(token), where);
    }
    return out;
  }

 private:
  static json file(const std::map<std::string, std::string>& files, const char* name) {
    const auto found = files.find(name);
    if (found == files.end()) return json::object();
    json value = parse_json(found->second, name);
    if (!value.is_object()) refuse("an object is wanted", name, value);
    return value;
  }

  // special_tokens_map.json, where it is read at all, outdoes tokenizer_config.json.
  std::optional<NamedToken> value(const std::string& key) const {
    const json &in_map = member(map_, key.c_str()), &in_config = member(config_, key.c_str());
    const bool kept = !is_standard(key) && in_config.is_string();
    if (!decoder_ && map_.contains(key) && !kept) {
      if (in_map.is_null()) return std::nullopt;
      NamedToken token = named_token(key, in_map, true, std::string(kMap) + ": " + key);
      token.from_map = true;
      return token;
    }
    if (in_config.is_null()) return padding(key);
    return named_token(key, in_config, false, std::string(kConfig) + ": " + key);
  }

  // Where no file names it, the token that tokenizer.json fills batches with is the pad token.
  std::optional<NamedToken> padding(const std::string& key) const {
    const json& filler = member(member(top_, "padding"), "pad_token");
    if (key != "pad_token" || config_.contains(key) || !filler.is_string()) return std::nullopt;
    return named_token(key, filler, true, "tokenizer.json: padding.pad_token");
  }

  json config_, map_, added_;
  bool decoder_;  // tokenizer_config.json has added_tokens_decoder
  const json& top_;
  std::vector<std::string> config_keys_, extra_keys_, map_keys_;
};

std::vector<int32_t> ids_under(const json& config, const char* key, const std::string& file) {
  const json& value = member(config, key);
  std::vector<int32_t> ids;
  if (value.is_array()) {
    for (const json& id : value) ids.push_back(id_of(id, file + ": " + key));
  } else if (!value.is_null() && value != json(-1)) {  // -1: there is none
    ids.push_back(id_of(value, file + ": " + key));
  }
  return ids;
}

// Ids and strings that end an answer, and ids of BOS and EOS where no token is named.
void read_endings(const std::map<std::string, std::string>& files, TokenizerParts& parts) {
  const auto file = [&](const char* name) {
    const auto found = files.find(name);
    return found == files.end() ? json() : parse_json(found->second, name);
  };
  const json generation = file("generation_config.json"), model = file("config.json");
  if (parts.eos >= 0) parts.ends.push_back(parts.eos);
  const auto first = ids_under(generation, "eos_token_id", "generation_config.json");
  parts.ends.insert(parts.ends.end(), first.begin(), first.end());
  // Where both say it, transformers goes by generation_config.json. A special token that config.json names ends an
  // answer nonetheless; another may be the default of a family that this tokenizer is not of.
  for (const int32_t id : ids_under(model, "eos_token_id", "config.json")) {
    const bool special =
        static_cast<size_t>(id) < parts.types.size() && parts.types[static_cast<size_t>(id)] == TokenType::control;
    if (first.empty() || special) {
      parts.ends.push_back(id);
    } else if (std::find(first.begin(), first.end(), id) == first.end()) {
      parts.notes.push_back("config.json: eos_token_id " + std::to_string(id) +
                            " is no special token and not in generation_config.json: it does not end an answer");
    }
  }
  const auto known = [&](const std::vector<int32_t>& ids) {
    const auto found =
        std::find_if(ids.begin(), ids.end(), [&](int32_t id) { return static_cast<size_t>(id) < parts.tokens.size(); });
    return found == ids.end() ? -1 : *found;
  };
  if (parts.eos < 0) parts.eos = known(parts.ends);
  for (const auto& [config, name] : {std::pair{&generation, "generation_config.json"}, {&model, "config.json"}})
    if (parts.bos < 0) parts.bos = known(ids_under(*config, "bos_token_id", name));
  const json& stops = member(generation, "stop_strings");
  const json list = stops.is_string() ? json::array({stops}) : stops;
  if (!list.is_null() && !list.is_array())
    refuse("a list of strings is wanted", "generation_config.json: stop_strings", stops);
  for (const json& stop : list)
    if (!text_of(stop, "generation_config.json: stop_strings").empty()) parts.stop_strings.push_back(stop);
}

}  // namespace

void read_tokens(const json& top, const std::map<std::string, std::string>& files, TokenizerParts& parts) {
  const Folder folder(files, top);
  TokenTable table(parts);
  for (const auto& [token, where] : folder.listed()) {
    if (table.is_added(token.content))
      refuse("two added tokens have the same id", where, json(token.content), std::to_string(token.id));
    table.add_with_id(token, where);
  }
  const std::vector<NamedToken> named = folder.named();
  for (const auto& [token, where] : folder.with_ids(named)) table.add_with_id(token, where);
  std::vector<NamedToken> missing;  // named, and in no list of tokens with ids
  const auto add_missing = [&](const NamedToken& each) {
    if (table.is_added(each.token.content) ||
        std::any_of(missing.begin(), missing.end(), [&](const NamedToken& other) { return same(other, each); }))
      return;
    missing.push_back(each);
  };
  for (const NamedToken& each : named) add_missing(each);
  const size_t names = missing.size();
  for (const NamedToken& each : folder.extra()) add_missing(each);
  for (size_t i = 0; i < missing.size(); ++i) {
    missing[i].token.special |= i < names;
    table.add(missing[i].token);
  }
  table.store(parts);
  for (const NamedToken& each : named) {
    const int32_t id = table.id_of(each.token.content);
    if (each.name == "bos_token") parts.bos = id;
    if (each.name == "eos_token") parts.eos = id;
    if (each.name == "pad_token") parts.padding = id;
    if (!each.name.empty()) parts.special_tokens[each.name] = each.token.content;
  }
  if (const int32_t eot = table.id_of("<|eot_id|>"); eot >= 0 && eot != parts.eos)
    if (parts.types[static_cast<size_t>(eot)] == TokenType::control) parts.eot = eot;
  read_endings(files, parts);
}

}  // namespace whit
