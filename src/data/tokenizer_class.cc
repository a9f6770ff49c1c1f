#include "data/tokenizer_class.h"

#include <algorithm>
#include <iterator>

#include "base/json.h"
#include "data/pre_tokenizers/splitter.h"

namespace whit {
namespace {

using namespace tokenizer_json;

struct ModelClass {
  const char *model_type, *name;
  bool forced;  // whatever tokenizer_config.json says
};
// Of the families that are read here; a family without a row has the class that its files name.
constexpr char kAsWritten[] = "TokenizersBackend";  // builds what tokenizer.json says
constexpr ModelClass kModelClasses[] = {
    {"gemma3_text", "GemmaTokenizer", false},
    {"gemma3", "GemmaTokenizer", false},
    {"gpt2", "GPT2Tokenizer", false},
    {"opt", "GPT2Tokenizer", false},
    {"qwen3", "Qwen2Tokenizer", false},
    {"qwen2", "Qwen2Tokenizer", true},
    {"mistral", kAsWritten, true},
    {"phi3", kAsWritten, true},
};

std::string without_fast(std::string name) {
  if (name.ends_with("Fast")) name.resize(name.size() - 4);
  return name;
}

std::string class_of(const json& tokenizer, const json& model, bool byte_level) {
  const auto text = [](const json& value) { return value.is_string() ? value.get<std::string>() : std::string(); };
  std::string named = text(member(tokenizer, "tokenizer_class"));
  if (named.empty()) named = text(member(model, "tokenizer_class"));
  named = without_fast(named);
  const std::string type = text(member(model, "model_type"));
  const auto row = std::find_if(std::begin(kModelClasses), std::end(kModelClasses),
                                [&](const ModelClass& each) { return type == each.model_type; });
  const bool known = row != std::end(kModelClasses);
  if (known && (row->forced || named.empty())) return row->name;
  if (byte_level && named == "LlamaTokenizer") return kAsWritten;
  return named;
}

bool is_llama(const json& tokenizer, const TokenizerParts& parts) {
  const bool prefixes = boolean(tokenizer, "add_prefix_space", true, "tokenizer_config.json");
  const bool legacy = boolean(tokenizer, "legacy", false, "tokenizer_config.json");
  const SpacePrefix prefix = !prefixes ? SpacePrefix::never_unmarked
                             : legacy  ? SpacePrefix::always_unmarked
                                       : SpacePrefix::first_unmarked;
  return parts.form == UnicodeForm::none && parts.space_prefix == prefix && parts.strip_first_space == prefixes;
}

bool is_gemma(const TokenizerParts& parts) {
  return parts.form == UnicodeForm::none && !parts.strip_first_space &&
         (parts.space_prefix == SpacePrefix::never || parts.space_prefix == SpacePrefix::never_unmarked);
}

bool is_gpt2(const json& top, const json& tokenizer) {
  const json& pre = member(top, "pre_tokenizer");
  return member(top, "normalizer").is_null() && is_type(pre, "ByteLevel") &&
         boolean(pre, "use_regex", true, "tokenizer.json: pre_tokenizer") &&
         boolean(pre, "add_prefix_space", true, "tokenizer.json: pre_tokenizer") ==
             boolean(tokenizer, "add_prefix_space", false, "tokenizer_config.json");
}

bool is_qwen2(const json& top, const json& tokenizer) {
  const json& steps = member(member(top, "pre_tokenizer"), "pretokenizers");
  if (!is_type(member(top, "normalizer"), "NFC") || !steps.is_array() || steps.size() != 2) return false;
  return member(member(steps[0], "pattern"), "Regex") == json(std::string(kQwen2Pattern)) &&
         is_type(steps[1], "ByteLevel") && !boolean(steps[1], "use_regex", true, "tokenizer.json: pre_tokenizer") &&
         boolean(steps[1], "add_prefix_space", true, "tokenizer.json: pre_tokenizer") ==
             boolean(tokenizer, "add_prefix_space", false, "tokenizer_config.json");
}

}  // namespace

std::string class_disagrees(const json& top, const std::map<std::string, std::string>& files,
                            const TokenizerParts& parts) {
  const auto file = [&](const char* name) {
    const auto found = files.find(name);
    return found == files.end() ? json() : parse_json(found->second, name);
  };
  const json tokenizer = file("tokenizer_config.json");
  const bool byte_level = parts.model == TokenizerModel::byte_level;
  const std::string name = class_of(tokenizer, file("config.json"), byte_level);
  bool same = true;
  if (name == "LlamaTokenizer") same = !byte_level && is_llama(tokenizer, parts);
  if (name == "GemmaTokenizer") same = !byte_level && is_gemma(parts);
  if (name == "GPT2Tokenizer") same = byte_level && !parts.ignore_merges && is_gpt2(top, tokenizer);
  if (name == "Qwen2Tokenizer") same = byte_level && !parts.ignore_merges && is_qwen2(top, tokenizer);
  if (same) return {};
  return "the tokenizer's class " + name +
         " has other steps in transformers 5 (normalizer, pre-tokenizer, decoder) than tokenizer.json says: those of "
         "tokenizer.json are used";
}

}  // namespace whit
