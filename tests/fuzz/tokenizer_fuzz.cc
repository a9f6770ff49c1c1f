// Any text is a tokenizer.json that is understood, or an input Error; a tokenizer made of it takes any bytes, gives ids that
// exist, and is the same after a round trip through GGUF keys.
//
// The input: a tokenizer.json, and after the first NUL byte the text that it is tried on.
#include <string_view>

#include "base/error.h"
#include "data/tokenizer.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace whit;
  const std::string_view input(reinterpret_cast<const char*>(data), size);
  const size_t end = std::min(input.find('\0'), size);
  const std::map<std::string, std::string> files = {{"tokenizer.json", std::string(input.substr(0, end))}};
  const std::string_view text = input.substr(std::min(end + 1, size));
  std::shared_ptr<const Tokenizer> tokenizer;
  try {
    tokenizer = make_tokenizer(files);
  } catch (const Error& error) {
    if (error.kind() != ErrorKind::input) __builtin_trap();
    return 0;
  }
  const std::vector<int32_t> ids = tokenizer->encode(text, true, true);
  for (const int32_t id : ids)
    if (id < 0 || static_cast<size_t>(id) >= tokenizer->vocabulary()) __builtin_trap();
  const std::string decoded = tokenizer->decode(ids, true);
  Utf8Stream stream;
  for (const int32_t id : tokenizer->encode(text, false, false)) stream.push(tokenizer->piece(id));
  stream.finish();

  std::shared_ptr<const Tokenizer> again;
  try {
    again = make_tokenizer(tokenizer_metadata(files, tokenizer->vocabulary() + 3));
  } catch (const Error& error) {
    if (error.kind() != ErrorKind::input) __builtin_trap();
    return 0;  // GGUF cannot say everything
  }
  if (again->encode(text, true, true) != ids || again->decode(ids, true) != decoded) __builtin_trap();
  return 0;
}
