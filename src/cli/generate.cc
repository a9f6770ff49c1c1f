#include "cli/generate.h"

#include <algorithm>
#include <chrono>

#include "base/error.h"
#include "cli/terminal.h"

namespace whit {
namespace {

constexpr size_t prompt_piece = 256;  // tokens between two looks at Ctrl-C

using Clock = std::chrono::steady_clock;
double seconds_since(Clock::time_point start) { return std::chrono::duration<double>(Clock::now() - start).count(); }

}  // namespace

StopFilter::StopFilter(std::vector<std::string> stops) : stops_(std::move(stops)) { std::erase(stops_, std::string()); }

std::string StopFilter::release(size_t count) {
  std::string text;
  for (size_t i = 0; i < count; ++i)
    if (shown_[i]) text.push_back(held_[i]);
  held_.erase(0, count);
  shown_.erase(shown_.begin(), shown_.begin() + static_cast<std::ptrdiff_t>(count));
  return text;
}

std::string StopFilter::push(const std::string& text, bool shown) {
  if (stopped_) return {};
  held_ += text;
  shown_.resize(held_.size(), shown);
  size_t first = std::string::npos;
  for (const std::string& stop : stops_) first = std::min(first, held_.find(stop));
  if (first != std::string::npos) {
    stopped_ = true;
    std::string before = release(first);
    held_.clear();
    return before;
  }
  // The longest end of the text that begins a stop string stays back.
  size_t keep = 0;
  for (const std::string& stop : stops_)
    for (size_t length = std::min(stop.size() - 1, held_.size()); length > keep; --length)
      if (held_.compare(held_.size() - length, length, stop, 0, length) == 0) keep = length;
  return release(held_.size() - keep);
}

std::string StopFilter::finish() { return stopped_ ? std::string() : release(held_.size()); }

const char* end_reason_text(EndReason reason) noexcept {
  switch (reason) {
    case EndReason::end_token:
      return "the model ended it";
    case EndReason::stop_string:
      return "a stop string came";
    case EndReason::length:
      return "-n tokens were written";
    case EndReason::context_full:
      return "the context is full";
    case EndReason::interrupted:
      return stop_text();
  }
  return "";
}

Answer generate(ScorerSession& session, size_t context, std::span<const int32_t> prompt, std::vector<int32_t>& history,
                Sampler& sampler, const Tokenizer* tokenizer, const GenerateOptions& options,
                const std::function<void(const std::string&)>& show) {
  WHIT_CHECK(!prompt.empty() && history.size() == session.position());
  Answer answer;
  answer.prompt_tokens = prompt.size();
  StopFilter filter(options.stops);
  Utf8Stream utf8;
  bool first_piece = options.trim_first_space;
  const auto emit = [&](const std::string& text) {
    if (text.empty()) return;
    answer.text += text;
    if (show) show(text);
  };

  int32_t next = -1;
  const RowVisitor sample = [&](size_t, std::span<const float> logits) { next = sampler.next(logits, history); };
  const auto start = Clock::now();
  for (size_t begin = 0; begin < prompt.size(); begin += prompt_piece) {
    if (interrupt_requested()) {
      answer.reason = EndReason::interrupted;
      answer.prompt_seconds = seconds_since(start);
      return answer;
    }
    const auto piece = prompt.subspan(begin, std::min(prompt_piece, prompt.size() - begin));
    history.insert(history.end(), piece.begin(), piece.end());
    const bool last = begin + piece.size() == prompt.size();
    session.feed(piece, session.position() + piece.size() - (last ? 1 : 0), sample);
  }
  answer.prompt_seconds = seconds_since(start);

  const auto answering = Clock::now();
  for (;;) {
    if (std::find(options.ends.begin(), options.ends.end(), next) != options.ends.end()) {
      answer.reason = EndReason::end_token;
      break;
    }
    answer.ids.push_back(next);
    if (tokenizer) {
      std::string piece = tokenizer->piece(next);
      if (tokenizer->is_special(next)) {
        emit(filter.push(piece, false));
      } else {
        if (first_piece && !piece.empty()) {
          if (piece.front() == ' ') piece.erase(0, 1);
          first_piece = false;
        }
        emit(filter.push(utf8.push(piece)));
      }
      if (filter.stopped()) {
        answer.reason = EndReason::stop_string;
        break;
      }
    }
    if (options.limit && answer.ids.size() >= options.limit) {
      answer.reason = EndReason::length;
      break;
    }
    if (session.position() >= context) {
      answer.reason = EndReason::context_full;
      break;
    }
    if (interrupt_requested()) {
      answer.reason = EndReason::interrupted;
      break;
    }
    history.push_back(next);
    const int32_t id = next;
    session.feed(std::span(&id, 1), session.position(), sample);
  }
  emit(filter.push(utf8.finish()));
  emit(filter.finish());
  answer.answer_seconds = seconds_since(answering);
  return answer;
}

}  // namespace whit
