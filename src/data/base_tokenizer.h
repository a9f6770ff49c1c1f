// What all tokenizers do alike: added tokens, ends of the text, names, ids.
#pragma once

#include <deque>
#include <functional>
#include <unordered_map>

#include "data/added_tokens.h"
#include "data/models/piece_cache.h"
#include "data/tokenizer_parts.h"

namespace whit {

class BaseTokenizer : public Tokenizer {
 public:
  explicit BaseTokenizer(TokenizerParts parts);

  std::vector<int32_t> encode(std::string_view text, bool add_special, bool parse_special) const final;
  size_t vocabulary() const noexcept final { return parts_.tokens.size(); }
  int32_t bos() const noexcept final { return parts_.front.empty() ? -1 : parts_.front.front(); }
  std::vector<int32_t> ends() const final { return parts_.ends; }
  std::vector<std::string> stop_strings() const final { return parts_.stop_strings; }
  std::vector<std::string> notes() const final { return parts_.notes; }
  bool is_special(int32_t id) const noexcept final;
  std::string chat_template() const final {
    const auto found = parts_.chat_templates.find("default");
    return found == parts_.chat_templates.end() ? std::string() : found->second;
  }
  std::map<std::string, std::string> chat_templates() const final { return parts_.chat_templates; }
  std::map<std::string, std::string> special_tokens() const final { return parts_.special_tokens; }
  std::string piece(int32_t id) const final;

 protected:
  // One text's worth of work.
  struct Run {
    bool parse_special;
    const char* begin;  // of the whole text
    PieceCache cache;
    std::deque<std::string> buffers;  // normalized stretches, which the cache looks into
    std::vector<int32_t> scratch;     // ids of one piece
    std::vector<int32_t>& out;
  };
  // The text in the tokenizer's Unicode form; kept in run.buffers where it differs.
  std::string_view in_form(std::string_view text, Run& run) const;
  // The added tokens that are looked for in the normalized text, with `content` of each as normalized by `normalize`.
  std::vector<AddedToken> normalized_added(const std::function<std::string(std::string_view)>& normalize) const;
  // These decode to their normalized form.
  void set_pieces(const std::vector<AddedToken>& added, std::string (*bytes)(std::string_view));
  // A stretch between the added tokens that are looked for in the raw text.
  virtual void encode_stretch(std::string_view text, Run& run) const = 0;

  bool valid(int32_t id) const noexcept { return id >= 0 && static_cast<size_t>(id) < parts_.tokens.size(); }
  TokenType type(int32_t id) const noexcept { return parts_.types[static_cast<size_t>(id)]; }
  // -1 where no token has this text.
  int32_t id_of(std::string_view token) const noexcept;

  TokenizerParts parts_;
  std::vector<std::string> pieces_;  // the bytes of each token; filled by the derived class
  AddedTokens raw_added_;

 private:
  std::unordered_map<std::string_view, int32_t> ids_;  // views of parts_.tokens
};

std::shared_ptr<const Tokenizer> make_byte_level_tokenizer(TokenizerParts parts);
std::shared_ptr<const Tokenizer> make_sentencepiece_tokenizer(TokenizerParts parts);

}  // namespace whit
