#include "evaluate/windows.h"

#include <fmt/format.h>

#include <algorithm>

#include "base/error.h"

namespace whit {

TokenWindows cut_windows(std::vector<int32_t> ids, int32_t bos, uint64_t context, uint64_t limit) {
  if (context < 4)
    throw Error(ErrorKind::usage, "the context is too short to judge a model", "--context", std::to_string(context),
                "at least 4 tokens; 512 is usual");
  if (bos >= 0) ids.insert(ids.begin(), bos);
  TokenWindows result;
  result.context = context;
  result.text_tokens = ids.size();
  uint64_t count = ids.size() / context;
  if (count == 0)
    throw Error(ErrorKind::input, "the text is too short to judge a model", "text",
                fmt::format("{} tokens, one window has {}", ids.size(), context),
                "a longer text, or a smaller --context");
  if (limit) count = std::min(count, limit);
  for (uint64_t w = 0; w < count; ++w) {
    const auto begin = ids.begin() + static_cast<int64_t>(w * context);
    result.windows.emplace_back(begin, begin + static_cast<int64_t>(context));
    if (bos >= 0) result.windows.back().front() = bos;
  }
  return result;
}

TokenWindows judging_windows(const Tokenizer& tokenizer, std::string_view text, uint64_t context, uint64_t limit) {
  // What the tokenizer itself puts before an empty text: BOS or nothing.
  const std::vector<int32_t> ends = tokenizer.encode("", true, false);
  const int32_t bos = !ends.empty() && ends.front() == tokenizer.bos() ? tokenizer.bos() : -1;
  return cut_windows(tokenizer.encode(text, false, false), bos, context, limit);
}

}  // namespace whit
