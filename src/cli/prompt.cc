#include "cli/prompt.h"

#include <filesystem>

#include "base/file.h"
#include "base/names.h"
#include "cli/named_file.h"
#include "cli/open.h"
#include "data/text.h"

namespace whit {

std::string read_prompt(const std::string& text, const std::string& file, Terminal& terminal) {
  const std::string source = file.empty() ? text : file;
  if (source != "-" && file.empty()) {
    check_utf8(text, "--prompt");
    std::error_code none;
    if (std::filesystem::is_regular_file(text, none))
      terminal.note("the prompt is the name of a file, and is read as it stands; -f " + text + " reads the file");
    return text;
  }
  std::string prompt =
      source == "-" ? checked_text(read_standard_input(), "standard input") : read_text_of("--file", source, terminal);
  if (prompt.starts_with(kByteOrderMark)) prompt.erase(0, 3);
  if (prompt.ends_with('\n')) prompt.pop_back();
  if (prompt.ends_with('\r')) prompt.pop_back();
  return prompt;
}

void check_utf8(const std::string& text, const std::string& where) {
  if (!text.empty()) checked_text(text, where);
}

ChatLine read_chat_line(std::string& line, Terminal& terminal) {
  if (line.ends_with('\r')) line.pop_back();
  if (line.find_first_not_of(" \t") == std::string::npos) return ChatLine::empty;
  try {
    check_utf8(line, "this line");
  } catch (const Error& error) {
    terminal.note("[" + error.message() + " (" + error.found() + "): the line was not sent]");
    return ChatLine::other;
  }
  if (line[0] != '/') return ChatLine::message;
  if (line.starts_with("//")) {
    line.erase(0, 1);
    return ChatLine::message;
  }
  const std::string command = line.substr(0, line.find_first_of(" \t"));
  const bool alone = line.find_first_not_of(" \t", command.size()) == std::string::npos;
  if (alone && (command == "/exit" || command == "/quit" || command == "/bye")) return ChatLine::leave;
  if (alone && (command == "/reset" || command == "/clear")) return ChatLine::reset;
  if (alone && (command == "/help" || command == "/?")) {
    terminal.note(
        "/exit (or Ctrl-D) leaves, /reset forgets what was said, /help shows this. A line that begins with // is sent "
        "with one "
        "slash. Ctrl-C stops an answer.");
    return ChatLine::other;
  }
  const std::string known[] = {"/exit", "/reset", "/help"};
  terminal.note("[" + command + " is no command and was not sent: " + suggest_name(command, known) +
                "; // sends a slash]");
  return ChatLine::other;
}

}  // namespace whit
