// Any text is a tokenizer.json that is understood, or an input Error; a tokenizer made of it takes any bytes, gives ids
// that exist, and is the same after a round trip through GGUF keys. Any text that is none is a pattern: it cuts any
// bytes into pieces that cover them, or is an input Error, in time that is bounded.
//
// The input: a tokenizer.json or a pattern, and after the first NUL byte the text that it is tried on.
#include <string_view>

#include "base/error.h"
#include "data/pre_tokenizers/split.h"
#include "data/tokenizer.h"

namespace {

using namespace whit;

void cut(std::string_view pattern, std::string_view text) {
  const Split split({std::string(pattern)});
  if (split.splitter()) return;
  size_t end = 0;
  for (const auto& [first, last] : split.pieces(text)) {
    if (first != end || last <= first) __builtin_trap();
    end = last;
  }
  if (end != text.size()) __builtin_trap();
}

void tokenize(std::string_view file, std::string_view text) {
  const std::map<std::string, std::string> files = {{"tokenizer.json", std::string(file)}};
  const std::shared_ptr<const Tokenizer> tokenizer = make_tokenizer(files);
  const std::vector<int32_t> ids = tokenizer->encode(text, true, true);
  for (const int32_t id : ids)
    if (id < 0 || static_cast<size_t>(id) >= tokenizer->vocabulary()) __builtin_trap();
  const std::string decoded = tokenizer->decode(ids, true);
  Utf8Stream stream;
  for (const int32_t id : tokenizer->encode(text, false, false)) stream.push(tokenizer->piece(id));
  stream.finish();

  // GGUF cannot say everything, which is an input Error too.
  const auto again = make_tokenizer(tokenizer_metadata(files, tokenizer->vocabulary() + 3));
  if (again->encode(text, true, true) != ids || again->decode(ids, true) != decoded) __builtin_trap();
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const std::string_view input(reinterpret_cast<const char*>(data), size);
  const size_t end = std::min(input.find('\0'), size);
  const std::string_view file = input.substr(0, end), text = input.substr(std::min(end + 1, size));
  try {
    if (file.starts_with('{'))
      tokenize(file, text);
    else
      cut(file, text);
  } catch (const Error& error) {
    if (error.kind() != ErrorKind::input) __builtin_trap();
  }
  return 0;
}
