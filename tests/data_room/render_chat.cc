// What tools/chat_renderings.py asks of our interpreter: no test, a program over standard input and output.
//
// A line in: {"template": Jinja, "context": {all variables}, "now": "YYYY-MM-DDTHH:MM:SS"}. A line out: {"text": the
// rendering}, or {"error": what is wrong, "raised": whether the template itself refuses}.
#include <iostream>

#include "base/error.h"
#include "data/chat.h"

namespace whit {
namespace {

Json answer(const std::string& line) {
  try {
    const Json asked = Json::parse(line);
    const ChatTemplate chat(asked.at("template").get_ref<const std::string&>());
    const Json context = asked.value("context", Json::object());
    return {{"text", chat.render_variables(context, parse_chat_date(asked.value("now", "2024-07-26"), "now"))}};
  } catch (const Error& error) {
    return {{"error", error.what()}, {"raised", error.kind() == ErrorKind::usage}};
  }
}

}  // namespace
}  // namespace whit

int main() {
  for (std::string line; std::getline(std::cin, line);)
    std::cout << whit::answer(line).dump(-1, ' ', false, whit::Json::error_handler_t::replace) << std::endl;
  return 0;
}
