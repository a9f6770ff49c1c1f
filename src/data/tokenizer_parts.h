// What a tokenizer consists of, whichever file it came from: read by gguf.cc and huggingface.cc, made into a Tokenizer
// by build.cc, written as GGUF keys by gguf.cc.
#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "base/keyvalue.h"
#include "data/added_tokens.h"
#include "data/generation.h"
#include "data/models/bpe.h"
#include "data/normalizers/unicode_form.h"
#include "data/pre_tokenizers/split.h"
#include "data/tokenizer.h"

namespace whit {

// The numbers of tokenizer.ggml.token_type.
enum class TokenType : int32_t { normal = 1, unknown = 2, control = 3, user_defined = 4, unused = 5, byte = 6 };

enum class TokenizerModel { byte_level, sentencepiece };

// Where a space (SentencePiece-style: its mark) is put before a text.
enum class SpacePrefix {
  // By a normalizer: before added tokens are looked for in the normalized text.
  never,
  always,  // before every stretch of text between added tokens
  // By Metaspace (or ByteLevel with add_prefix_space): after all added tokens were found, and not where the stretch
  // begins with a space.
  never_unmarked,   // prepend_scheme "never"
  always_unmarked,  // "always"
  first_unmarked,   // "first": only at the start of the whole text
};
constexpr bool marks_late(SpacePrefix prefix) { return prefix >= SpacePrefix::never_unmarked; }

struct TokenizerParts {
  TokenizerModel model = TokenizerModel::byte_level;
  std::string pre;  // byte-level: the value of tokenizer.ggml.pre for `splits`; empty where none stands for them
  std::vector<SplitStep> splits;  // byte-level: each cuts the pieces of the one before
  UnicodeForm form = UnicodeForm::none;
  std::vector<std::string> tokens;  // by id, in the model's own alphabet (byte-level letters, U+2581 for a space)
  std::vector<TokenType> types;     // as many
  std::vector<Merge> merges;        // ranks rise
  std::vector<float> scores;  // sentencepiece without merges: a pair merges where its text is a token; highest first
  std::vector<AddedToken> added;
  bool ignore_merges = false;  // a piece that is a token is that token
  bool byte_fallback = false;  // a character without token becomes its bytes' tokens
  bool fuse_unknown = false;   // neighbouring unknown tokens are one
  SpacePrefix space_prefix = SpacePrefix::never;
  bool strip_first_space = false;  // decoding takes one space from the front
  int32_t unknown = -1, bos = -1, eos = -1, eot = -1, padding = -1;
  std::vector<int32_t> front, back;  // put around a text by add_special
  std::vector<int32_t> ends;         // ids that end an answer, also past the tokens where the embedding has more rows
  std::vector<std::string> stop_strings;  // that end an answer
  std::map<std::string, std::string> chat_templates;  // Jinja by name, "default" among them
  std::map<std::string, std::string> special_tokens;  // "bos_token" ... and their texts
  Sampling sampling;               // how answers are drawn
  std::vector<std::string> notes;  // for people: what was settled where files say one thing twice
};

TokenizerParts tokenizer_parts(const KeyValues& metadata);
TokenizerParts tokenizer_parts(const std::map<std::string, std::string>& files);
// For an embedding of `rows` rows; tokens past them are left out.
KeyValues tokenizer_keys(TokenizerParts parts, uint64_t rows);

// ErrorKind::input for an id that the vocabulary does not have: before parts become a tokenizer or another file.
void check_token_ids(const TokenizerParts& parts);
// Checks what both kinds of files can get wrong (ids out of range, sizes) and builds.
std::shared_ptr<const Tokenizer> build_tokenizer(TokenizerParts parts);

// Does a token of this text end an answer, whatever else a file says? As in llama.cpp.
bool is_known_end(std::string_view token) noexcept;
// Every id that ends an answer, in order: `ends`, EOS, EOT, and special tokens that are known ends.
std::vector<int32_t> all_ends(const TokenizerParts& parts);

// The value of a token named "<0x41>", or -1.
int byte_token_value(std::string_view token) noexcept;

}  // namespace whit
