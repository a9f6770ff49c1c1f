// Text to token ids and back: byte-level BPE and SentencePiece-style BPE, exact against Hugging Face tokenizers.
#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/keyvalue.h"

namespace whit {

class Tokenizer {
 public:
  virtual ~Tokenizer() = default;

  // add_special: what the tokenizer puts at the ends (BOS). parse_special: special tokens written in the text become
  // their ids (true for prompts made from a chat template), else they are ordinary text.
  // Any bytes are accepted: invalid UTF-8 is tokenized byte by byte. Linear in the text.
  virtual std::vector<int32_t> encode(std::string_view text, bool add_special, bool parse_special) const = 0;
  // skip_special: leaves special tokens out. The result is valid UTF-8: what is broken becomes U+FFFD.
  virtual std::string decode(std::span<const int32_t> ids, bool skip_special) const = 0;
  // The bytes of one token, for streaming (SentencePiece: with its leading space).
  virtual std::string piece(int32_t id) const = 0;

  virtual size_t vocabulary() const noexcept = 0;  // tokens that have a string; the embedding may have more rows
  virtual int32_t bos() const noexcept = 0;        // the id that add_special puts first, -1: none
  virtual std::vector<int32_t> ends() const = 0;   // ids that end an answer: eos, eot, ...
  virtual std::vector<std::string> stop_strings() const = 0;  // that end an answer, as the model's files say
  virtual bool is_special(int32_t id) const noexcept = 0;
  virtual std::string chat_template() const = 0;  // Jinja source, "" when the model has no default one
  // All that the model has, by name; chat_template() is "default".
  virtual std::map<std::string, std::string> chat_templates() const = 0;
  // "bos_token" ... and their texts, as a chat template reads them.
  virtual std::map<std::string, std::string> special_tokens() const = 0;
  virtual std::string kind() const = 0;           // for people: "byte-level BPE, smollm, 49152 tokens"
  // For people: what was settled where the files say one thing twice, or what they say is not followed.
  virtual std::vector<std::string> notes() const = 0;
};

// From GGUF metadata (tokenizer.* keys). Unknown model, unknown pre-tokenizer, broken merges: ErrorKind::input.
std::shared_ptr<const Tokenizer> make_tokenizer(const KeyValues& metadata);
// From the texts of tokenizer.json, tokenizer_config.json, ... of a folder. A step or a part of a pattern that is not
// read is ErrorKind::input that names it.
std::shared_ptr<const Tokenizer> make_tokenizer(const std::map<std::string, std::string>& files);
// The keys that a GGUF file needs to get the same tokenizer, and how answers are drawn (generation.h); `rows` = embedding rows: [PADi] fills up, and
// tokens without a row are left out, which `notes` says beside the tokenizer's own.
KeyValues tokenizer_metadata(const std::map<std::string, std::string>& files, uint64_t rows,
                             std::vector<std::string>* notes = nullptr);
// The other way: the texts of tokenizer.json, tokenizer_config.json (with the chat template) and
// generation_config.json for the tokenizer of GGUF metadata. Fillers ([PADi]) are left out.
std::map<std::string, std::string> tokenizer_files(const KeyValues& metadata);

// Holds back the bytes of an incomplete UTF-8 sequence between pieces.
class Utf8Stream {
 public:
  std::string push(std::string_view bytes);  // what can be shown now
  std::string finish();                      // the rest, with U+FFFD for broken sequences

 private:
  std::string pending_;
};

}  // namespace whit
