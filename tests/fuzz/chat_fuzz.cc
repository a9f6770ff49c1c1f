// Any text is a chat template that is recognised or not; rendering with it keeps a user's message whole (up to the white
// space at its ends), or says that the template's own system message is not understood.
//
// The input: a template, and after the first NUL byte the message.
#include <algorithm>
#include <string_view>

#include "base/error.h"
#include "data/chat.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace whit;
  const std::string_view input(reinterpret_cast<const char*>(data), size);
  const size_t end = std::min(input.find('\0'), size);
  const std::string_view jinja = input.substr(0, end);
  const std::string message(input.substr(std::min(end + 1, size)));
  std::string core = message;
  const auto blank = [](char c) { return c == ' ' || (c >= '\t' && c <= '\r'); };
  core.erase(std::find_if_not(core.rbegin(), core.rend(), blank).base(), core.end());
  core.erase(core.begin(), std::find_if_not(core.begin(), core.end(), blank));
  const auto recognised = recognise_chat_template(jinja);
  for (const std::string& name : chat_template_names()) {
    const ChatTemplate kind = chat_template_by_name(name);
    if (recognised && !(*recognised == kind)) continue;
    for (const bool thinking : {true, false}) {
      if (!thinking && !kind.has_thinking_switch()) continue;
      try {
        if (render_chat(kind, jinja, {{"user", message}}, thinking).find(core) == std::string::npos) __builtin_trap();
      } catch (const Error& error) {
        if (error.kind() != ErrorKind::input) __builtin_trap();
      }
    }
  }
  return 0;
}
