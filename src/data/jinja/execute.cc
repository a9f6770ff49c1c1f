// Statements.
#include <algorithm>

#include "base/error.h"
#include "data/jinja/interpreter.h"
#include "data/jinja/level.h"
#include "data/jinja/loop.h"

namespace whit::jinja {

using Do = Statement::Kind;

Scope::Slot* Scope::find(int symbol) noexcept {
  for (Slot& slot : slots)
    if (slot.symbol == symbol) return &slot;
  return nullptr;
}

Interpreter::Interpreter(const Tree& tree, const std::tm& now, Meter& meter)
    : tree_(tree), meter_(meter), now_(now), loop_(tree.symbols.numbers.at("loop")) {
  add_functions(*this);
}

// Macros and namespaces can hold themselves, by way of a scope or an attribute: they let go of what they hold.
Interpreter::~Interpreter() {
  for (const auto& object : kept_) {
    if (auto* macro = dynamic_cast<Macro*>(object.get())) macro->scope.reset();
    if (auto* space = dynamic_cast<Namespace*>(object.get())) space->attributes.clear();
  }
}

std::string Interpreter::run() {
  std::string out;
  execute(tree_.body, open(tree_.scope, nullptr), out);
  return out;
}

void Interpreter::emit(std::string_view text, std::string& out) {
  meter_.touch(text.size());
  written_ += text.size();
  if (written_ > meter_.limits().output)
    refuse("more than " + std::to_string(meter_.limits().output) + " bytes of text");
  out += text;
}

ScopePtr Interpreter::open(const Scoped& scoped, const ScopePtr& parent) {
  auto scope = std::make_shared<Scope>();
  scope->parent = parent;
  scope->slots.reserve(scoped.names.size());
  meter_.step(scoped.names.size());
  for (const auto& [symbol, source] : scoped.names) {
    Scope::Slot slot{symbol, false, {}};
    if (source == Source::context) {
      if (const auto found = context_.find(tree_.symbols.names[static_cast<size_t>(symbol)]); found != context_.end()) {
        slot.there = true;
        slot.value = found->second;
      }
    } else if (source == Source::outer && parent) {
      if (const Scope::Slot* outer = find(symbol, parent)) {
        slot.there = outer->there;
        slot.value = outer->value;
      }
    }
    scope->slots.push_back(std::move(slot));
  }
  return scope;
}

Scope::Slot* Interpreter::find(int symbol, const ScopePtr& scope) {
  for (Scope* at = scope.get(); at; at = at->parent.get())
    if (Scope::Slot* slot = at->find(symbol)) return slot;
  return nullptr;
}

Value Interpreter::look_up(int symbol, const ScopePtr& scope) {
  const Scope::Slot* slot = find(symbol, scope);
  if (slot && slot->there) return slot->value;
  return Value::undefined("'" + tree_.symbols.names[static_cast<size_t>(symbol)] + "' is undefined");
}

void Interpreter::assign(const Expression& target, const Value& value, const ScopePtr& scope) {
  if (target.kind == Expression::Kind::tuple) {
    const Values values = items(value);
    if (values.size() != target.items.size())
      fail("cannot unpack " + std::to_string(values.size()) + " values into " + std::to_string(target.items.size()));
    for (size_t i = 0; i < values.size(); ++i) assign(*target.items[i], values[i], scope);
  } else if (target.kind == Expression::Kind::member) {
    const Value holder = look_up(target.symbol, scope);
    const auto space = holder.object_as<Namespace>();
    if (!space) fail("cannot assign attribute on non-namespace object");
    if (target.name.starts_with('_')) fail("underscore-prefixed attribute of a namespace: " + target.name);
    if (value.depth() >= kDeepestValue) refuse("values nested more than " + std::to_string(kDeepestValue) + " levels");
    if (!space->find(target.name)) meter_.take(128);  // as long as the rendering lasts
    space->set(target.name, value);
  } else {
    Scope::Slot* slot = scope->find(target.symbol);
    WHIT_CHECK(slot != nullptr);
    slot->there = true;
    slot->value = value;
  }
}

Interpreter::Flow Interpreter::execute(const Body& body, const ScopePtr& scope, std::string& out) {
  const Level level(*this);
  for (const Statement& statement : body)
    if (const Flow flow = execute(statement, scope, out); flow != Flow::on) return flow;
  return Flow::on;
}

Interpreter::Flow Interpreter::execute(const Statement& statement, const ScopePtr& scope, std::string& out) {
  meter_.line = statement.line;
  meter_.step();
  switch (statement.kind) {
    case Do::output:
      for (const ExpressionPtr& expression : statement.expressions) {
        const Value value = evaluate(*expression, scope);
        meter_.line = expression->line;
        if (value.is_text())
          emit(value.bytes(), out);
        else
          emit(str(value), out);
      }
      return Flow::on;
    case Do::condition:
      return condition(statement, scope, out);
    case Do::loop: {
      if (!statement.recursive) return loop(statement, scope, out, evaluate(*statement.expressions[0], scope), 0);
      std::string text;
      loop(statement, scope, text, evaluate(*statement.expressions[0], scope), 0);
      emit(text, out);
      return Flow::on;
    }
    case Do::set:
      set(statement, scope);
      return Flow::on;
    case Do::set_block:
      set_block(statement, scope);
      return Flow::on;
    case Do::macro:
      define(statement, scope);
      return Flow::on;
    case Do::call_block:
      call_block(statement, scope, out);
      return Flow::on;
    case Do::with: {
      const ScopePtr inner = open(statement.scopes[0], scope);
      for (size_t i = 0; i < statement.targets.size(); ++i)
        assign(*statement.targets[i], evaluate(*statement.expressions[i], scope), inner);
      return execute(statement.bodies[0], inner, out);
    }
    case Do::filter_block: {
      const ScopePtr inner = open(statement.scopes[0], scope);
      std::string body;
      if (const Flow flow = execute(statement.bodies[0], inner, body); flow != Flow::on) return flow;
      const Value block = text(std::move(body));
      emit(str(evaluate_filter(*statement.expressions[0], inner, &block)), out);
      return Flow::on;
    }
    case Do::generation: {
      std::string body;
      execute(statement.bodies[0], open(statement.scopes[0], scope), body);
      emit(body, out);
      return Flow::on;
    }
    case Do::stop:
      return Flow::stop;
    case Do::next:
      return Flow::next;
    case Do::unsupported:
      refuse("the statement '" + statement.name + "'");
  }
  return Flow::on;
}

Interpreter::Flow Interpreter::condition(const Statement& statement, const ScopePtr& scope, std::string& out) {
  for (size_t i = 0; i < statement.expressions.size(); ++i)
    if (evaluate(*statement.expressions[i], scope).truth()) return execute(statement.bodies[i], scope, out);
  if (statement.bodies.size() > statement.expressions.size()) return execute(statement.bodies.back(), scope, out);
  return Flow::on;
}

Interpreter::Flow Interpreter::loop(const Statement& statement, const ScopePtr& scope, std::string& out,
                                    const Value& over, int depth) {
  const Level level(*this);
  const auto generator = over.object_as<Iterator>();
  Values values = items(over);
  if (statement.expressions[1]) {
    Values kept;
    for (const Value& value : values) {
      const ScopePtr inner = open(statement.scopes[2], scope);
      assign(*statement.targets[0], value, inner);
      if (evaluate(*statement.expressions[1], inner).truth()) kept.push_back(value);
    }
    values = std::move(kept);
  }
  const size_t count = values.size();
  const auto loop = std::make_shared<Loop>(std::move(values), Charge(meter_, count * sizeof(Value) + 256));
  loop->statement = &statement;
  loop->scope = statement.recursive ? scope : nullptr;
  loop->nesting = depth;
  bool ended = false;  // an iteration came to its end
  for (size_t i = 0; i < count; ++i) {
    meter_.line = statement.line;
    meter_.step();
    loop->index = i;
    const ScopePtr inner = open(statement.scopes[0], scope);
    Scope::Slot* slot = inner->find(loop_);
    slot->there = true;
    slot->value = std::shared_ptr<Object>(loop);
    assign(*statement.targets[0], loop->items[i], inner);
    const Flow flow = execute(statement.bodies[0], inner, out);
    ended = ended || flow == Flow::on;
    if (flow != Flow::stop) continue;
    // Python's generator would still have the others.
    if (generator)
      generator->error =
          std::make_exception_ptr(Error(ErrorKind::input, "the chat template uses what is not supported",
                                        template_line(statement.line), "a generator that a loop was broken out of"));
    break;
  }
  if (ended || statement.bodies.size() < 2) return Flow::on;
  return execute(statement.bodies[1], open(statement.scopes[1], scope), out);
}

void Interpreter::set(const Statement& statement, const ScopePtr& scope) {
  assign(*statement.targets[0], evaluate(*statement.expressions[0], scope), scope);
}

void Interpreter::set_block(const Statement& statement, const ScopePtr& scope) {
  const ScopePtr inner = open(statement.scopes[0], scope);
  std::string body;
  execute(statement.bodies[0], inner, body);
  Value value = text(std::move(body));
  if (statement.expressions[0]) value = evaluate_filter(*statement.expressions[0], inner, &value);
  assign(*statement.targets[0], value, scope);
}

void Interpreter::define(const Statement& statement, const ScopePtr& scope) {
  meter_.take(1024);
  auto macro = keep(std::make_shared<Macro>());
  macro->statement = &statement;
  macro->scope = scope;
  Scope::Slot* slot = scope->find(statement.symbol);
  WHIT_CHECK(slot != nullptr);
  slot->there = true;
  slot->value = std::shared_ptr<Object>(macro);
}

void Interpreter::call_block(const Statement& statement, const ScopePtr& scope, std::string& out) {
  meter_.take(1024);
  auto caller = keep(std::make_shared<Macro>());
  caller->statement = &statement;
  caller->scope = scope;
  const Expression& expression = *statement.expressions[0];
  const Value callable = evaluate(*expression.items[0], scope);
  Call given = arguments(expression, scope);
  given.named.emplace_back("caller", std::shared_ptr<Object>(caller));
  emit(str(call(callable, given)), out);
}

Value Macro::call(Interpreter& in, const Call& call) { return in.text(in.call_macro(*this, call)); }

std::string Interpreter::call_macro(const Macro& macro, const Call& call) {
  const Level level(*this);
  const Statement& statement = *macro.statement;
  const int line = meter_.line;
  const std::string name = statement.kind == Do::call_block ? "caller" : statement.name;
  const ScopePtr scope = open(statement.scopes[0], macro.scope);
  std::vector<std::pair<std::string, Value>> named = call.named;
  const auto take = [&](const std::string& key, Value& value) {
    const auto found = std::find_if(named.begin(), named.end(), [&](const auto& entry) { return entry.first == key; });
    if (found == named.end()) return false;
    value = std::move(found->second);
    named.erase(found);
    return true;
  };
  const auto put = [&](int symbol, Value value) {
    Scope::Slot* slot = scope->find(symbol);
    WHIT_CHECK(slot != nullptr);
    slot->there = true;
    slot->value = std::move(value);
  };
  const size_t count = statement.targets.size();
  std::vector<bool> given(count);
  for (size_t i = 0; i < count; ++i) {
    Value value;
    if (i < call.positional.size())
      value = call.positional[i];
    else if (!take(statement.targets[i]->name, value))
      continue;
    given[i] = true;
    put(statement.targets[i]->symbol, std::move(value));
  }
  if (statement.takes_caller) {
    Value value = Value::undefined("No caller defined");
    take("caller", value);
    put(tree_.symbols.numbers.at("caller"), std::move(value));
  }
  if (statement.takes_kwargs) {
    std::vector<std::pair<Value, Value>> entries;
    for (auto& [key, value] : named) entries.emplace_back(text(key), std::move(value));
    put(tree_.symbols.numbers.at("kwargs"), dict(entries));
  } else if (!named.empty()) {
    fail("macro '" + name + "' takes no keyword argument '" + named[0].first + "'");
  }
  if (statement.takes_varargs) {
    Values rest;
    if (call.positional.size() > count)
      rest.assign(call.positional.begin() + static_cast<ptrdiff_t>(count), call.positional.end());
    put(tree_.symbols.numbers.at("varargs"), list(std::move(rest), ListKind::tuple));
  } else if (call.positional.size() > count) {
    fail("macro '" + name + "' takes not more than " + std::to_string(count) + " argument(s)");
  }
  const size_t first = statement.kind == Do::call_block ? 1 : 0;
  const size_t defaults = statement.expressions.size() - first;
  for (size_t i = 0; i < count; ++i) {
    if (given[i]) continue;
    if (i + defaults < count)
      put(statement.targets[i]->symbol,
          Value::undefined("parameter '" + statement.targets[i]->name + "' was not provided"));
    else
      put(statement.targets[i]->symbol, evaluate(*statement.expressions[first + i + defaults - count], scope));
  }
  std::string out;
  execute(statement.bodies[0], scope, out);
  meter_.line = line;
  return out;
}

}  // namespace whit::jinja
