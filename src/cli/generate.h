// Writing an answer token by token, and showing it as it comes.
#pragma once

#include <cstdint>
#include <functional>
#include <span>
#include <string>
#include <vector>

#include "data/tokenizer.h"
#include "model/spec/scorer.h"
#include "runtime/sampler.h"

namespace whit {

// Cuts a stream of text at the first stop string. Text that could be the beginning of one is held back. The text of
// special tokens is looked through too, though it is not shown.
class StopFilter {
 public:
  explicit StopFilter(std::vector<std::string> stops);
  std::string push(const std::string& text, bool shown = true);  // what can be shown now
  std::string finish();                                          // what was held back, unless a stop string came
  bool stopped() const noexcept { return stopped_; }

 private:
  std::string release(size_t count);  // the first `count` bytes of held_, without those that are not shown

  std::vector<std::string> stops_;
  std::string held_;
  std::vector<bool> shown_;  // of each byte of held_
  bool stopped_ = false;
};

struct GenerateOptions {
  uint64_t limit = 256;            // new tokens at most; 0: until the context is full
  std::vector<int32_t> ends;       // ids that end the answer; they are no part of it
  std::vector<std::string> stops;  // strings that end the answer; they are not shown
  bool trim_first_space = false;   // SentencePiece begins an answer with a space that is not meant
};

enum class EndReason { end_token, stop_string, length, context_full, interrupted };
const char* end_reason_text(EndReason reason) noexcept;

struct Answer {
  std::vector<int32_t> ids;  // new ones
  std::string text;
  EndReason reason = EndReason::length;
  uint64_t prompt_tokens = 0;
  double prompt_seconds = 0, answer_seconds = 0;
};

// Feeds `prompt` (not empty) to the session, then samples. `history` holds all ids of the session so far and grows.
// `show` gets the text in pieces that are whole characters; no tokenizer: no text. A context that fills up ends the
// answer.
Answer generate(ScorerSession& session, size_t context, std::span<const int32_t> prompt, std::vector<int32_t>& history,
                Sampler& sampler, const Tokenizer* tokenizer, const GenerateOptions& options,
                const std::function<void(const std::string&)>& show);

}  // namespace whit
