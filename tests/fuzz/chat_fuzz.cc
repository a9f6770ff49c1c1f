// Any text is a chat template that is rendered or refused, with bounded time and memory.
//
// The input: a template, and after the first NUL byte a JSON object of variables (anything else: two messages).
#include <algorithm>
#include <string_view>

#include "base/error.h"
#include "data/chat.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace whit;
  const std::string_view input(reinterpret_cast<const char*>(data), size);
  const size_t end = std::min(input.find('\0'), size);
  try {
    const ChatTemplate chat(input.substr(0, end));
    const Json given = Json::parse(input.substr(std::min(end + 1, size)), nullptr, false);
    if (given.is_object()) {
      chat.render_variables(given, fixed_chat_date());
    } else {
      ChatOptions options;
      options.thinking = false;
      options.special_tokens = {{"bos_token", "<s>"}, {"eos_token", "</s>"}};
      chat.render(
          Json::array({{{"role", "system"}, {"content", "Be brief."}}, {{"role", "user"}, {"content", "Grüße 😀"}}}),
          options);
      chat.after_answer(options);
    }
  } catch (const Error& error) {
    if (error.kind() != ErrorKind::input && error.kind() != ErrorKind::usage) __builtin_trap();
  }
  return 0;
}
