#include "data/pre_tokenizers/pattern.h"

#define PCRE2_CODE_UNIT_WIDTH 8
#include <pcre2.h>

#include <string>

#include "base/error.h"
#include "data/pre_tokenizers/oniguruma.h"
#include "data/unicode.h"

namespace whit {
namespace {

template <class Object, void (*kFree)(Object*)>
struct Freed {
  void operator()(Object* object) const { kFree(object); }
};
template <class Object, void (*kFree)(Object*)>
using Owned = std::unique_ptr<Object, Freed<Object, kFree>>;

// The most steps that matching may take: a published pattern needs some ten for a byte of text, one that backtracks
// without end any number. The least lets short texts have what is quadratic in them.
constexpr size_t kStepsPerByte = 4096, kLeastSteps = 1 << 20;
constexpr uint32_t kMostHeapKib = 256 << 10;

struct Work {
  size_t left;
  PCRE2_SIZE at = 0;  // of the callout before
};

// From callout to callout: one step, and one for every byte between.
int count_steps(pcre2_callout_block* block, void* data) {
  Work& work = *static_cast<Work*>(data);
  if (block->callout_flags & PCRE2_CALLOUT_STARTMATCH) work.at = block->start_match;
  const PCRE2_SIZE now = block->current_position;
  const size_t steps = 1 + (now > work.at ? now - work.at : work.at - now);
  work.at = now;
  if (steps > work.left) return PCRE2_ERROR_CALLOUT;
  work.left -= steps;
  return 0;
}

std::string message_of(int error) {
  PCRE2_UCHAR text[256];
  const int length = pcre2_get_error_message(error, text, sizeof text);
  return length < 0 ? "error " + std::to_string(error) : std::string(reinterpret_cast<const char*>(text));
}

}  // namespace

struct Pattern::Code {
  std::string text;  // as the file spells it, for errors
  Owned<pcre2_code, pcre2_code_free> code;
};

Pattern::~Pattern() = default;
Pattern::Pattern(Pattern&&) noexcept = default;
Pattern& Pattern::operator=(Pattern&&) noexcept = default;

Pattern::Pattern(std::string_view pattern) : code_(std::make_unique<Code>()) {
  code_->text = pattern;
  const std::string translated = pcre2_of_oniguruma(pattern);
  const Owned<pcre2_compile_context, pcre2_compile_context_free> context(pcre2_compile_context_create(nullptr));
  WHIT_CHECK(context != nullptr);
  pcre2_set_newline(context.get(), PCRE2_NEWLINE_LF);
  int error = 0;
  PCRE2_SIZE where = 0;
  code_->code.reset(pcre2_compile(reinterpret_cast<PCRE2_SPTR>(translated.data()), translated.size(),
                                  PCRE2_UTF | PCRE2_UCP | PCRE2_MULTILINE, &error, &where, context.get()));
  if (!code_->code)
    throw Error(ErrorKind::input, "the tokenizer's pattern cannot be read", std::string(pattern.substr(0, 400)),
                message_of(error));
}

std::vector<Pattern::Match> Pattern::find_all(std::string_view text) const {
  Work work{kStepsPerByte * text.size() + kLeastSteps};
  const Owned<pcre2_match_data, pcre2_match_data_free> data(pcre2_match_data_create(1, nullptr));
  const Owned<pcre2_match_context, pcre2_match_context_free> context(pcre2_match_context_create(nullptr));
  WHIT_CHECK(data != nullptr && context != nullptr);
  pcre2_set_callout(context.get(), count_steps, &work);
  pcre2_set_match_limit(context.get(), ~0u);
  pcre2_set_depth_limit(context.get(), ~0u);
  pcre2_set_heap_limit(context.get(), kMostHeapKib);
  std::vector<Match> matches;
  for (size_t at = 0; at <= text.size();) {
    const int found = pcre2_match(code_->code.get(), reinterpret_cast<PCRE2_SPTR>(text.data()), text.size(), at,
                                  PCRE2_NO_UTF_CHECK, data.get(), context.get());
    if (found == PCRE2_ERROR_NOMATCH) break;
    if (found < 0)
      throw Error(ErrorKind::input, "the tokenizer's pattern backtracks without end on this text",
                  code_->text.substr(0, 400), found == PCRE2_ERROR_CALLOUT ? "" : message_of(found));
    const PCRE2_SIZE* bounds = pcre2_get_ovector_pointer(data.get());
    const Match match(bounds[0], bounds[1]);
    if (match.first == match.second && !matches.empty() && matches.back().second == match.second) {
      at += at < text.size() ? next_code_point(text.substr(at)).length : 1;
      continue;
    }
    matches.push_back(match);
    at = match.second;
  }
  return matches;
}

}  // namespace whit
