// The parser's own class: expressions in parse_expression.cc, statements in parser.cc.
#pragma once

#include <initializer_list>
#include <string_view>

#include "data/jinja/lexer.h"
#include "data/jinja/syntax.h"

namespace whit::jinja {

class Parser {
 public:
  explicit Parser(std::string_view source) : tokens_(tokenize(source)) {}
  Tree run();

 private:
  using Kind = Expression::Kind;

  // Tokens.
  const Token& current() const { return tokens_[at_]; }
  const Token& ahead() const { return tokens_[std::min(at_ + 1, tokens_.size() - 1)]; }
  Token next() { return tokens_[at_ + 1 < tokens_.size() ? at_++ : at_]; }
  bool is(TokenKind kind) const { return current().kind == kind; }
  bool is_op(std::string_view op) const { return is(TokenKind::op) && current().text == op; }
  bool is_name(std::string_view name) const { return is(TokenKind::name) && current().text == name; }
  bool skip_op(std::string_view op);
  bool skip_name(std::string_view name);
  Token expect(TokenKind kind, const char* what);
  Token expect_op(std::string_view op);
  [[noreturn]] void no_template(const std::string& what, int line) const;

  // Statements.
  Body parse_body(std::initializer_list<std::string_view> ends);
  Body parse_block(std::initializer_list<std::string_view> ends);
  void parse_statement(Body& body);
  Statement parse_condition(int line);
  Statement parse_loop(int line);
  Statement parse_set(int line);
  Statement parse_macro(int line);
  Statement parse_call_block(int line);
  Statement parse_with(int line);
  Statement parse_unsupported(const Token& tag);
  void parse_signature(Statement& statement);
  ExpressionPtr parse_target(bool with_member, bool in_loop = false);
  void check_target(const Expression& target, bool with_member) const;

  // Expressions.
  ExpressionPtr make(Kind kind, int line);
  ExpressionPtr with(ExpressionPtr expression, ExpressionPtr item);  // counts the depth
  ExpressionPtr parse_expression(bool with_condition = true);
  ExpressionPtr parse_condition_expression();
  ExpressionPtr parse_or();
  ExpressionPtr parse_and();
  ExpressionPtr parse_not();
  ExpressionPtr parse_compare();
  ExpressionPtr parse_sum();
  ExpressionPtr parse_concat();
  ExpressionPtr parse_product();
  ExpressionPtr parse_power();
  ExpressionPtr parse_unary(bool with_filter);
  ExpressionPtr parse_primary(bool with_member = false);
  ExpressionPtr parse_name(bool with_member);
  // A tuple where there are commas. `simple`: names and literals alone.
  ExpressionPtr parse_tuple(bool simple, bool with_condition, bool in_parentheses, std::string_view end = {},
                            bool with_member = false);
  ExpressionPtr parse_list();
  ExpressionPtr parse_dict();
  ExpressionPtr parse_postfix(ExpressionPtr expression);
  ExpressionPtr parse_filters(ExpressionPtr expression);  // and tests and calls
  ExpressionPtr parse_filter(ExpressionPtr expression, bool first_without_bar);
  ExpressionPtr parse_test(ExpressionPtr expression);
  ExpressionPtr parse_subscript(ExpressionPtr expression);
  ExpressionPtr parse_index(ExpressionPtr expression, int line);
  void parse_arguments(Expression& call);
  ExpressionPtr binary(ExpressionPtr left, Operator op, ExpressionPtr right, int line);

  // Counts nested calls of the parser.
  class Level {
   public:
    explicit Level(Parser& parser);
    ~Level() { --parser_.level_; }

   private:
    Parser& parser_;
  };

  std::vector<Token> tokens_;
  size_t at_ = 0;
  int level_ = 0;
  int loops_ = 0;  // around the current statement, in the same macro
  Symbols symbols_;
};

}  // namespace whit::jinja
