// The tree of a template: statements over expressions, and which names each scope holds.
#pragma once

#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "data/jinja/value.h"

namespace whit::jinja {

struct Expression;
using ExpressionPtr = std::unique_ptr<Expression>;
struct Statement;
using Body = std::vector<Statement>;

enum class Operator { add, sub, mul, div, floordiv, mod, pow, eq, ne, lt, lteq, gt, gteq, in, notin };

struct Expression {
  enum class Kind {
    constant,
    name,
    member,  // NAME.ATTRIBUTE as the target of `set`
    list,    // items
    tuple,
    dict,       // keys and values in turn
    attribute,  // items[0].name
    subscript,  // items[0][items[1]]
    slice,      // items[0][items[1]:items[2]:items[3]], absent ones null
    call,       // items[0](the others)
    filter,     // items[0] | name(the others); items[0] null: the text of the block
    test,       // items[0] is name(the others)
    negative,
    positive,
    logical_not,
    logical_and,
    logical_or,
    binary,  // operators[0]
    concat,
    compare,   // items[0] operators[0] items[1] operators[1] ...
    condition  // items[1] if items[0] else items[2]; null without else
  };
  Kind kind;
  int line;
  std::string name;
  int symbol = -1;  // of a name
  Value value;
  std::vector<Operator> operators;
  std::vector<ExpressionPtr> items;
  std::vector<std::pair<std::string, ExpressionPtr>> named;  // arguments
  ExpressionPtr spread, spread_named;                        // *args, **kwargs
  int depth = 1;
};

// Where a name of a scope gets its value from when the scope is entered, as jinja2 decides it before anything runs.
enum class Source { parameter, context, outer, nothing };

// The names that a scope holds itself: those it assigns, and those that no scope around it holds.
struct Scoped {
  std::vector<std::pair<int, Source>> names;  // symbol
};

struct Statement {
  enum class Kind {
    output,      // expressions
    condition,   // expressions[i] -> bodies[i], the last body without one is else
    loop,        // targets[0] in expressions[0] if expressions[1]: bodies[0], bodies[1] is else
    set,         // targets[0] = expressions[0]
    set_block,   // targets[0] = bodies[0], through the filter expressions[0]
    macro,       // targets are parameters, expressions the defaults of the last of them
    call_block,  // expressions[0] is the call, expressions[1...] defaults, targets parameters
    filter_block,
    with,  // targets[i] = expressions[i]
    generation,
    stop,        // break
    next,        // continue
    unsupported  // name
  };
  Kind kind;
  int line;
  std::string name;
  int symbol = -1;  // of a macro
  std::vector<ExpressionPtr> targets, expressions;
  std::vector<Body> bodies;
  bool recursive = false;
  bool takes_caller = false, takes_kwargs = false, takes_varargs = false;  // of a macro
  std::vector<Scoped> scopes;  // of bodies; a loop's third is that of its filter
};

// Names as small numbers.
struct Symbols {
  std::vector<std::string> names;
  std::unordered_map<std::string, int> numbers;
  int number(const std::string& name) {
    const auto [found, fresh] = numbers.emplace(name, static_cast<int>(names.size()));
    if (fresh) names.push_back(name);
    return found->second;
  }
};

struct Tree {
  Body body;
  Scoped scope;
  Symbols symbols;
};

// Throws ErrorKind::input that names the line.
Tree parse(std::string_view source);
// Fills the scopes of a parsed tree, and refuses filters and tests that Jinja does not know.
void resolve_names(Tree& tree);

}  // namespace whit::jinja
