#include "data/tokenizer.h"
#include "data/unicode.h"

namespace whit {

std::string Utf8Stream::push(std::string_view bytes) {
  pending_.append(bytes);
  const size_t held = incomplete_utf8_tail(pending_);
  const std::string shown = replace_invalid_utf8(std::string_view(pending_).substr(0, pending_.size() - held));
  pending_.erase(0, pending_.size() - held);
  return shown;
}

std::string Utf8Stream::finish() {
  std::string rest = replace_invalid_utf8(pending_);
  pending_.clear();
  return rest;
}

}  // namespace whit
