#include "data/jinja/parser.h"

#include <algorithm>

#include "base/error.h"

namespace whit::jinja {
namespace {

constexpr int kDeepest = 300;  // nested statements, brackets and operators without brackets

}  // namespace

Parser::Level::Level(Parser& parser) : parser_(parser) {
  if (++parser.level_ > kDeepest) refuse(parser.current().line, "more than " + std::to_string(kDeepest) + " levels");
}

void Parser::no_template(const std::string& what, int line) const {
  throw Error(ErrorKind::input, "the chat template cannot be read", template_line(line), what);
}

bool Parser::skip_op(std::string_view op) {
  if (!is_op(op)) return false;
  next();
  return true;
}

bool Parser::skip_name(std::string_view name) {
  if (!is_name(name)) return false;
  next();
  return true;
}

Token Parser::expect(TokenKind kind, const char* what) {
  if (!is(kind)) no_template(std::string("expected ") + what + ", found '" + describe(current()) + "'", current().line);
  return next();
}

Token Parser::expect_op(std::string_view op) {
  if (!is_op(op))
    no_template("expected '" + std::string(op) + "', found '" + describe(current()) + "'", current().line);
  return next();
}

Tree Parser::run() {
  Tree tree;
  tree.body = parse_body({});
  tree.symbols = std::move(symbols_);
  return tree;
}

// Up to a block that begins with one of `ends`, whose name is the current token then; without ends to the end.
Body Parser::parse_body(std::initializer_list<std::string_view> ends) {
  const Level level(*this);
  Body body;
  const auto output = [&](ExpressionPtr expression) {
    if (body.empty() || body.back().kind != Statement::Kind::output) {
      body.emplace_back();
      body.back().kind = Statement::Kind::output;
      body.back().line = expression->line;
    }
    body.back().expressions.push_back(std::move(expression));
  };
  while (!is(TokenKind::end)) {
    const Token token = next();
    if (token.kind == TokenKind::data) {
      auto data = make(Kind::constant, token.line);
      data->value = Value::constant(token.text);
      if (!token.text.empty()) output(std::move(data));
    } else if (token.kind == TokenKind::variable_begin) {
      output(parse_tuple(false, true, false));
      expect(TokenKind::variable_end, "end of print statement");
    } else {
      if (is(TokenKind::name) && std::find(ends.begin(), ends.end(), current().text) != ends.end()) return body;
      parse_statement(body);
      expect(TokenKind::block_end, "end of statement block");
    }
  }
  if (ends.size() > 0)
    no_template("Unexpected end of template, '" + std::string(*ends.begin()) + "' is missing", current().line);
  return body;
}

Body Parser::parse_block(std::initializer_list<std::string_view> ends) {
  skip_op(":");
  expect(TokenKind::block_end, "end of statement block");
  return parse_body(ends);
}

void Parser::parse_statement(Body& body) {
  const Token tag = expect(TokenKind::name, "a tag's name");
  const std::string& name = tag.text;
  const auto simple = [&](Statement::Kind kind) {
    Statement statement;
    statement.kind = kind;
    statement.line = tag.line;
    return statement;
  };
  // The body of a macro is a function of its own: no loop around it can be left from there.
  const auto in_function = [&](auto parse) {
    const int loops = std::exchange(loops_, 0);
    Statement statement = parse();
    loops_ = loops;
    return statement;
  };
  if (name == "if") {
    body.push_back(parse_condition(tag.line));
  } else if (name == "for") {
    body.push_back(parse_loop(tag.line));
  } else if (name == "set") {
    body.push_back(parse_set(tag.line));
  } else if (name == "macro") {
    body.push_back(in_function([&] { return parse_macro(tag.line); }));
  } else if (name == "call") {
    body.push_back(in_function([&] { return parse_call_block(tag.line); }));
  } else if (name == "with") {
    body.push_back(parse_with(tag.line));
  } else if (name == "filter") {
    Statement statement = simple(Statement::Kind::filter_block);
    statement.expressions.push_back(parse_filter(nullptr, true));
    statement.bodies.push_back(parse_block({"endfilter"}));
    next();
    body.push_back(std::move(statement));
  } else if (name == "generation") {
    body.push_back(in_function([&] {
      Statement statement = simple(Statement::Kind::generation);
      statement.bodies.push_back(parse_block({"endgeneration"}));
      next();
      return statement;
    }));
  } else if (name == "print") {
    Statement statement = simple(Statement::Kind::output);
    while (!is(TokenKind::block_end)) {
      if (!statement.expressions.empty()) expect_op(",");
      statement.expressions.push_back(parse_expression());
    }
    body.push_back(std::move(statement));
  } else if (name == "break" || name == "continue") {
    if (loops_ == 0) no_template("'" + name + "' outside of a loop", tag.line);
    body.push_back(simple(name == "break" ? Statement::Kind::stop : Statement::Kind::next));
  } else {
    body.push_back(parse_unsupported(tag));
  }
}

Statement Parser::parse_condition(int line) {
  Statement statement;
  statement.kind = Statement::Kind::condition;
  statement.line = line;
  for (;;) {
    statement.expressions.push_back(parse_tuple(false, false, false));
    statement.bodies.push_back(parse_block({"elif", "else", "endif"}));
    const std::string end = next().text;
    if (end == "elif") continue;
    if (end == "else") {
      statement.bodies.push_back(parse_block({"endif"}));
      next();
    }
    return statement;
  }
}

Statement Parser::parse_loop(int line) {
  Statement statement;
  statement.kind = Statement::Kind::loop;
  statement.line = line;
  statement.targets.push_back(parse_target(false, true));
  if (!skip_name("in")) no_template("expected 'in', found '" + describe(current()) + "'", current().line);
  statement.expressions.push_back(parse_tuple(false, false, false, "recursive"));
  statement.expressions.push_back(skip_name("if") ? parse_expression() : nullptr);
  statement.recursive = skip_name("recursive");
  // A recursive loop is a function, which does not end a loop around it.
  const int around = loops_;
  loops_ = statement.recursive ? 1 : around + 1;
  statement.bodies.push_back(parse_block({"endfor", "else"}));
  loops_ = statement.recursive ? 0 : around;
  if (next().text == "else") {
    statement.bodies.push_back(parse_block({"endfor"}));
    next();
  }
  loops_ = around;
  return statement;
}

Statement Parser::parse_set(int line) {
  Statement statement;
  statement.line = line;
  statement.targets.push_back(parse_target(true));
  if (skip_op("=")) {
    statement.kind = Statement::Kind::set;
    statement.expressions.push_back(parse_tuple(false, true, false));
    return statement;
  }
  statement.kind = Statement::Kind::set_block;
  statement.expressions.push_back(parse_filter(nullptr, false));
  statement.bodies.push_back(parse_block({"endset"}));
  next();
  return statement;
}

void Parser::parse_signature(Statement& statement) {
  expect_op("(");
  bool defaults = false;
  while (!is_op(")")) {
    if (!statement.targets.empty()) expect_op(",");
    const Token name = expect(TokenKind::name, "a parameter's name");
    auto parameter = make(Kind::name, name.line);
    parameter->name = name.text;
    parameter->symbol = symbols_.number(name.text);
    check_target(*parameter, false);
    if (skip_op("=")) {
      statement.expressions.push_back(parse_expression());
      defaults = true;
    } else if (defaults) {
      no_template("non-default argument follows default argument", name.line);
    }
    statement.targets.push_back(std::move(parameter));
  }
  expect_op(")");
}

Statement Parser::parse_macro(int line) {
  Statement statement;
  statement.kind = Statement::Kind::macro;
  statement.line = line;
  statement.name = expect(TokenKind::name, "a macro's name").text;
  statement.symbol = symbols_.number(statement.name);
  parse_signature(statement);
  statement.bodies.push_back(parse_block({"endmacro"}));
  next();
  return statement;
}

Statement Parser::parse_call_block(int line) {
  Statement statement;
  statement.kind = Statement::Kind::call_block;
  statement.line = line;
  if (is_op("(")) parse_signature(statement);
  ExpressionPtr call = parse_expression();
  if (call->kind != Kind::call) no_template("expected call", line);
  statement.expressions.insert(statement.expressions.begin(), std::move(call));
  statement.bodies.push_back(parse_block({"endcall"}));
  next();
  return statement;
}

Statement Parser::parse_with(int line) {
  Statement statement;
  statement.kind = Statement::Kind::with;
  statement.line = line;
  while (!is(TokenKind::block_end)) {
    if (!statement.targets.empty()) expect_op(",");
    statement.targets.push_back(parse_target(false));
    expect_op("=");
    statement.expressions.push_back(parse_expression());
  }
  statement.bodies.push_back(parse_block({"endwith"}));
  next();
  return statement;
}

// Statements that Jinja has and that are refused when they are come to: they reach for other templates.
Statement Parser::parse_unsupported(const Token& tag) {
  Statement statement;
  statement.kind = Statement::Kind::unsupported;
  statement.line = tag.line;
  statement.name = tag.text;
  const auto skip_to_end = [&] {
    while (!is(TokenKind::block_end) && !is(TokenKind::end)) next();
  };
  if (tag.text == "block" || tag.text == "autoescape") {
    skip_to_end();
    statement.bodies.push_back(tag.text == "block" ? parse_block({"endblock"}) : parse_block({"endautoescape"}));
    skip_to_end();
  } else if (tag.text == "extends" || tag.text == "include" || tag.text == "import" || tag.text == "from") {
    skip_to_end();
  } else {
    no_template("Encountered unknown tag '" + tag.text + "'", tag.line);
  }
  return statement;
}

ExpressionPtr Parser::parse_target(bool with_member, bool in_loop) {
  ExpressionPtr target = parse_tuple(true, true, false, in_loop ? "in" : "", with_member);
  check_target(*target, with_member);
  return target;
}

void Parser::check_target(const Expression& target, bool with_member) const {
  if (target.kind == Kind::tuple) {
    for (const ExpressionPtr& item : target.items) check_target(*item, with_member);
  } else if (!(target.kind == Kind::member && with_member) && target.kind != Kind::name) {
    no_template("what stands left of '=' or 'in' cannot be assigned", target.line);
  }
}

Tree parse(std::string_view source) {
  Tree tree = Parser(source).run();
  resolve_names(tree);
  return tree;
}

}  // namespace whit::jinja
