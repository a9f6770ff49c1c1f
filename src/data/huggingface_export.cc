// GGUF tokenizer keys as the files of a Hugging Face folder: the steps that huggingface_tokenizer.cc knows, written
// out.
#include <algorithm>
#include <map>
#include <nlohmann/json.hpp>
#include <unordered_map>
#include <unordered_set>

#include "base/error.h"
#include "data/generation.h"
#include "data/normalizers/space_marks.h"
#include "data/pre_tokenizers/json_form.h"
#include "data/tokenizer_parts.h"

namespace whit {
namespace {

using nlohmann::json;  // sorted maps: vocabularies have 10^5 keys

json sequence(const char* list, json steps) { return {{"type", "Sequence"}, {list, std::move(steps)}}; }

json replace(const std::string& from, const std::string& to) {
  return {{"type", "Replace"}, {"pattern", {{"String", from}}}, {"content", to}};
}

// The normalizers that bring a text into its Unicode form: one or none.
json unicode_normalizers(UnicodeForm form) {
  static const std::map<UnicodeForm, const char*> kForms = {
      {UnicodeForm::nfc, "NFC"}, {UnicodeForm::nfd, "NFD"}, {UnicodeForm::nfkc, "NFKC"}, {UnicodeForm::nfkd, "NFKD"}};
  json steps = json::array();
  if (const auto found = kForms.find(form); found != kForms.end())
    steps.push_back(json::object({{"type", found->second}}));
  return steps;
}

json normalizer_of(json steps) {
  if (steps.empty()) return nullptr;
  return steps.size() == 1 ? steps[0] : sequence("normalizers", std::move(steps));
}

void add_byte_level(const TokenizerParts& parts, json& top) {
  top["normalizer"] = normalizer_of(unicode_normalizers(parts.form));
  std::vector<SplitStep> splits = parts.splits;
  if (parts.space_prefix != SpacePrefix::never)
    splits.insert(splits.begin(), {{}, SplitBehavior::isolated, false, false, true});
  top["pre_tokenizer"] = write_pre_tokenizer(splits);
  top["decoder"] = {{"type", "ByteLevel"}, {"add_prefix_space", false}, {"trim_offsets", true}, {"use_regex", true}};
}

void add_sentencepiece(const TokenizerParts& parts, json& top) {
  const std::string mark(kSpaceMark);
  json normalizers = unicode_normalizers(parts.form);
  if (parts.space_prefix == SpacePrefix::always) normalizers.push_back({{"type", "Prepend"}, {"prepend", mark}});
  if (!marks_late(parts.space_prefix)) normalizers.push_back(replace(" ", mark));
  top["normalizer"] = normalizer_of(std::move(normalizers));
  top["pre_tokenizer"] = nullptr;
  if (marks_late(parts.space_prefix))
    top["pre_tokenizer"] = {{"type", "Metaspace"},
                            {"replacement", mark},
                            {"prepend_scheme", parts.space_prefix == SpacePrefix::first_unmarked   ? "first"
                                               : parts.space_prefix == SpacePrefix::never_unmarked ? "never"
                                                                                                   : "always"},
                            {"split", false}};
  json decoders = json::array({replace(mark, " "), {{"type", "ByteFallback"}}, {{"type", "Fuse"}}});
  if (parts.strip_first_space) decoders.push_back({{"type", "Strip"}, {"content", " "}, {"start", 1}, {"stop", 0}});
  top["decoder"] = sequence("decoders", std::move(decoders));
}

// Where pairs merge by the score of what they make: every way to make a token of two, best token first. A token with a
// space (Gemma's runs of them, which are added tokens) is none that text merges to: spaces have become marks before.
std::vector<Merge> merges_of_scores(const TokenizerParts& parts) {
  std::unordered_map<std::string_view, int32_t> ids;
  std::vector<int32_t> order;
  for (size_t id = 0; id < parts.tokens.size(); ++id) {
    if (parts.types[id] != TokenType::normal && parts.types[id] != TokenType::user_defined) continue;
    if (parts.tokens[id].find(' ') != std::string::npos) continue;
    ids.emplace(parts.tokens[id], static_cast<int32_t>(id));
    order.push_back(static_cast<int32_t>(id));
  }
  std::stable_sort(order.begin(), order.end(), [&](int32_t a, int32_t b) {
    return parts.scores[static_cast<size_t>(a)] > parts.scores[static_cast<size_t>(b)];
  });
  std::vector<Merge> merges;
  for (const int32_t id : order) {
    const std::string_view token = parts.tokens[static_cast<size_t>(id)];
    for (size_t cut = 1; cut < token.size(); ++cut) {
      if ((static_cast<unsigned char>(token[cut]) & 0xc0) == 0x80) continue;  // inside a character
      const auto left = ids.find(token.substr(0, cut)), right = ids.find(token.substr(cut));
      if (left != ids.end() && right != ids.end())
        merges.push_back({left->second, right->second, static_cast<uint32_t>(merges.size()), id});
    }
  }
  return merges;
}

json model_of(const TokenizerParts& parts) {
  const bool sentencepiece = parts.model == TokenizerModel::sentencepiece;
  json vocabulary = json::object(), merges = json::array();
  for (size_t id = 0; id < parts.tokens.size(); ++id) {
    const std::string& token = parts.tokens[id];
    if (parts.types[id] == TokenType::unused && token == "[PAD" + std::to_string(id) + "]") continue;
    if (!vocabulary.emplace(token, id).second)
      throw Error(ErrorKind::input, "two tokens are the same text, which tokenizer.json cannot say",
                  "tokenizer.ggml.tokens[" + std::to_string(id) + "]", token.substr(0, 200));
  }
  const bool scored = sentencepiece && parts.merges.empty() && !parts.scores.empty();
  const std::vector<Merge> made = scored ? merges_of_scores(parts) : std::vector<Merge>();
  for (const Merge& merge : scored ? made : parts.merges)
    merges.push_back({parts.tokens[static_cast<size_t>(merge.left)], parts.tokens[static_cast<size_t>(merge.right)]});
  return {{"type", "BPE"},
          {"dropout", nullptr},
          {"unk_token", parts.unknown < 0 ? json() : json(parts.tokens[static_cast<size_t>(parts.unknown)])},
          {"continuing_subword_prefix", nullptr},
          {"end_of_word_suffix", nullptr},
          {"fuse_unk", parts.fuse_unknown},
          {"byte_fallback", parts.byte_fallback},
          {"ignore_merges", parts.ignore_merges},
          {"vocab", std::move(vocabulary)},
          {"merges", std::move(merges)}};
}

json post_processor_of(const TokenizerParts& parts) {
  if (parts.front.empty() && parts.back.empty()) return nullptr;
  json single = json::array(), pair = json::array(), specials = json::object();
  const auto put = [&](json& list, const std::vector<int32_t>& ids, int type) {
    for (const int32_t id : ids) {
      const std::string& token = parts.tokens[static_cast<size_t>(id)];
      list.push_back({{"SpecialToken", {{"id", token}, {"type_id", type}}}});
      specials[token] = {{"id", token}, {"ids", {id}}, {"tokens", {token}}};
    }
  };
  const auto text = [&](json& list, const char* name, int type) {
    put(list, parts.front, type);
    list.push_back({{"Sequence", {{"id", name}, {"type_id", type}}}});
    put(list, parts.back, type);
  };
  text(single, "A", 0);
  text(pair, "A", 0);
  text(pair, "B", 1);
  return {{"type", "TemplateProcessing"}, {"single", single}, {"pair", pair}, {"special_tokens", specials}};
}

json added_tokens_of(const TokenizerParts& parts) {
  std::vector<AddedToken> added = parts.added;
  std::sort(added.begin(), added.end(), [](const auto& a, const auto& b) { return a.id < b.id; });
  json list = json::array();
  for (const AddedToken& token : added)
    list.push_back({{"id", token.id},
                    {"content", token.content},
                    {"single_word", token.single_word},
                    {"lstrip", token.lstrip},
                    {"rstrip", token.rstrip},
                    {"normalized", token.normalized},
                    {"special", token.special}});
  return list;
}

}  // namespace

std::map<std::string, std::string> tokenizer_files(const KeyValues& metadata) {
  const TokenizerParts parts = tokenizer_parts(metadata);
  check_token_ids(parts);
  json top = {{"version", "1.0"}, {"truncation", nullptr}, {"padding", nullptr}};
  top["added_tokens"] = added_tokens_of(parts);
  if (parts.model == TokenizerModel::byte_level)
    add_byte_level(parts, top);
  else
    add_sentencepiece(parts, top);
  top["post_processor"] = post_processor_of(parts);
  top["model"] = model_of(parts);

  json config = {{"tokenizer_class", "PreTrainedTokenizerFast"}, {"clean_up_tokenization_spaces", false}};
  // transformers knows these names; others come in a table of their own.
  constexpr std::string_view kNames[] = {"bos_token", "eos_token", "unk_token", "sep_token",
                                         "pad_token", "cls_token", "mask_token"};
  for (const auto& [name, token] : parts.special_tokens)
    (std::find(std::begin(kNames), std::end(kNames), name) != std::end(kNames) ? config
                                                                               : config["extra_special_tokens"])[name] =
        token;
  if (parts.chat_templates.size() == 1 && parts.chat_templates.contains("default")) {
    config["chat_template"] = parts.chat_templates.at("default");
  } else if (!parts.chat_templates.empty()) {
    for (const auto& [name, jinja] : parts.chat_templates)
      config["chat_template"].push_back({{"name", name}, {"template", jinja}});
  }
  const auto text = [](const json& value) { return value.dump(1, ' ', false, json::error_handler_t::replace) + "\n"; };
  std::vector<int32_t> ends = all_ends(parts);
  // EOS is the first where no token is named so.
  std::stable_partition(ends.begin(), ends.end(), [&](int32_t id) { return id == parts.eos; });
  json generation = {{"eos_token_id", ends}};
  if (parts.bos >= 0) generation["bos_token_id"] = parts.bos;
  if (parts.padding >= 0) generation["pad_token_id"] = parts.padding;
  if (!parts.stop_strings.empty()) generation["stop_strings"] = parts.stop_strings;
  write_sampling(parts.sampling, generation);
  return {{"tokenizer.json", text(top)},
          {"tokenizer_config.json", text(config)},
          {"generation_config.json", text(generation)}};
}

}  // namespace whit
