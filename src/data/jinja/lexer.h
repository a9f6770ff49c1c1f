// A template as tokens, as jinja2's lexer has them with trim_blocks and lstrip_blocks.
#pragma once

#include <string>
#include <string_view>
#include <vector>

namespace whit::jinja {

enum class TokenKind { data, block_begin, block_end, variable_begin, variable_end, name, text, integer, real, op, end };

struct Token {
  TokenKind kind;
  int line;
  std::string text;  // data, name, the text itself (escapes resolved), or the operator
  int64_t integer = 0;
  double real = 0;
};

// Ends with a token of kind `end`. Throws ErrorKind::input that names the line for what is no template.
std::vector<Token> tokenize(std::string_view source);

// For messages: the name or operator itself, or what kind of token it is.
std::string describe(const Token& token);

}  // namespace whit::jinja
