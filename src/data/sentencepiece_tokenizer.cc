// SentencePiece-style BPE: the text with a mark (U+2581) for every space, merged as a whole; what has no token becomes
// the tokens of its bytes.
#include <algorithm>
#include <deque>
#include <optional>

#include "base/error.h"
#include "data/base_tokenizer.h"
#include "data/models/bpe.h"
#include "data/normalizers/space_marks.h"
#include "data/unicode.h"

namespace whit {
namespace {

class SentencePieceTokenizer final : public BaseTokenizer {
 public:
  explicit SentencePieceTokenizer(TokenizerParts parts);
  std::string decode(std::span<const int32_t> ids, bool skip_special) const override;
  std::string kind() const override { return "SentencePiece BPE, " + std::to_string(vocabulary()) + " tokens"; }

 private:
  void encode_stretch(std::string_view text, Run& run) const override;
  void encode_marked(std::string_view text, Run& run) const;
  void encode_chunk(std::string_view chunk, std::vector<int32_t>& ids) const;
  void build_symbols();
  std::vector<Merge> merges_by_score();
  void build_joints(const std::vector<Merge>& merges);
  std::string_view symbol_text(int32_t symbol) const {
    const auto index = static_cast<size_t>(symbol);
    return index < vocabulary() ? std::string_view(parts_.tokens[index])
                                : std::string_view(extra_[index - vocabulary()]);
  }
  int32_t symbol_of(std::string_view character) const noexcept {
    const auto found = symbols_.find(character);
    return found == symbols_.end() ? -1 : found->second;
  }

  AddedTokens normalized_added_;
  // Characters as symbols: ids of tokens, or numbers past the vocabulary for characters that are only part of tokens.
  std::unordered_map<std::string_view, int32_t> symbols_;
  std::deque<std::string> extra_;
  int32_t byte_ids_[256];
  std::optional<Bpe> bpe_;
  // Neighbouring symbols that some merge joins, as the last of its left side and the first of its right side. Between
  // any other two a text can be cut, and its parts merged apart and remembered.
  std::optional<PairMap<char>> joints_;
};

SentencePieceTokenizer::SentencePieceTokenizer(TokenizerParts parts)
    : BaseTokenizer(std::move(parts)), normalized_added_({}) {
  // Hugging Face looks for the normalized form of such a token, the mark in front included.
  std::vector<AddedToken> added = normalized_added([&](std::string_view content) {
    return marks_late(parts_.space_prefix) ? std::string(content) : mark_spaces(content, parts_.space_prefix, false);
  });
  std::fill(std::begin(byte_ids_), std::end(byte_ids_), -1);
  for (size_t id = 0; id < vocabulary(); ++id) {
    const int byte = byte_token_value(parts_.tokens[id]);
    const bool is_byte = parts_.byte_fallback && byte >= 0 && parts_.types[id] == TokenType::byte;
    if (is_byte) byte_ids_[byte] = static_cast<int32_t>(id);
    pieces_.push_back(is_byte ? std::string(1, static_cast<char>(byte)) : unmark_spaces(parts_.tokens[id]));
  }
  set_pieces(added, unmark_spaces);
  normalized_added_ = AddedTokens(std::move(added));
  build_symbols();
  std::vector<Merge> merges = parts_.scores.empty() ? parts_.merges : merges_by_score();
  bpe_.emplace(merges);
  build_joints(merges);
}

// May a character of a text be this token, or a merge make it? Tokens of other types are never the result of text.
bool is_text(TokenType type) { return type == TokenType::normal || type == TokenType::user_defined; }

void SentencePieceTokenizer::build_symbols() {
  for (size_t id = 0; id < vocabulary(); ++id) {
    const std::string& token = parts_.tokens[id];
    if (token.empty() || !is_text(parts_.types[id])) continue;
    if (next_code_point(token).length == token.size()) symbols_.emplace(token, static_cast<int32_t>(id));
  }
  if (parts_.scores.empty()) return;
  // Where merges follow from the texts of tokens, a character needs no token of its own to be part of one.
  for (size_t id = 0; id < vocabulary(); ++id) {
    if (!is_text(parts_.types[id])) continue;
    for (std::string_view rest = parts_.tokens[id]; !rest.empty();) {
      const std::string_view character = rest.substr(0, next_code_point(rest).length);
      rest.remove_prefix(character.size());
      if (symbols_.count(character)) continue;
      const auto symbol = static_cast<int32_t>(vocabulary() + extra_.size());
      extra_.emplace_back(character);
      symbols_.emplace(extra_.back(), symbol);
    }
  }
}

// SentencePiece joins any two neighbours whose text together is a token, the token of highest score first.
std::vector<Merge> SentencePieceTokenizer::merges_by_score() {
  constexpr size_t kLongestToken = 1024;  // bounds the work for a hostile vocabulary
  std::vector<float> order;
  for (size_t id = 0; id < vocabulary(); ++id) order.push_back(parts_.scores[id]);
  std::sort(order.begin(), order.end(), std::greater<>());
  order.erase(std::unique(order.begin(), order.end()), order.end());
  std::unordered_map<std::string_view, int32_t> texts;  // of symbols and tokens
  for (size_t id = 0; id < vocabulary(); ++id)
    if (is_text(parts_.types[id])) texts.emplace(parts_.tokens[id], static_cast<int32_t>(id));
  for (const auto& [text, symbol] : symbols_) texts.emplace(text, symbol);
  std::vector<Merge> merges;
  for (const auto& [text, id] : texts) {
    if (static_cast<size_t>(id) >= vocabulary() || text.size() < 2) continue;
    if (text.size() > kLongestToken)
      throw Error(ErrorKind::input, "a token is too long", "tokenizer.ggml.tokens[" + std::to_string(id) + "]",
                  std::to_string(text.size()) + " bytes", "at most " + std::to_string(kLongestToken));
    const auto rank = static_cast<uint32_t>(
        std::lower_bound(order.begin(), order.end(), parts_.scores[static_cast<size_t>(id)], std::greater<>()) -
        order.begin());
    for (size_t cut = next_code_point(text).length; cut < text.size();) {
      const auto left = texts.find(text.substr(0, cut)), right = texts.find(text.substr(cut));
      if (left != texts.end() && right != texts.end()) merges.push_back({left->second, right->second, rank, id});
      cut += next_code_point(text.substr(cut)).length;
    }
  }
  return merges;
}

void SentencePieceTokenizer::build_joints(const std::vector<Merge>& merges) {
  joints_.emplace(merges.size());
  for (const Merge& merge : merges) {
    const std::string_view left = symbol_text(merge.left), right = symbol_text(merge.right);
    std::string_view last = left;
    while (!last.empty() && next_code_point(last).length < last.size())
      last.remove_prefix(next_code_point(last).length);
    const int32_t before = symbol_of(last);
    const int32_t after = right.empty() ? -1 : symbol_of(right.substr(0, next_code_point(right).length));
    if (before < 0 || after < 0) {  // merges over something that is no character: texts stay whole
      joints_.reset();
      return;
    }
    joints_->insert(before, after, 1);
  }
}

void SentencePieceTokenizer::encode_stretch(std::string_view text, Run& run) const {
  const bool first = text.data() == run.begin;
  const bool late = marks_late(parts_.space_prefix);
  text = in_form(text, run);
  const auto mark = [&](std::string_view stretch) -> std::string_view {
    const bool begins = first && stretch.data() == text.data();
    return run.buffers.emplace_back(mark_spaces(stretch, parts_.space_prefix, begins));
  };
  normalized_added_.split(
      late ? text : mark(text), run.parse_special,
      [&](std::string_view stretch) { encode_marked(late ? mark(stretch) : stretch, run); },
      [&](int32_t id) { run.out.push_back(id); });
}

void SentencePieceTokenizer::encode_marked(std::string_view text, Run& run) const {
  const size_t start = run.out.size();
  while (!text.empty()) {
    // The longest run of characters that some merge could join.
    size_t end = next_code_point(text).length;
    int32_t last = symbol_of(text.substr(0, end));
    while (end < text.size()) {
      const size_t length = next_code_point(text.substr(end)).length;
      const int32_t next = symbol_of(text.substr(end, length));
      if (joints_ && (last < 0 || next < 0 || !joints_->find(last, next))) break;
      end += length;
      last = next;
    }
    const std::string_view chunk = text.substr(0, end);
    text.remove_prefix(end);
    if (const auto known = run.cache.find(chunk)) {
      run.out.insert(run.out.end(), known->begin(), known->end());
    } else {
      encode_chunk(chunk, run.scratch);
      run.cache.add(chunk, run.scratch);
      run.out.insert(run.out.end(), run.scratch.begin(), run.scratch.end());
    }
  }
  if (!parts_.fuse_unknown || parts_.unknown < 0) return;
  const auto begin = run.out.begin() + static_cast<ptrdiff_t>(start);
  run.out.erase(std::unique(begin, run.out.end(),
                            [&](int32_t a, int32_t b) { return a == parts_.unknown && b == parts_.unknown; }),
                run.out.end());
}

void SentencePieceTokenizer::encode_chunk(std::string_view chunk, std::vector<int32_t>& ids) const {
  ids.clear();
  const auto bytes_of = [&](std::string_view character, std::vector<int32_t>& out) {
    const bool all = std::all_of(character.begin(), character.end(),
                                 [&](char c) { return byte_ids_[static_cast<unsigned char>(c)] >= 0; });
    if (all) {
      for (const char c : character) out.push_back(byte_ids_[static_cast<unsigned char>(c)]);
    } else if (parts_.unknown >= 0) {
      out.push_back(parts_.unknown);
    }
  };
  for (std::string_view rest = chunk; !rest.empty();) {
    const std::string_view character = rest.substr(0, next_code_point(rest).length);
    rest.remove_prefix(character.size());
    if (const int32_t symbol = symbol_of(character); symbol >= 0)
      ids.push_back(symbol);
    else
      bytes_of(character, ids);
  }
  bpe_->merge(ids);
  if (extra_.empty()) return;
  std::vector<int32_t> out;
  for (const int32_t id : ids) {
    if (static_cast<size_t>(id) < vocabulary())
      out.push_back(id);
    else
      bytes_of(symbol_text(id), out);
  }
  ids.swap(out);
}

std::string SentencePieceTokenizer::decode(std::span<const int32_t> ids, bool skip_special) const {
  std::string text, bytes;
  const auto flush = [&] {
    // A run of byte tokens is one string or, where it is not valid, one U+FFFD per byte: Hugging Face's ByteFallback.
    if (find_invalid_utf8(bytes) == std::string_view::npos)
      text += bytes;
    else
      for (size_t i = 0; i < bytes.size(); ++i) text += "\xef\xbf\xbd";
    bytes.clear();
  };
  for (const int32_t id : ids) {
    if (!valid(id) || (skip_special && is_special(id))) continue;
    if (type(id) == TokenType::byte) {
      bytes += pieces_[static_cast<size_t>(id)];
    } else {
      flush();
      text += pieces_[static_cast<size_t>(id)];
    }
  }
  flush();
  if (parts_.strip_first_space && !text.empty() && text[0] == ' ') text.erase(0, 1);
  return replace_invalid_utf8(text);
}

}  // namespace

std::shared_ptr<const Tokenizer> make_sentencepiece_tokenizer(TokenizerParts parts) {
  return std::make_shared<SentencePieceTokenizer>(std::move(parts));
}

}  // namespace whit
