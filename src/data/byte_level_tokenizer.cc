// Byte-level BPE: pieces of the pre-tokenizer, each as its bytes, merged.
#include "data/base_tokenizer.h"
#include "data/decoders/byte_level.h"
#include "data/models/bpe.h"
#include "data/pre_tokenizers/split.h"
#include "data/unicode.h"

namespace whit {
namespace {

class ByteLevelTokenizer final : public BaseTokenizer {
 public:
  explicit ByteLevelTokenizer(TokenizerParts parts);
  std::string decode(std::span<const int32_t> ids, bool skip_special) const override;
  std::string kind() const override {
    return "byte-level BPE, " + (parts_.pre.empty() ? "a pattern of its own" : parts_.pre) + ", " +
           std::to_string(vocabulary()) + " tokens";
  }

 private:
  void encode_stretch(std::string_view text, Run& run) const override;
  void encode_text(std::string_view text, Run& run) const;
  void encode_pieces(std::string_view text, std::span<const Split> splits, Run& run) const;
  void encode_piece(std::string_view piece, Run& run) const;
  void merge_piece(std::string_view piece, std::vector<int32_t>& ids) const;

  std::vector<Split> splits_;
  Bpe bpe_;
  AddedTokens normalized_added_;  // looked for after the others
  int32_t byte_ids_[256];
  std::unordered_map<std::string_view, int32_t> whole_;  // with ignore_merges: tokens by their bytes
};

ByteLevelTokenizer::ByteLevelTokenizer(TokenizerParts parts)
    : BaseTokenizer(std::move(parts)),
      splits_(parts_.splits.begin(), parts_.splits.end()),
      bpe_(parts_.merges),
      normalized_added_({}) {
  std::vector<AddedToken> added = normalized_added([](std::string_view content) { return std::string(content); });
  pieces_.reserve(vocabulary());
  for (size_t id = 0; id < vocabulary(); ++id)
    pieces_.push_back(byte_level_bytes(parts_.tokens[id]));  // added tokens too, as Hugging Face's decoder does
  set_pieces(added, byte_level_bytes);
  normalized_added_ = AddedTokens(std::move(added));
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
  text = in_form(text, run);
  if (normalized_added_.empty()) return encode_text(text, run);
  normalized_added_.split(
      text, run.parse_special, [&](std::string_view stretch) { encode_text(stretch, run); },
      [&](int32_t id) { run.out.push_back(id); });
}

void ByteLevelTokenizer::encode_text(std::string_view text, Run& run) const {
  if (parts_.space_prefix != SpacePrefix::never && text[0] != ' ')
    text = run.buffers.emplace_back(" " + std::string(text));
  encode_pieces(text, splits_, run);
}

void ByteLevelTokenizer::encode_pieces(std::string_view text, std::span<const Split> splits, Run& run) const {
  if (splits.empty()) return encode_piece(text, run);
  const Split& split = splits.front();
  const auto rest = splits.subspan(1);
  if (split.puts_space()) {
    if (text[0] != ' ') text = run.buffers.emplace_back(" " + std::string(text));
    encode_pieces(text, rest, run);
  } else if (const Splitter splitter = split.splitter()) {
    while (!text.empty()) {
      const std::string_view piece = text.substr(0, splitter(text));
      text.remove_prefix(piece.size());
      encode_pieces(piece, rest, run);
    }
  } else {
    for (const auto& [begin, end] : split.pieces(text)) encode_pieces(text.substr(begin, end - begin), rest, run);
  }
}

void ByteLevelTokenizer::encode_piece(std::string_view piece, Run& run) const {
  if (const auto known = run.cache.find(piece)) {
    run.out.insert(run.out.end(), known->begin(), known->end());
    return;
  }
  merge_piece(piece, run.scratch);
  run.cache.add(piece, run.scratch);
  run.out.insert(run.out.end(), run.scratch.begin(), run.scratch.end());
}

void ByteLevelTokenizer::merge_piece(std::string_view piece, std::vector<int32_t>& ids) const {
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
