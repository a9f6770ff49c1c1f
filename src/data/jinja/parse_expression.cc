#include <algorithm>
#include <optional>

#include "data/jinja/parser.h"

namespace whit::jinja {
namespace {

constexpr int kDeepestTree = 200;  // of what evaluation walks down; Python's own limit for brackets

// Operators of one level of precedence.
std::optional<Operator> find_operator(const Token& token,
                                      std::initializer_list<std::pair<std::string_view, Operator>> among) {
  if (token.kind != TokenKind::op) return std::nullopt;
  for (const auto& [text, op] : among)
    if (token.text == text) return op;
  return std::nullopt;
}

}  // namespace

ExpressionPtr Parser::make(Kind kind, int line) {
  auto expression = std::make_unique<Expression>();
  expression->kind = kind;
  expression->line = line;
  return expression;
}

ExpressionPtr Parser::with(ExpressionPtr expression, ExpressionPtr item) {
  if (item) expression->depth = std::max(expression->depth, item->depth + 1);
  if (expression->depth > kDeepestTree)
    refuse(expression->line, "an expression of more than " + std::to_string(kDeepestTree) + " levels");
  expression->items.push_back(std::move(item));
  return expression;
}

ExpressionPtr Parser::binary(ExpressionPtr left, Operator op, ExpressionPtr right, int line) {
  auto node = with(with(make(Kind::binary, line), std::move(left)), std::move(right));
  node->operators.push_back(op);
  return node;
}

ExpressionPtr Parser::parse_expression(bool with_condition) {
  const Level level(*this);
  return with_condition ? parse_condition_expression() : parse_or();
}

ExpressionPtr Parser::parse_condition_expression() {
  const int line = current().line;
  ExpressionPtr value = parse_or();
  while (skip_name("if")) {
    ExpressionPtr test = parse_or();
    ExpressionPtr other;
    if (skip_name("else")) {
      const Level level(*this);
      other = parse_condition_expression();
    }
    value = with(with(with(make(Kind::condition, line), std::move(test)), std::move(value)), std::move(other));
  }
  return value;
}

ExpressionPtr Parser::parse_or() {
  ExpressionPtr left = parse_and();
  while (is_name("or")) {
    auto node = make(Kind::logical_or, next().line);
    node = with(std::move(node), std::move(left));
    left = with(std::move(node), parse_and());
  }
  return left;
}

ExpressionPtr Parser::parse_and() {
  ExpressionPtr left = parse_not();
  while (is_name("and")) {
    auto node = make(Kind::logical_and, next().line);
    node = with(std::move(node), std::move(left));
    left = with(std::move(node), parse_not());
  }
  return left;
}

ExpressionPtr Parser::parse_not() {
  if (!is_name("not")) return parse_compare();
  const Level level(*this);
  auto node = make(Kind::logical_not, next().line);
  return with(std::move(node), parse_not());
}

ExpressionPtr Parser::parse_compare() {
  auto compare = make(Kind::compare, current().line);
  compare = with(std::move(compare), parse_sum());
  for (;;) {
    if (const auto op = find_operator(current(), {{"==", Operator::eq},
                                                       {"!=", Operator::ne},
                                                       {"<", Operator::lt},
                                                       {"<=", Operator::lteq},
                                                       {">", Operator::gt},
                                                       {">=", Operator::gteq}})) {
      compare->operators.push_back(*op);
      next();
    } else if (skip_name("in")) {
      compare->operators.push_back(Operator::in);
    } else if (is_name("not") && ahead().kind == TokenKind::name && ahead().text == "in") {
      next();
      next();
      compare->operators.push_back(Operator::notin);
    } else {
      break;
    }
    compare = with(std::move(compare), parse_sum());
  }
  return compare->operators.empty() ? std::move(compare->items[0]) : std::move(compare);
}

ExpressionPtr Parser::parse_sum() {
  ExpressionPtr left = parse_concat();
  while (const auto op = find_operator(current(), {{"+", Operator::add}, {"-", Operator::sub}})) {
    const Operator kind = *op;
    const int line = next().line;
    left = binary(std::move(left), kind, parse_concat(), line);
  }
  return left;
}

ExpressionPtr Parser::parse_concat() {
  auto concat = make(Kind::concat, current().line);
  concat = with(std::move(concat), parse_product());
  while (skip_op("~")) concat = with(std::move(concat), parse_product());
  return concat->items.size() == 1 ? std::move(concat->items[0]) : std::move(concat);
}

ExpressionPtr Parser::parse_product() {
  ExpressionPtr left = parse_power();
  while (
      const auto op = find_operator(
          current(), {{"*", Operator::mul}, {"/", Operator::div}, {"//", Operator::floordiv}, {"%", Operator::mod}})) {
    const Operator kind = *op;
    const int line = next().line;
    left = binary(std::move(left), kind, parse_power(), line);
  }
  return left;
}

ExpressionPtr Parser::parse_power() {
  ExpressionPtr left = parse_unary(true);
  while (is_op("**")) {
    const int line = next().line;
    left = binary(std::move(left), Operator::pow, parse_unary(true), line);
  }
  return left;
}

ExpressionPtr Parser::parse_unary(bool with_filter) {
  ExpressionPtr node;
  if (is_op("-") || is_op("+")) {
    const Level level(*this);
    const Token sign = next();
    node = make(sign.text == "-" ? Kind::negative : Kind::positive, sign.line);
    node = with(std::move(node), parse_unary(false));
  } else {
    node = parse_primary();
  }
  node = parse_postfix(std::move(node));
  return with_filter ? parse_filters(std::move(node)) : std::move(node);
}

ExpressionPtr Parser::parse_name(bool with_member) {
  const Token token = next();
  const std::string& text = token.text;
  if (text == "true" || text == "True" || text == "false" || text == "False" || text == "none" || text == "None") {
    auto node = make(Kind::constant, token.line);
    if (text[0] != 'n' && text[0] != 'N') node->value = text[0] == 't' || text[0] == 'T';
    return node;
  }
  auto node = make(Kind::name, token.line);
  if (with_member && skip_op(".")) {
    node->kind = Kind::member;
    node->name = expect(TokenKind::name, "a name").text;
  } else {
    node->name = text;
  }
  node->symbol = symbols_.number(text);
  return node;
}

ExpressionPtr Parser::parse_primary(bool with_member) {
  const Token& token = current();
  const int line = token.line;
  switch (token.kind) {
    case TokenKind::name:
      return parse_name(with_member);
    case TokenKind::text: {
      std::string text;  // strings side by side are one
      while (is(TokenKind::text)) text += next().text;
      auto node = make(Kind::constant, line);
      node->value = Value::constant(std::move(text));
      return node;
    }
    case TokenKind::integer: {
      auto node = make(Kind::constant, line);
      node->value = next().integer;
      return node;
    }
    case TokenKind::real: {
      auto node = make(Kind::constant, line);
      node->value = next().real;
      return node;
    }
    default:
      break;
  }
  const Level level(*this);
  if (skip_op("(")) {
    ExpressionPtr node = parse_tuple(false, true, true);
    expect_op(")");
    return node;
  }
  if (is_op("[")) return parse_list();
  if (is_op("{")) return parse_dict();
  no_template("unexpected '" + describe(token) + "'", line);
}

ExpressionPtr Parser::parse_tuple(bool simple, bool with_condition, bool in_parentheses, std::string_view end,
                                  bool with_member) {
  const Level level(*this);
  auto tuple = make(Kind::tuple, current().line);
  bool commas = false;
  for (;;) {
    if (!tuple->items.empty()) expect_op(",");
    if (is(TokenKind::variable_end) || is(TokenKind::block_end) || is_op(")") || (!end.empty() && is_name(end))) break;
    tuple = with(std::move(tuple), simple ? parse_primary(with_member) : parse_expression(with_condition));
    if (!is_op(",")) break;
    commas = true;
  }
  if (commas) return tuple;
  if (!tuple->items.empty()) return std::move(tuple->items[0]);
  if (!in_parentheses) no_template("expected an expression, found '" + describe(current()) + "'", current().line);
  return tuple;
}

ExpressionPtr Parser::parse_list() {
  auto list = make(Kind::list, next().line);
  while (!is_op("]")) {
    if (!list->items.empty()) expect_op(",");
    if (is_op("]")) break;
    list = with(std::move(list), parse_expression());
  }
  expect_op("]");
  return list;
}

ExpressionPtr Parser::parse_dict() {
  auto dict = make(Kind::dict, next().line);
  while (!is_op("}")) {
    if (!dict->items.empty()) expect_op(",");
    if (is_op("}")) break;
    dict = with(std::move(dict), parse_expression());
    expect_op(":");
    dict = with(std::move(dict), parse_expression());
  }
  expect_op("}");
  return dict;
}

ExpressionPtr Parser::parse_postfix(ExpressionPtr node) {
  for (;;) {
    if (is_op(".") || is_op("[")) {
      node = parse_subscript(std::move(node));
    } else if (is_op("(")) {
      auto call = with(make(Kind::call, current().line), std::move(node));
      parse_arguments(*call);
      node = std::move(call);
    } else {
      return node;
    }
  }
}

ExpressionPtr Parser::parse_filters(ExpressionPtr node) {
  for (;;) {
    if (is_op("|")) {
      node = parse_filter(std::move(node), false);
    } else if (is_name("is")) {
      node = parse_test(std::move(node));
    } else if (is_op("(")) {
      auto call = with(make(Kind::call, current().line), std::move(node));
      parse_arguments(*call);
      node = std::move(call);
    } else {
      return node;
    }
  }
}

ExpressionPtr Parser::parse_filter(ExpressionPtr node, bool first_without_bar) {
  while (first_without_bar || is_op("|")) {
    if (!first_without_bar) next();
    first_without_bar = false;
    const Token name = expect(TokenKind::name, "a filter's name");
    auto filter = with(make(Kind::filter, name.line), std::move(node));
    filter->name = name.text;
    while (skip_op(".")) filter->name += "." + expect(TokenKind::name, "a name").text;
    if (is_op("(")) parse_arguments(*filter);
    node = std::move(filter);
  }
  return node;
}

ExpressionPtr Parser::parse_test(ExpressionPtr node) {
  const int line = next().line;
  const bool negated = skip_name("not");
  auto test = with(make(Kind::test, line), std::move(node));
  test->name = expect(TokenKind::name, "a test's name").text;
  while (skip_op(".")) test->name += "." + expect(TokenKind::name, "a name").text;
  if (is_op("(")) {
    parse_arguments(*test);
  } else if (is(TokenKind::text) || is(TokenKind::integer) || is(TokenKind::real) || is_op("[") || is_op("{") ||
             (is(TokenKind::name) && !is_name("else") && !is_name("or") && !is_name("and"))) {
    if (is_name("is")) no_template("You cannot chain multiple tests with is", current().line);
    test = with(std::move(test), parse_postfix(parse_primary()));
  }
  return negated ? with(make(Kind::logical_not, line), std::move(test)) : std::move(test);
}

ExpressionPtr Parser::parse_subscript(ExpressionPtr node) {
  const Token token = next();
  if (token.text == ".") {
    const Token name = next();
    if (name.kind == TokenKind::name) {
      auto attribute = with(make(Kind::attribute, token.line), std::move(node));
      attribute->name = name.text;
      return attribute;
    }
    if (name.kind != TokenKind::integer) no_template("expected name or number", name.line);
    auto index = make(Kind::constant, name.line);
    index->value = name.integer;
    return with(with(make(Kind::subscript, token.line), std::move(node)), std::move(index));
  }
  node = parse_index(std::move(node), token.line);
  if (is_op(",")) refuse(token.line, "an index of several values");
  expect_op("]");
  return node;
}

ExpressionPtr Parser::parse_index(ExpressionPtr node, int line) {
  if (is_op("]")) no_template("an empty index", line);
  ExpressionPtr first;
  if (!is_op(":")) {
    first = parse_expression();
    if (!is_op(":")) return with(with(make(Kind::subscript, line), std::move(node)), std::move(first));
  }
  auto slice = with(with(make(Kind::slice, line), std::move(node)), std::move(first));
  next();
  const auto part = [&] { return is_op(":") || is_op("]") || is_op(",") ? nullptr : parse_expression(); };
  slice = with(std::move(slice), part());
  return with(std::move(slice), skip_op(":") ? part() : nullptr);
}

void Parser::parse_arguments(Expression& call) {
  const int line = expect_op("(").line;
  const auto ensure = [&](bool right) {
    if (!right) no_template("invalid syntax for function call expression", line);
  };
  const auto deepen = [&](const Expression& argument) {
    call.depth = std::max(call.depth, argument.depth + 1);
    if (call.depth > kDeepestTree)
      refuse(line, "an expression of more than " + std::to_string(kDeepestTree) + " levels");
  };
  bool first = true;
  while (!is_op(")")) {
    if (!first) {
      expect_op(",");
      if (is_op(")")) break;
    }
    first = false;
    if (skip_op("*")) {
      ensure(!call.spread && !call.spread_named);
      call.spread = parse_expression();
      deepen(*call.spread);
    } else if (skip_op("**")) {
      ensure(!call.spread_named);
      call.spread_named = parse_expression();
      deepen(*call.spread_named);
    } else if (is(TokenKind::name) && ahead().kind == TokenKind::op && ahead().text == "=") {
      ensure(!call.spread_named);
      std::string name = next().text;
      next();
      call.named.emplace_back(std::move(name), parse_expression());
      deepen(*call.named.back().second);
    } else {
      ensure(!call.spread && !call.spread_named && call.named.empty());
      call.items.push_back(parse_expression());
      deepen(*call.items.back());
    }
  }
  expect_op(")");
}

}  // namespace whit::jinja
