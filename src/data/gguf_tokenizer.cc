// Tokenizers in GGUF metadata. Keys of our own (tokenizer.whit.*) say what ggml's keys cannot; they are written only
// where a tokenizer.json needs them, and other engines skip them.
#include <algorithm>
#include <iterator>
#include <limits>
#include <unordered_map>

#include "base/error.h"
#include "base/json.h"
#include "base/names.h"
#include "data/generation.h"
#include "data/gguf_chat.h"
#include "data/pre_tokenizers/json_form.h"
#include "data/pre_tokenizers/names.h"
#include "data/tokenizer_parts.h"

namespace whit {
namespace {

constexpr char kModel[] = "tokenizer.ggml.model";
constexpr char kPre[] = "tokenizer.ggml.pre";
constexpr char kTokens[] = "tokenizer.ggml.tokens";
constexpr char kTypes[] = "tokenizer.ggml.token_type";
constexpr char kScores[] = "tokenizer.ggml.scores";
constexpr char kMerges[] = "tokenizer.ggml.merges";
constexpr char kBos[] = "tokenizer.ggml.bos_token_id";
constexpr char kEos[] = "tokenizer.ggml.eos_token_id";
constexpr char kEot[] = "tokenizer.ggml.eot_token_id";
constexpr char kEom[] = "tokenizer.ggml.eom_token_id";
constexpr char kEnds[] = "tokenizer.ggml.eos_token_ids";  // Ollama's: i32 array
// What llama.cpp takes for ends besides: fillers and what stands between files of code.
constexpr const char* kCodeEnds[] = {"tokenizer.ggml.fim_pad_token_id", "tokenizer.ggml.fim_rep_token_id",
                                     "tokenizer.ggml.fim_sep_token_id"};
constexpr char kUnknown[] = "tokenizer.ggml.unknown_token_id";
constexpr char kPadding[] = "tokenizer.ggml.padding_token_id";
constexpr char kAddBos[] = "tokenizer.ggml.add_bos_token";
constexpr char kAddEos[] = "tokenizer.ggml.add_eos_token";
constexpr char kAddSpacePrefix[] = "tokenizer.ggml.add_space_prefix";
// Ours.
constexpr char kPreTokenizer[] = "tokenizer.whit.pre_tokenizer";    // string, as tokenizer.json has it: see kUnnamed
constexpr char kIgnoreMerges[] = "tokenizer.whit.ignore_merges";    // bool
constexpr char kForm[] = "tokenizer.whit.unicode_form";             // string, see kFormNames
constexpr char kSpacePrefix[] = "tokenizer.whit.space_prefix";      // string, see kPrefixNames
constexpr char kStripSpace[] = "tokenizer.whit.strip_first_space";  // bool
constexpr char kFuseUnknown[] = "tokenizer.whit.fuse_unknown";      // bool
constexpr char kAddedIds[] = "tokenizer.whit.added_ids";            // i32 array: replaces what token types say
constexpr char kAddedFlags[] = "tokenizer.whit.added_flags";        // i32 array as long
constexpr char kStops[] = "tokenizer.whit.stop_strings";            // string array

// What tokenizer.ggml.pre says where no name stands for the steps, which kPreTokenizer then has. No program knows it:
// to refuse the file is right, to cut the text in another way is not.
constexpr char kUnnamed[] = "whit-pattern";

// Values of a key, by name.
template <class Value>
struct Name {
  Value value;
  const char* name;
};
constexpr Name<UnicodeForm> kFormNames[] = {
    {UnicodeForm::none, "none"}, {UnicodeForm::nfc, "nfc"},   {UnicodeForm::nfd, "nfd"},
    {UnicodeForm::nfkc, "nfkc"}, {UnicodeForm::nfkd, "nfkd"},
};
constexpr Name<SpacePrefix> kPrefixNames[] = {
    {SpacePrefix::never, "never"},
    {SpacePrefix::always, "always"},
    {SpacePrefix::never_unmarked, "never-unmarked"},
    {SpacePrefix::always_unmarked, "always-unmarked"},
    {SpacePrefix::first_unmarked, "first-unmarked"},
};

template <class Value, size_t kCount>
Value named(const KeyValues& metadata, const char* key, const Name<Value> (&names)[kCount], Value fallback) {
  if (!metadata.has(key)) return fallback;
  const std::string& found = metadata.string(key);
  std::vector<std::string> known;
  for (const Name<Value>& row : names) {
    if (found == row.name) return row.value;
    known.push_back(row.name);
  }
  throw Error(ErrorKind::input, "the tokenizer has a key with an unknown value", key, found,
              suggest_name(found, known));
}

template <class Value, size_t kCount>
std::string name_of(Value value, const Name<Value> (&names)[kCount]) {
  for (const Name<Value>& row : names)
    if (row.value == value) return row.name;
  throw Error(ErrorKind::internal, "a value without a name");
}

int32_t flags_of(const AddedToken& token) {
  return (token.single_word ? 1 : 0) | (token.lstrip ? 2 : 0) | (token.rstrip ? 4 : 0) | (token.normalized ? 8 : 0) |
         (token.special ? 16 : 0);
}

std::vector<TokenType> read_types(const KeyValues& metadata, size_t tokens) {
  std::vector<TokenType> types(tokens, TokenType::normal);
  const auto* numbers = metadata.array<int32_t>(kTypes);
  if (!numbers) return types;
  if (numbers->size() != tokens)
    throw Error(ErrorKind::input, "token types and tokens differ in number", kTypes, std::to_string(numbers->size()),
                std::to_string(tokens) + " tokens");
  for (size_t i = 0; i < tokens; ++i) {
    const int32_t number = (*numbers)[i];
    if (number < 0 || number > 6)
      throw Error(ErrorKind::input, "unknown token type", std::string(kTypes) + "[" + std::to_string(i) + "]",
                  std::to_string(number), "types are 1 to 6");
    types[i] = number == 0 ? TokenType::normal : static_cast<TokenType>(number);
  }
  return types;
}

// "left right": cut at the first space that leaves two tokens whose join is one too.
std::vector<Merge> read_merges(const std::vector<std::string>& rows, const std::vector<std::string>& tokens) {
  std::unordered_map<std::string_view, int32_t> ids;
  ids.reserve(tokens.size());
  for (size_t id = 0; id < tokens.size(); ++id) ids.emplace(tokens[id], static_cast<int32_t>(id));
  std::vector<Merge> merges;
  merges.reserve(rows.size());
  std::string joined;
  for (size_t rank = 0; rank < rows.size(); ++rank) {
    const std::string_view row = rows[rank];
    bool found = false;
    for (size_t cut = row.find(' ', 1); !found && cut != std::string_view::npos; cut = row.find(' ', cut + 1)) {
      const auto left = ids.find(row.substr(0, cut)), right = ids.find(row.substr(cut + 1));
      if (left == ids.end() || right == ids.end()) continue;
      joined.assign(left->first);
      joined += right->first;
      const auto result = ids.find(joined);
      if (result == ids.end()) continue;
      merges.push_back({left->second, right->second, static_cast<uint32_t>(rank), result->second});
      found = true;
    }
    if (!found)
      throw Error(ErrorKind::input, "a merge does not join two tokens into a third",
                  std::string(kMerges) + "[" + std::to_string(rank) + "]", std::string(row.substr(0, 200)));
  }
  return merges;
}

void read_splits(const KeyValues& metadata, TokenizerParts& parts) {
  if (metadata.has(kPreTokenizer)) {
    parts.splits = read_pre_tokenizer(parse_json(metadata.string(kPreTokenizer), kPreTokenizer));
    return;
  }
  parts.pre = metadata.string(kPre, "");
  if (parts.pre.empty()) {
    parts.pre = "default";
    parts.notes.push_back(
        "the file does not say how its tokenizer cuts text (tokenizer.ggml.pre): read as \"default\", as other programs "
        "do; wrong where the model was trained with another");
  }
  parts.splits = split_steps(pre_tokenizer_by_name(parts.pre));
}

// Phi-3's special tokens swallow the white space after them, which ggml's keys cannot say. It is the one model of this
// architecture with a SentencePiece tokenizer and these tokens (Phi-4 mini has a byte-level one).
bool has_phi3_tokens(const TokenizerParts& parts) {
  constexpr std::string_view kTurns[] = {"<|user|>", "<|assistant|>", "<|end|>"};
  return parts.model == TokenizerModel::sentencepiece &&
         std::all_of(std::begin(kTurns), std::end(kTurns), [&](std::string_view turn) {
           return std::find(parts.tokens.begin(), parts.tokens.end(), turn) != parts.tokens.end();
         });
}

bool is_phi3(const KeyValues& metadata, const TokenizerParts& parts) {
  return metadata.string("whit.base_architecture", metadata.string("general.architecture", "")) == "phi3" &&
         has_phi3_tokens(parts);
}

std::vector<int32_t> read_ends(const KeyValues& metadata) {
  std::vector<int32_t> ends;
  const auto add = [&](auto id) {
    if (id >= 0 && static_cast<uint64_t>(id) <= static_cast<uint64_t>(std::numeric_limits<int32_t>::max()))
      ends.push_back(static_cast<int32_t>(id));
    else
      throw Error(ErrorKind::input, "a token id of the tokenizer is out of range", kEnds, std::to_string(id));
  };
  if (const Value* value = metadata.find(kEnds); value && std::holds_alternative<std::vector<uint32_t>>(*value)) {
    for (const uint32_t id : *metadata.array<uint32_t>(kEnds)) add(int64_t{id});
  } else if (value) {
    for (const int32_t id : *metadata.array<int32_t>(kEnds)) add(id);
  }
  if (const int32_t eom = token_id(metadata, kEom); eom >= 0) ends.push_back(eom);
  for (const char* key : kCodeEnds)
    if (const int32_t id = token_id(metadata, key); id >= 0) ends.push_back(id);
  return ends;
}

void read_added(const KeyValues& metadata, TokenizerParts& parts) {
  if (const auto* ids = metadata.array<int32_t>(kAddedIds)) {
    const auto* flags = metadata.array<int32_t>(kAddedFlags);
    if (!flags || flags->size() != ids->size())
      throw Error(ErrorKind::input, "the list of added tokens and that of their flags differ in length", kAddedFlags);
    for (size_t i = 0; i < ids->size(); ++i) {
      const int32_t id = (*ids)[i], flag = (*flags)[i];
      if (id < 0 || static_cast<size_t>(id) >= parts.tokens.size())
        throw Error(ErrorKind::input, "a token id of the tokenizer is out of range", kAddedIds, std::to_string(id));
      parts.added.push_back({id, parts.tokens[static_cast<size_t>(id)], (flag & 1) != 0, (flag & 2) != 0,
                             (flag & 4) != 0, (flag & 8) != 0, (flag & 16) != 0});
    }
    return;
  }
  const bool phi3 = is_phi3(metadata, parts);
  for (size_t id = 0; id < parts.tokens.size(); ++id) {
    TokenType& type = parts.types[id];
    // Converters that knew no better left them normal: llama.cpp takes them for control tokens by their text.
    if ((type == TokenType::normal || type == TokenType::user_defined) && is_known_end(parts.tokens[id]))
      type = TokenType::control;
    if (type != TokenType::control && type != TokenType::unknown && type != TokenType::user_defined) continue;
    AddedToken token;
    token.id = static_cast<int32_t>(id);
    token.content = parts.tokens[id];
    token.special = type != TokenType::user_defined;
    token.rstrip =
        phi3 && token.special && token.content != "<unk>" && token.content != "<s>" && token.content != "<|endoftext|>";
    parts.added.push_back(std::move(token));
  }
}

}  // namespace

TokenizerParts tokenizer_parts(const KeyValues& metadata) {
  TokenizerParts parts;
  const std::string& model = metadata.string(kModel);
  if (model == "gpt2") {
    parts.model = TokenizerModel::byte_level;
    read_splits(metadata, parts);
  } else if (model == "llama") {
    parts.model = TokenizerModel::sentencepiece;
  } else {
    const std::vector<std::string> known = {"gpt2", "llama"};
    throw Error(ErrorKind::input, "the tokenizer's model is not a known one", kModel, model,
                model == "t5" ? "gpt2 or llama; no model that runs here has a Unigram tokenizer (T5 and its like do)"
                              : suggest_name(model, known));
  }
  const auto* tokens = metadata.array<std::string>(kTokens);
  if (!tokens || tokens->empty())
    throw Error(ErrorKind::input, "the tokenizer has no tokens", kTokens, tokens ? "empty" : "absent");
  if (tokens->size() > static_cast<size_t>(std::numeric_limits<int32_t>::max()) / 2)
    throw Error(ErrorKind::input, "the tokenizer has too many tokens", kTokens, std::to_string(tokens->size()));
  parts.tokens = *tokens;
  parts.types = read_types(metadata, tokens->size());
  if (const auto* merges = metadata.array<std::string>(kMerges)) parts.merges = read_merges(*merges, *tokens);
  if (parts.model == TokenizerModel::byte_level && !metadata.has(kMerges))
    throw Error(ErrorKind::input, "a byte-level tokenizer needs merges", kMerges, "absent");
  if (parts.model == TokenizerModel::sentencepiece && !metadata.has(kMerges)) {
    const auto* scores = metadata.array<float>(kScores);
    if (!scores || scores->size() != tokens->size())
      throw Error(ErrorKind::input, "a SentencePiece tokenizer needs one score per token", kScores,
                  scores ? std::to_string(scores->size()) + " scores" : "absent",
                  std::to_string(tokens->size()) + " tokens");
    for (const float score : *scores)
      if (score != score) throw Error(ErrorKind::input, "a token's score is not a number", kScores, "nan");
    parts.scores = *scores;
  }
  read_added(metadata, parts);

  const bool sentencepiece = parts.model == TokenizerModel::sentencepiece;
  const PreTokenizer defaults = parts.pre.empty() ? PreTokenizer{} : pre_tokenizer_by_name(parts.pre);
  parts.unknown = token_id(metadata, kUnknown);
  parts.bos = token_id(metadata, kBos);
  parts.eos = token_id(metadata, kEos);
  parts.eot = token_id(metadata, kEot);
  parts.padding = token_id(metadata, kPadding);
  if (sentencepiece) {
    // ggml's defaults for this model.
    if (!metadata.has(kUnknown)) parts.unknown = 0;
    if (!metadata.has(kBos)) parts.bos = 1;
    if (!metadata.has(kEos)) parts.eos = 2;
    parts.byte_fallback = true;
    parts.fuse_unknown = metadata.boolean(kFuseUnknown, true);
    parts.space_prefix = metadata.boolean(kAddSpacePrefix, true) ? SpacePrefix::always : SpacePrefix::never;
    parts.strip_first_space = metadata.boolean(kStripSpace, parts.space_prefix == SpacePrefix::always);
  }
  parts.space_prefix = named(metadata, kSpacePrefix, kPrefixNames, parts.space_prefix);
  parts.form = named(metadata, kForm, kFormNames, defaults.form);
  parts.ignore_merges = metadata.boolean(kIgnoreMerges, defaults.ignore_merges);
  parts.ends = read_ends(metadata);
  if (const auto* stops = metadata.array<std::string>(kStops)) parts.stop_strings = *stops;
  if (metadata.boolean(kAddBos, sentencepiece || defaults.adds_bos) && parts.bos >= 0) parts.front.push_back(parts.bos);
  if (metadata.boolean(kAddEos, false) && parts.eos >= 0) parts.back.push_back(parts.eos);
  read_chat(metadata, parts);
  parts.sampling = read_sampling(metadata, &parts.notes);
  return parts;
}

namespace {

// Leaves out the tokens that an embedding of `rows` rows does not have: no model can say or hear them.
void leave_out_past(uint64_t rows, TokenizerParts& parts) {
  const auto past = [&](int32_t id) { return id >= 0 && static_cast<uint64_t>(id) >= rows; };
  std::erase_if(parts.ends, past);
  if (parts.tokens.size() <= rows) return;
  for (const auto* ends : {&parts.front, &parts.back})
    for (const int32_t id : *ends)
      if (past(id))
        throw Error(ErrorKind::input, "a token that is put around every text has no row in the embedding",
                    parts.tokens[static_cast<size_t>(id)], std::to_string(id), std::to_string(rows) + " rows");
  parts.tokens.resize(rows);
  parts.types.resize(rows);
  if (!parts.scores.empty()) parts.scores.resize(rows);
  std::erase_if(parts.merges,
                [&](const Merge& merge) { return past(merge.left) || past(merge.right) || past(merge.result); });
  std::erase_if(parts.added, [&](const AddedToken& token) { return past(token.id); });
  for (int32_t* id : {&parts.unknown, &parts.bos, &parts.eos, &parts.eot, &parts.padding})
    if (past(*id)) *id = -1;
  std::erase_if(parts.special_tokens, [&](const auto& named) { return id_of_token(parts, named.second) < 0; });
}

}  // namespace

KeyValues tokenizer_keys(TokenizerParts parts, uint64_t rows) {
  check_token_ids(parts);
  leave_out_past(rows, parts);
  const bool sentencepiece = parts.model == TokenizerModel::sentencepiece;
  const size_t known = parts.tokens.size();
  if (parts.front.size() > 1 || parts.back.size() > 1 || (!parts.front.empty() && parts.front[0] != parts.bos) ||
      (!parts.back.empty() && parts.back[0] != parts.eos))
    throw Error(ErrorKind::input, "GGUF can say only that BOS is put before a text and EOS after it", "post_processor");

  KeyValues keys;
  keys.set(kModel, std::string(sentencepiece ? "llama" : "gpt2"));
  keys.set(kPre, sentencepiece ? std::string("default") : parts.pre.empty() ? std::string(kUnnamed) : parts.pre);
  if (!sentencepiece && parts.pre.empty()) keys.set(kPreTokenizer, write_pre_tokenizer(parts.splits).dump());
  std::vector<std::string> tokens = parts.tokens;
  std::vector<int32_t> types;
  for (const TokenType type : parts.types) types.push_back(static_cast<int32_t>(type));
  for (size_t id = known; id < rows; ++id) {
    tokens.push_back("[PAD" + std::to_string(id) + "]");
    types.push_back(static_cast<int32_t>(TokenType::unused));
  }

  if (sentencepiece) {
    // What no merge makes gets the lowest score of all, so that engines which know scores alone join it last.
    std::vector<float> scores(rows, -static_cast<float>(parts.merges.size()) - 1);
    if (!parts.scores.empty()) std::copy(parts.scores.begin(), parts.scores.end(), scores.begin());
    for (auto merge = parts.merges.rbegin(); merge != parts.merges.rend(); ++merge)
      scores[static_cast<size_t>(merge->result)] = -static_cast<float>(merge->rank);
    keys.set(kScores, std::move(scores));
  }
  std::vector<std::string> merges;
  merges.reserve(parts.merges.size());
  for (const Merge& merge : parts.merges) {
    const std::string &left = tokens[static_cast<size_t>(merge.left)],
                      &right = tokens[static_cast<size_t>(merge.right)];
    // No text reaches a merge with a space: it has become a mark or a letter before.
    if (left.find(' ') == std::string::npos && right.find(' ') == std::string::npos)
      merges.push_back(left + " " + right);
  }
  keys.set(kTokens, std::move(tokens));
  keys.set(kTypes, std::move(types));
  if (!sentencepiece || !merges.empty()) keys.set(kMerges, std::move(merges));

  // ggml has defaults for some; all ones (-1) says that there is no such token.
  const auto id = [&](const char* key, int32_t value, bool has_default) {
    if (value >= 0 || has_default) keys.set(key, static_cast<uint32_t>(value));
  };
  id(kBos, parts.bos, sentencepiece);
  id(kEos, parts.eos, sentencepiece);
  id(kEot, parts.eot, false);
  id(kUnknown, parts.unknown, sentencepiece);
  id(kPadding, parts.padding, false);
  keys.set(kAddBos, !parts.front.empty());
  keys.set(kAddEos, !parts.back.empty());
  keys.set(kAddSpacePrefix, sentencepiece && parts.space_prefix != SpacePrefix::never &&
                                parts.space_prefix != SpacePrefix::never_unmarked);
  write_chat(parts, keys);
  write_sampling(parts.sampling, keys);
  const PreTokenizer defaults = parts.pre.empty() ? PreTokenizer{} : pre_tokenizer_by_name(parts.pre);
  if (parts.form != defaults.form) keys.set(kForm, name_of(parts.form, kFormNames));
  if (parts.space_prefix != SpacePrefix::never && (!sentencepiece || parts.space_prefix != SpacePrefix::always))
    keys.set(kSpacePrefix, name_of(parts.space_prefix, kPrefixNames));
  if (sentencepiece) {
    const bool prefixes = keys.boolean(kAddSpacePrefix, false);
    if (parts.strip_first_space != prefixes) keys.set(kStripSpace, parts.strip_first_space);
    if (!parts.fuse_unknown) keys.set(kFuseUnknown, false);
  }
  if (parts.ignore_merges != defaults.ignore_merges) keys.set(kIgnoreMerges, parts.ignore_merges);

  TokenizerParts plain;  // what a reader would take the added tokens to be from the types alone
  plain.tokens = parts.tokens;
  plain.types = parts.types;
  plain.eos = parts.eos;
  plain.eot = parts.eot;
  read_added({}, plain);
  if (const auto ends = all_ends(parts); ends != all_ends(plain)) keys.set(kEnds, ends);
  if (!parts.stop_strings.empty()) keys.set(kStops, parts.stop_strings);
  const auto summary = [](const std::vector<AddedToken>& added) {
    std::vector<std::pair<int32_t, int32_t>> items;
    for (const AddedToken& token : added) items.emplace_back(token.id, flags_of(token));
    std::sort(items.begin(), items.end());
    return items;
  };
  // Where a reader's view depends on the architecture, which is not known here, the flags are written too.
  if (const auto items = summary(parts.added); items != summary(plain.added) || has_phi3_tokens(parts)) {
    std::vector<int32_t> ids, flags;
    for (const auto& [token, flag] : items) {
      ids.push_back(token);
      flags.push_back(flag);
    }
    keys.set(kAddedIds, std::move(ids));
    keys.set(kAddedFlags, std::move(flags));
  }
  return keys;
}

}  // namespace whit
