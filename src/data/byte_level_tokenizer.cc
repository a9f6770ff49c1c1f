// Byte-level BPE: pieces of the pre-tokenizer, each as its bytes, merged.
#include "data/base_tokenizer.h"
#include "data/decoders/byte_level.h"
#include "data/models/bpe.h"
#include "data/pre_tokenizers/splitter.h"
#include "data/unicode.h"

namespace whit {
namespace {

class ByteLevelTokenizer final : public BaseTokenizer {
 public:
  explicit ByteLevelTokenizer(TokenizerParts parts);
  std::string decode(std::span<const int32_t> ids, bool skip_special) const override;
  std::string kind() const override {
    return "byte-level BPE, " + parts_.pre + ", " + std::to_string(vocabulary()) + " tokens";
  }

 private:
  void encode_stretch(std::string_view text, Run& run) const override;
  void encode_pieces(std::string_view text, Run& run) const;
  void encode_piece(std::string_view piece, std::vector<int32_t>& ids) const;

  Splitter next_piece_;
  Bpe bpe_;
  AddedTokens normalized_added_;  // there is no normalizer here, but these are looked for after the others
  int32_t byte_ids_[256];
  std::unordered_map<std::string_view, int32_t> whole_;  // with ignore_merges: tokens by their bytes
};

std::vector<AddedToken> looked_for_later(const std::vector<AddedToken>& added) {
  std::vector<AddedToken> later;
  for (const AddedToken& token : added)
    if (token.normalized) later.push_back(token);
  return later;
}

ByteLevelTokenizer::ByteLevelTokenizer(TokenizerParts parts)
    : BaseTokenizer(std::move(parts)),
      next_piece_(splitter_by_name(parts_.pre)),
      bpe_(parts_.merges),
      normalized_added_(looked_for_later(parts_.added)) {
  pieces_.reserve(vocabulary());
  for (size_t id = 0; id < vocabulary(); ++id)
    pieces_.push_back(parts_.types[id] == TokenType::normal ? byte_level_bytes(parts_.tokens[id]) : parts_.tokens[id]);
  for (int byte = 0; byte < 256; ++byte) {
    std::string letter;
    append_utf8(letter, byte_level_letters()[static_cast<size_t>(byte)]);
    const int32_t id = id_of(letter);
    byte_ids_[byte] = id >= 0 ? id : parts_.unknown;
  }
  if (parts_.ignore_merges)
    for (size_t id = 0; id < vocabulary(); ++id)
      if (parts_.types[id] == TokenType::normal) whole_.emplace(pieces_[id], static_cast<int32_t>(id));
}

void ByteLevelTokenizer::encode_stretch(std::string_view text, Run& run) const {
  if (normalized_added_.empty()) return encode_pieces(text, run);
  normalized_added_.split(
      text, run.parse_special, [&](std::string_view stretch) { encode_pieces(stretch, run); },
      [&](int32_t id) { run.out.push_back(id); });
}

void ByteLevelTokenizer::encode_pieces(std::string_view text, Run& run) const {
  std::vector<int32_t> ids;
  while (!text.empty()) {
    const std::string_view piece = text.substr(0, next_piece_(text));
    text.remove_prefix(piece.size());
    if (const auto known = run.cache.find(piece)) {
      run.out.insert(run.out.end(), known->begin(), known->end());
      continue;
    }
    encode_piece(piece, ids);
    run.cache.add(piece, ids);
    run.out.insert(run.out.end(), ids.begin(), ids.end());
  }
}

void ByteLevelTokenizer::encode_piece(std::string_view piece, std::vector<int32_t>& ids) const {
  ids.clear();
  if (parts_.ignore_merges) {
    if (const auto found = whole_.find(piece); found != whole_.end()) {
      ids.push_back(found->second);
      return;
    }
  }
  for (const char c : piece) {
    // A byte that the vocabulary lacks is left out, as Hugging Face's BPE does without an unknown token.
    if (const int32_t id = byte_ids_[static_cast<unsigned char>(c)]; id >= 0) ids.push_back(id);
  }
  bpe_.merge(ids);
}

std::string ByteLevelTokenizer::decode(std::span<const int32_t> ids, bool skip_special) const {
  std::string bytes;
  for (const int32_t id : ids)
    if (valid(id) && !(skip_special && is_special(id))) bytes += pieces_[static_cast<size_t>(id)];
  return replace_invalid_utf8(bytes);
}

}  // namespace

std::shared_ptr<const Tokenizer> make_byte_level_tokenizer(TokenizerParts parts) {
  return std::make_shared<ByteLevelTokenizer>(std::move(parts));
}

}  // namespace whit
