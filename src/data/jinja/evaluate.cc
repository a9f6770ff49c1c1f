// Expressions.
#include <algorithm>

#include "data/jinja/interpreter.h"
#include "data/jinja/level.h"

namespace whit::jinja {

using Kind = Expression::Kind;

Value Interpreter::evaluate(const Expression& expression, const ScopePtr& scope) {
  const Level level(*this);
  meter_.line = expression.line;
  meter_.step();
  const auto part = [&](size_t i) -> Value {
    const ExpressionPtr& item = expression.items[i];
    return item ? evaluate(*item, scope) : Value();
  };
  const auto here = [&] { meter_.line = expression.line; };
  switch (expression.kind) {
    case Kind::constant:
      return expression.value;
    case Kind::name:
      return look_up(expression.symbol, scope);
    case Kind::list:
    case Kind::tuple: {
      Values values;
      for (const ExpressionPtr& item : expression.items) values.push_back(evaluate(*item, scope));
      here();
      return list(std::move(values), expression.kind == Kind::list ? ListKind::list : ListKind::tuple);
    }
    case Kind::dict:
      return evaluate_dict(expression, scope);
    case Kind::attribute: {
      const Value object = part(0);
      here();
      return attribute(object, expression.name);
    }
    case Kind::subscript: {
      const Value object = part(0), key = part(1);
      here();
      return item(object, key);
    }
    case Kind::slice: {
      const Value object = part(0), start = part(1), stop = part(2), stride = part(3);
      here();
      return slice(object, start, stop, stride);
    }
    case Kind::call: {
      const Value callable = part(0);
      const Call given = arguments(expression, scope);
      here();
      return call(callable, given);
    }
    case Kind::filter:
      return evaluate_filter(expression, scope, nullptr);
    case Kind::test: {
      const Value value = part(0);
      const Call given = arguments(expression, scope);
      here();
      return test(expression.name, value, given);
    }
    case Kind::negative:
    case Kind::positive: {
      const Value value = part(0);
      here();
      return sign(value, expression.kind == Kind::negative);
    }
    case Kind::logical_not:
      return !part(0).truth();
    case Kind::logical_and: {
      Value left = part(0);
      return left.truth() ? part(1) : left;
    }
    case Kind::logical_or: {
      Value left = part(0);
      return left.truth() ? left : part(1);
    }
    case Kind::binary: {
      const Value left = part(0), right = part(1);
      here();
      return binary(expression.operators[0], left, right);
    }
    case Kind::concat: {
      std::string out;
      for (size_t i = 0; i < expression.items.size(); ++i) {
        const Value value = part(i);
        here();
        out += value.is_text() ? value.bytes() : str(value);
        meter_.touch(out.size());
      }
      return text(std::move(out));
    }
    case Kind::compare:
      return evaluate_compare(expression, scope);
    case Kind::condition:
      if (part(0).truth()) return part(1);
      if (!expression.items[2])
        return Value::undefined("the inline if-expression on line " + std::to_string(expression.line) +
                                " evaluated to false and no else section was defined.");
      return part(2);
    case Kind::member:
      break;
  }
  return Value();
}

Value Interpreter::evaluate_dict(const Expression& expression, const ScopePtr& scope) {
  std::vector<std::pair<Value, Value>> entries;
  for (size_t i = 0; i + 1 < expression.items.size(); i += 2) {
    Value key = evaluate(*expression.items[i], scope);
    entries.emplace_back(std::move(key), evaluate(*expression.items[i + 1], scope));
  }
  meter_.line = expression.line;
  return dict(entries);
}

Value Interpreter::evaluate_compare(const Expression& expression, const ScopePtr& scope) {
  Value left = evaluate(*expression.items[0], scope);
  for (size_t i = 0; i < expression.operators.size(); ++i) {
    Value right = evaluate(*expression.items[i + 1], scope);
    meter_.line = expression.line;
    if (!compare(expression.operators[i], left, right)) return false;
    left = std::move(right);
  }
  return true;
}

Value Interpreter::evaluate_filter(const Expression& expression, const ScopePtr& scope, const Value* block) {
  const Expression* inner = expression.items[0].get();
  const Value value =
      inner ? (block && inner->kind == Kind::filter ? evaluate_filter(*inner, scope, block) : evaluate(*inner, scope))
            : *block;
  const Call given = arguments(expression, scope);
  meter_.line = expression.line;
  return filter(expression.name, value, given);
}

Call Interpreter::arguments(const Expression& expression, const ScopePtr& scope) {
  Call call;
  for (size_t i = 1; i < expression.items.size(); ++i) call.positional.push_back(evaluate(*expression.items[i], scope));
  for (const auto& [name, value] : expression.named) call.named.emplace_back(name, evaluate(*value, scope));
  if (expression.spread)
    for (Value& value : items(evaluate(*expression.spread, scope))) call.positional.push_back(std::move(value));
  if (expression.spread_named) {
    const Value more = evaluate(*expression.spread_named, scope);
    if (!more.is(Type::dict)) fail("argument after ** must be a mapping");
    for (const auto& [key, value] : more.dict().entries) {
      if (!key.is_text()) fail("keywords must be strings");
      call.named.emplace_back(key.bytes(), value);
    }
  }
  for (size_t i = 0; i < call.named.size(); ++i)
    for (size_t j = 0; j < i; ++j)
      if (call.named[i].first == call.named[j].first)
        fail("keyword argument '" + call.named[i].first + "' is there twice");
  return call;
}

Value Interpreter::call(const Value& callable, const Call& call) {
  if (callable.is_undefined()) fail(callable.why());
  const auto function = callable.object_as<Callable>();
  if (!function) fail(std::string("'") + callable.type_name() + "' object is not callable");
  return function->call(*this, call);
}

Arguments::Arguments(Interpreter& in, const char* function, const Call& call, std::initializer_list<const char*> names,
                     size_t required)
    : values_(names.size(), nullptr) {
  if (call.positional.size() > names.size())
    in.fail(std::string(function) + "() takes at most " + std::to_string(names.size()) + " arguments");
  for (size_t i = 0; i < call.positional.size(); ++i) values_[i] = &call.positional[i];
  for (const auto& [name, value] : call.named) {
    const auto* found = std::find_if(names.begin(), names.end(), [&](const char* known) { return name == known; });
    if (found == names.end()) in.fail(std::string(function) + "() has no argument '" + name + "'");
    const auto at = static_cast<size_t>(found - names.begin());
    if (values_[at]) in.fail(std::string(function) + "() got two values for '" + name + "'");
    values_[at] = &value;
  }
  for (size_t i = 0; i < required; ++i)
    if (!values_[i]) in.fail(std::string(function) + "() misses its argument '" + names.begin()[i] + "'");
}

// ---- making values ----

Value Interpreter::text(std::string bytes, bool markup) {
  meter_.touch(bytes.size());
  const size_t size = bytes.size() + 64;
  return std::make_shared<const Text>(std::move(bytes), markup, Charge(meter_, size));
}

Value Interpreter::list(Values items, ListKind kind) {
  meter_.step(items.size() / 4);
  const size_t size = items.size() * sizeof(Value) + 96;
  auto made = std::make_shared<const List>(kind, std::move(items), Charge(meter_, size));
  if (made->depth > kDeepestValue) refuse("values nested more than " + std::to_string(kDeepestValue) + " levels");
  return made;
}

Value Interpreter::dict(const std::vector<std::pair<Value, Value>>& entries) {
  meter_.step(entries.size());
  const auto made = std::make_shared<Dict>(Charge(meter_, entries.size() * (2 * sizeof(Value) + 72) + 160));
  for (const auto& [key, value] : entries) {
    if (!hashable(key)) fail(std::string("unhashable type: '") + key.type_name() + "'");
    if (!key.is_text()) meter_.step(made->entries.size());
    made->set(key, value);
  }
  if (made->depth > kDeepestValue) refuse("values nested more than " + std::to_string(kDeepestValue) + " levels");
  return std::shared_ptr<const Dict>(made);
}

Value Interpreter::iterator(Values items, std::exception_ptr error) {
  meter_.step(items.size() / 4);
  const size_t size = items.size() * sizeof(Value) + 128;
  auto made = std::make_shared<Iterator>(std::move(items), std::move(error), Charge(meter_, size));
  if (made->nesting > kDeepestValue) refuse("values nested more than " + std::to_string(kDeepestValue) + " levels");
  return std::shared_ptr<Object>(std::move(made));
}

Value Interpreter::function(std::string name, Function::Body body, int nesting) {
  meter_.step();
  auto made = std::make_shared<Function>(std::move(name), std::move(body));
  made->nesting = nesting + 1;
  if (made->nesting > kDeepestValue) refuse("values nested more than " + std::to_string(kDeepestValue) + " levels");
  return std::shared_ptr<Object>(std::move(made));
}

Value Interpreter::iterator(const std::function<void(Values&)>& make) {
  Values values;
  std::exception_ptr error;
  try {
    make(values);
  } catch (const std::runtime_error&) {  // an Error
    error = std::current_exception();
  }
  return iterator(std::move(values), std::move(error));
}

}  // namespace whit::jinja
