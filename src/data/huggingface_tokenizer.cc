// Tokenizers of Hugging Face folders: tokenizer.json and the small files beside it. Every step of its pipeline is
// either one we know exactly or an error that shows it.
#include <algorithm>
#include <limits>
#include <nlohmann/json.hpp>
#include <unordered_map>

#include "base/error.h"
#include "base/json.h"
#include "base/names.h"
#include "data/generation.h"
#include "data/huggingface_tokens.h"
#include "data/normalizers/space_marks.h"
#include "data/pre_tokenizers/json_form.h"
#include "data/pre_tokenizers/names.h"
#include "data/tokenizer_class.h"
#include "data/tokenizer_json.h"
#include "data/tokenizer_parts.h"

namespace whit {
namespace {

using namespace tokenizer_json;

constexpr char kFile[] = "tokenizer.json";

// A step, or the steps of a Sequence (one level).
std::vector<json> steps_of(const json& step, const char* list, const std::string& where) {
  if (step.is_null()) return {};
  if (!step.is_object()) refuse("an object is wanted", where, step);
  if (!is_type(step, "Sequence")) return {step};
  const json& items = member(step, list);
  if (!items.is_array()) refuse("a list is wanted", where + "." + list, items);
  return {items.begin(), items.end()};
}

bool is_replace(const json& step, std::string_view from, std::string_view to) {
  const json& pattern = member(member(step, "pattern"), "String");
  const json& content = member(step, "content");
  return is_type(step, "Replace") && pattern.is_string() && content.is_string() &&
         pattern.get_ref<const std::string&>() == from && content.get_ref<const std::string&>() == to;
}

struct Vocabulary {
  std::unordered_map<std::string_view, int32_t> ids;
};

// model.vocab into parts.tokens; ids without a token are unused.
Vocabulary read_vocabulary(const json& model, TokenizerParts& parts) {
  const json& vocab = member(model, "vocab");
  if (!vocab.is_object()) refuse("a table of tokens is wanted", "tokenizer.json: model.vocab", vocab);
  int64_t most = -1;
  for (const auto& [token, id] : vocab.items())
    most = std::max<int64_t>(most, id_of(id, "tokenizer.json: model.vocab"));
  // Real vocabularies are dense; a few huge ids must not cost memory out of proportion.
  const int64_t known = static_cast<int64_t>(vocab.size());
  if (most >= 4 * known + 65536)
    throw Error(ErrorKind::input, "the ids of the vocabulary have holes", "tokenizer.json: model.vocab",
                "highest id " + std::to_string(most) + " of " + std::to_string(known) + " tokens");
  parts.tokens.resize(static_cast<size_t>(most + 1));
  parts.types.assign(parts.tokens.size(), TokenType::unused);
  for (const auto& [token, value] : vocab.items()) {
    const auto id = static_cast<size_t>(value.get<int64_t>());
    if (parts.types[id] != TokenType::unused)
      throw Error(ErrorKind::input, "two tokens have the same id", "tokenizer.json: model.vocab", std::to_string(id));
    parts.tokens[id] = token;
    parts.types[id] = TokenType::normal;
  }
  Vocabulary vocabulary;
  for (size_t id = 0; id < parts.tokens.size(); ++id)
    if (parts.types[id] == TokenType::normal) vocabulary.ids.emplace(parts.tokens[id], static_cast<int32_t>(id));
  return vocabulary;
}

void read_merges(const json& model, const Vocabulary& vocabulary, TokenizerParts& parts) {
  const json& merges = member(model, "merges");
  if (!merges.is_array()) refuse("a list of merges is wanted", "tokenizer.json: model.merges", merges);
  std::string joined;
  for (size_t rank = 0; rank < merges.size(); ++rank) {
    const json& row = merges[rank];
    const auto where = [&] { return "tokenizer.json: model.merges[" + std::to_string(rank) + "]"; };
    std::string_view left, right;
    if (row.is_string()) {
      const std::string_view text = row.get_ref<const std::string&>();
      const size_t cut = text.find(' ');
      if (cut == std::string_view::npos || text.find(' ', cut + 1) != std::string_view::npos)
        refuse("a merge is two tokens with one space between", where(), row);
      left = text.substr(0, cut), right = text.substr(cut + 1);
    } else if (row.is_array() && row.size() == 2 && row[0].is_string() && row[1].is_string()) {
      left = row[0].get_ref<const std::string&>(), right = row[1].get_ref<const std::string&>();
    } else {
      refuse("a merge is a string or a pair of strings", where(), row);
    }
    joined.assign(left);
    joined += right;
    const auto a = vocabulary.ids.find(left), b = vocabulary.ids.find(right), c = vocabulary.ids.find(joined);
    if (a == vocabulary.ids.end() || b == vocabulary.ids.end() || c == vocabulary.ids.end())
      refuse("a merge does not join two tokens into a third", where(), row);
    parts.merges.push_back({a->second, b->second, static_cast<uint32_t>(rank), c->second});
  }
}

void read_model(const json& model, TokenizerParts& parts) {
  const std::string where = "tokenizer.json: model";
  if (!model.is_object()) refuse("an object is wanted", where, model);
  // Files older than the field have BPE without saying so.
  if (!member(model, "type").is_null() && !is_type(model, "BPE"))
    refuse("the tokenizer's model is not a known one", where + ".type", member(model, "type"),
           is_type(model, "Unigram") ? "BPE; no model that runs here has a Unigram tokenizer (T5 and its like do)"
                                     : "BPE");
  for (const char* key : {"continuing_subword_prefix", "end_of_word_suffix"}) {
    const json& value = member(model, key);
    if (!value.is_null() && value != "") refuse("a tokenizer with this is not known", where + "." + key, value);
  }
  const json& dropout = member(model, "dropout");
  if (!dropout.is_null() && dropout != 0 && dropout != 0.0)
    refuse("merges that are left out at random cannot be reproduced", where + ".dropout", dropout);
  parts.ignore_merges = boolean(model, "ignore_merges", false, where);
  parts.byte_fallback = boolean(model, "byte_fallback", false, where);
  parts.fuse_unknown = boolean(model, "fuse_unk", false, where);
  const Vocabulary vocabulary = read_vocabulary(model, parts);
  if (const json& unknown = member(model, "unk_token"); !unknown.is_null()) {
    const auto found = vocabulary.ids.find(text_of(unknown, where + ".unk_token"));
    if (found == vocabulary.ids.end())
      refuse("the unknown token is not in the vocabulary", where + ".unk_token", unknown);
    parts.unknown = found->second;
  }
  read_merges(model, vocabulary, parts);
}

// The Unicode form that a normalizer's step is, or none.
UnicodeForm unicode_form(const json& step) {
  constexpr std::pair<const char*, UnicodeForm> kForms[] = {
      {"NFC", UnicodeForm::nfc}, {"NFD", UnicodeForm::nfd}, {"NFKC", UnicodeForm::nfkc}, {"NFKD", UnicodeForm::nfkd}};
  for (const auto& [name, form] : kForms)
    if (is_type(step, name)) return form;
  return UnicodeForm::none;
}

void read_byte_level(const json& top, TokenizerParts& parts) {
  parts.model = TokenizerModel::byte_level;
  const json& normalizer = member(top, "normalizer");
  const auto normalizers = steps_of(normalizer, "normalizers", "tokenizer.json: normalizer");
  if (!normalizers.empty()) parts.form = unicode_form(normalizers[0]);
  if (normalizers.size() > 1 || (!normalizers.empty() && parts.form == UnicodeForm::none))
    refuse("the tokenizer's normalizer is not a known one", "tokenizer.json: normalizer", normalizer,
           "none, or one of NFC, NFD, NFKC, NFKD");
  const json& pre = member(top, "pre_tokenizer");
  parts.splits = read_pre_tokenizer(pre);
  // A space in front of the whole stretch has a field of its own.
  if (!parts.splits.empty() && parts.splits.front().puts_space) {
    parts.space_prefix = SpacePrefix::always_unmarked;
    parts.splits.erase(parts.splits.begin());
  }
  if (const PreTokenizer* known = pre_tokenizer_by_steps(parts.splits, parts.form, parts.ignore_merges))
    parts.pre = known->name;
  const json& decoder = member(top, "decoder");
  const auto decoders = steps_of(decoder, "decoders", "tokenizer.json: decoder");
  if (decoders.size() != 1 || !is_type(decoders[0], "ByteLevel"))
    refuse("the tokenizer's decoder is not a known one", "tokenizer.json: decoder", decoder, "ByteLevel");
}

void read_sentencepiece(const json& top, TokenizerParts& parts) {
  parts.model = TokenizerModel::sentencepiece;
  const json& normalizer = member(top, "normalizer");
  const json& pre = member(top, "pre_tokenizer");
  auto normalizers = steps_of(normalizer, "normalizers", "tokenizer.json: normalizer");
  if (!normalizers.empty()) parts.form = unicode_form(normalizers[0]);
  if (parts.form != UnicodeForm::none) normalizers.erase(normalizers.begin());
  auto pre_tokenizers = steps_of(pre, "pretokenizers", "tokenizer.json: pre_tokenizer");
  const std::string mark(kSpaceMark);
  const auto prepends = [&](const json& step) {
    return is_type(step, "Prepend") && member(step, "prepend") == json(mark);
  };
  // Gemma splits at spaces after its normalizer has left none.
  if (!normalizers.empty() && is_replace(normalizers.back(), " ", mark) && pre_tokenizers.size() == 1 &&
      is_type(pre_tokenizers[0], "Split") && member(member(pre_tokenizers[0], "pattern"), "String") == json(" "))
    pre_tokenizers.clear();
  if (normalizers.size() == 2 && pre_tokenizers.empty() && prepends(normalizers[0]) &&
      is_replace(normalizers[1], " ", mark)) {
    parts.space_prefix = SpacePrefix::always;
  } else if (normalizers.size() == 1 && pre_tokenizers.empty() && is_replace(normalizers[0], " ", mark)) {
    parts.space_prefix = SpacePrefix::never;
  } else if (normalizers.empty() && pre_tokenizers.size() == 1 && is_type(pre_tokenizers[0], "Metaspace") &&
             member(pre_tokenizers[0], "replacement") == json(mark) &&
             member(pre_tokenizers[0], "split") == json(false) &&
             member(pre_tokenizers[0], "prepend_scheme").is_string()) {
    const json& scheme = member(pre_tokenizers[0], "prepend_scheme");
    if (scheme == "always")
      parts.space_prefix = SpacePrefix::always_unmarked;
    else if (scheme == "first")
      parts.space_prefix = SpacePrefix::first_unmarked;
    else if (scheme == "never")
      parts.space_prefix = SpacePrefix::never_unmarked;
    else
      refuse("the tokenizer's pre-tokenizer is not a known one", "tokenizer.json: pre_tokenizer", pre);
  } else if (!pre_tokenizers.empty()) {
    refuse("the tokenizer's pre-tokenizer is not a known one", "tokenizer.json: pre_tokenizer", pre,
           "with byte_fallback: none, or Metaspace with prepend_scheme and without split");
  } else {
    refuse("the tokenizer's normalizer is not a known one", "tokenizer.json: normalizer", normalizer,
           "with byte_fallback: Prepend and Replace of spaces by U+2581");
  }
  const json& decoder = member(top, "decoder");
  const auto decoders = steps_of(decoder, "decoders", "tokenizer.json: decoder");
  const bool joins = decoders.size() >= 3 && is_replace(decoders[0], mark, " ") &&
                     is_type(decoders[1], "ByteFallback") && is_type(decoders[2], "Fuse");
  const bool strips = decoders.size() == 4 && is_type(decoders[3], "Strip") &&
                      member(decoders[3], "content") == json(" ") && member(decoders[3], "start") == json(1) &&
                      member(decoders[3], "stop") == json(0);
  if (!joins || (decoders.size() != 3 && !strips))
    refuse("the tokenizer's decoder is not a known one", "tokenizer.json: decoder", decoder,
           "Replace, ByteFallback, Fuse and perhaps Strip");
  parts.strip_first_space = strips;
  if (parts.ignore_merges)
    refuse("a tokenizer with both byte_fallback and ignore_merges is not known", "tokenizer.json: model", json(true));
}

// TemplateProcessing's `single`: special tokens, the text, special tokens.
void read_template(const json& step, TokenizerParts& parts) {
  const std::string where = "tokenizer.json: post_processor";
  const json& single = member(step, "single");
  if (!single.is_array()) refuse("a list is wanted", where + ".single", single);
  bool seen_text = false;
  for (const json& item : single) {
    const json& special = member(item, "SpecialToken");
    if (!member(item, "Sequence").is_null() && special.is_null()) {
      if (seen_text) refuse("a template with the text twice is not known", where + ".single", single);
      seen_text = true;
      continue;
    }
    const std::string& name = text_of(member(special, "id"), where + ".single");
    const json& ids = member(member(member(step, "special_tokens"), name.c_str()), "ids");
    if (!ids.is_array()) refuse("the template's special token is not described", where + ".special_tokens", json(name));
    for (const json& id : ids) (seen_text ? parts.back : parts.front).push_back(id_of(id, where + ".special_tokens"));
  }
  if (!seen_text) refuse("a template without the text is not known", where + ".single", single);
}

void read_post_processor(const json& top, TokenizerParts& parts) {
  const json& post = member(top, "post_processor");
  const auto put = [](const json& step, const char* key, std::vector<int32_t>& ids) {
    const json& token = member(step, key);  // its text and its id
    const std::string where = std::string("tokenizer.json: post_processor.") + key;
    if (!token.is_array() || token.size() != 2) refuse("a token and its id are wanted", where, token);
    ids.push_back(id_of(token[1], where));
  };
  for (const json& step : steps_of(post, "processors", "tokenizer.json: post_processor")) {
    if (is_type(step, "ByteLevel")) continue;  // touches offsets only
    if (is_type(step, "BertProcessing") || is_type(step, "RobertaProcessing")) {
      put(step, "cls", parts.front);
      put(step, "sep", parts.back);
      continue;
    }
    if (!is_type(step, "TemplateProcessing"))
      refuse("the tokenizer's post-processor is not a known one", "tokenizer.json: post_processor", step);
    read_template(step, parts);
  }
}

// Templates by name as tokenizer_config.json has them: one, or several in a list or an object.
std::map<std::string, std::string> chat_templates_of(const json& value) {
  const std::string where = "tokenizer_config.json: chat_template";
  std::map<std::string, std::string> found;
  const auto add = [&](const json& name, const json& text, const json& item) {
    if (!name.is_string() || !text.is_string())
      refuse("a chat template among several has a name and a text", where, item);
    found[name.get<std::string>()] = text.get<std::string>();
  };
  if (value.is_null()) return found;
  if (value.is_string()) return {{"default", value.get<std::string>()}};
  if (!value.is_array() && !value.is_object()) refuse("a chat template is a string, a list or an object", where, value);
  for (const auto& [key, item] : value.items())
    value.is_array() ? add(member(item, "name"), member(item, "template"), item) : add(key, item, item);
  return found;
}

// Files of their own outdo tokenizer_config.json. chat_template.json is of processors: transformers reads it for these
// alone, and then no other; here it counts where there is no other.
std::map<std::string, std::string> read_chat_templates(const std::map<std::string, std::string>& files,
                                                       std::vector<std::string>& notes) {
  constexpr std::string_view kFolder = "additional_chat_templates/", kEnd = ".jinja";
  std::map<std::string, std::string> found;
  for (const auto& [name, text] : files) {
    if (name == "chat_template.jinja") found["default"] = text;
    if (name.starts_with(kFolder) && name.ends_with(kEnd))
      found[name.substr(kFolder.size(), name.size() - kFolder.size() - kEnd.size())] = text;
  }
  const auto config = files.find("tokenizer_config.json");
  if (found.empty() && config != files.end())
    found = chat_templates_of(member(parse_json(config->second, config->first), "chat_template"));
  const auto old = files.find("chat_template.json");
  if (old == files.end()) return found;
  const json text = member(parse_json(old->second, old->first), "chat_template");
  if (!text.is_string()) refuse("a chat template is a string", "chat_template.json: chat_template", text);
  if (found.empty()) {
    notes.push_back("the chat template is that of chat_template.json, which transformers reads for processors alone");
    found["default"] = text.get<std::string>();
  } else if (!found.contains("default") || found["default"] != text.get<std::string>()) {
    notes.push_back("chat_template.json has another chat template, for processors: it is not read");
  }
  return found;
}

}  // namespace

TokenizerParts tokenizer_parts(const std::map<std::string, std::string>& files) {
  const auto found = files.find(kFile);
  if (found == files.end())
    throw Error(ErrorKind::input, "the folder has no tokenizer.json", "", "",
                "other kinds (tokenizer.model, vocab.json) are not read");
  const json top = parse_json(found->second, kFile);
  if (!top.is_object()) refuse("an object is wanted", kFile, top);
  TokenizerParts parts;
  read_model(member(top, "model"), parts);
  read_tokens(top, files, parts);
  if (parts.byte_fallback)
    read_sentencepiece(top, parts);
  else
    read_byte_level(top, parts);
  read_post_processor(top, parts);
  // What stands around a text are GGUF's BOS and EOS.
  const auto text_of_id = [&](int32_t id) { return parts.tokens.at(static_cast<size_t>(id)); };
  const auto settle = [&](int32_t& named, int32_t put, const char* key) {
    if (put >= static_cast<int32_t>(parts.tokens.size())) return;  // refused later
    if (named >= 0 && named != put)
      parts.notes.push_back("tokenizer.json's post_processor puts " + text_of_id(put) + " beside every text, and " +
                            key + " is " + text_of_id(named) + ": a GGUF can say only the first");
    named = put;
  };
  if (!parts.front.empty()) settle(parts.bos, parts.front[0], "bos_token");
  if (!parts.back.empty()) settle(parts.eos, parts.back.back(), "eos_token");
  parts.chat_templates = read_chat_templates(files, parts.notes);
  parts.sampling = read_sampling(files, &parts.notes);
  if (std::string note = class_disagrees(top, files, parts); !note.empty()) parts.notes.push_back(std::move(note));
  return parts;
}

}  // namespace whit
