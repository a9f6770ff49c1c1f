// \s+$: white space up to the end of the text, or up to the last line end of a run. By itself a pattern would try every
// start of a long run anew.
#include "data/pre_tokenizers/scan.h"
#include "data/pre_tokenizers/splitter.h"

namespace whit {

size_t next_piece_last_spaces(std::string_view text) {
  for (size_t at = 0; at < text.size();) {
    const SpaceRun run = space_run(text, at);
    size_t end = run.end;
    if (end != text.size())
      while (end > at && text[end] != '\n') --end;
    if (end > at) return at > 0 ? at : end;
    at = run.end + (run.end < text.size() ? next_code_point(text.substr(run.end)).length : 0);
  }
  return text.size();
}

}  // namespace whit
