// What a user says to a model, on the command line and in a chat.
#pragma once

#include <string>

#include "cli/terminal.h"

namespace whit {

// The prompt of -p (`text`; "-" is standard input) or of -f (`file`; "-" likewise). What is read loses one newline (LF or
// CR LF) at its end and a byte order mark at its front, which editors and `echo` put there. ErrorKind::input for what is no
// text.
std::string read_prompt(const std::string& text, const std::string& file, Terminal& terminal);

// ErrorKind::input for bytes that are no UTF-8, and NUL.
void check_utf8(const std::string& text, const std::string& where);

// A line of a chat.
enum class ChatLine { message, empty, leave, reset, other };
// What the line asks for. An unknown /command and /help are answered on stderr (`other`); of "//text" the first slash
// is taken away, and it is a message.
ChatLine read_chat_line(std::string& line, Terminal& terminal);

}  // namespace whit
