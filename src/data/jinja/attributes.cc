// object.name and object[key], as jinja2's sandbox looks them up: attributes of Python's types come before items for a
// point, after them for brackets. Attributes that could change a value, or reach for Python itself, are undefined.
#include <algorithm>

#include "data/jinja/interpreter.h"
#include "data/jinja/loop.h"

namespace whit::jinja {
namespace {

Value no_element(const Value& object, const std::string& name) {
  return Value::undefined(std::string("'") + object.type_name() + " object' has no attribute '" + name + "'");
}

// An attribute of the Python object itself.
Value own_attribute(Interpreter& in, const Value& object, const std::string& name, bool& there) {
  there = true;
  if (name.starts_with("__") && name.ends_with("__"))
    return Value::undefined("access to attribute '" + name + "' of '" + object.type_name() + "' object is unsafe.");
  if (const auto space = object.object_as<Namespace>()) {
    const Value* found = space->find(name);
    there = found != nullptr;
    return found ? *found : Value();
  }
  if (const auto loop = object.object_as<Loop>()) return loop->attribute(in, name, there);
  return method(in, object, name, there);
}

}  // namespace

Value Interpreter::attribute(const Value& object, const std::string& name) {
  if (object.is_undefined()) fail(object.why());
  bool there = false;
  Value value = own_attribute(*this, object, name, there);
  if (there) return value;
  if (object.is(Type::dict))
    if (const Value* found = object.dict().find(name)) return *found;
  return no_element(object, name);
}

Value Interpreter::item(const Value& object, const Value& key) {
  if (object.is_undefined()) fail(object.why());
  if (object.is(Type::dict) && hashable(key)) {
    if (!key.is_text()) meter_.step(object.dict().entries.size());
    if (const Value* found = object.dict().find(key)) return *found;
  }
  const bool indexed =
      object.is_text() ||
      (object.is(Type::list) && (object.list().kind <= ListKind::range || object.list().kind == ListKind::group));
  if (indexed && key.is_whole()) {
    const int64_t length = this->length(object);
    const int64_t at = key.whole() < 0 ? key.whole() + length : key.whole();
    if (at < 0 || at >= length)
      return Value::undefined(std::string(object.type_name()) + " object has no element " +
                              std::to_string(key.whole()));
    if (object.is_text()) return text(std::string(part_of(object.text(), at, at + 1)), object.text().markup);
    return object.list().items[static_cast<size_t>(at)];
  }
  if (key.is_text()) {
    bool there = false;
    Value value = own_attribute(*this, object, key.bytes(), there);
    if (there) return value;
    return no_element(object, key.bytes());
  }
  return Value::undefined(std::string(object.type_name()) + " object has no such element");
}

Value Loop::attribute(Interpreter& in, const std::string& name, bool& there) {
  const auto number = [](size_t value) { return static_cast<int64_t>(value); };
  const auto count = items.size();
  there = true;
  if (name == "index") return number(index + 1);
  if (name == "index0") return number(index);
  if (name == "first") return index == 0;
  if (name == "last") return index + 1 == count;
  if (name == "length") return number(count);
  if (name == "revindex") return number(count - index);
  if (name == "revindex0") return number(count - index - 1);
  if (name == "depth") return int64_t{nesting} + 1;
  if (name == "depth0") return int64_t{nesting};
  if (name == "previtem") return index == 0 ? Value::undefined("there is no previous item") : items[index - 1];
  if (name == "nextitem") return index + 1 == count ? Value::undefined("there is no next item") : items[index + 1];
  if (name == "cycle")
    return in.function("cycle", [at = index](Interpreter& user, const Call& call) {
      if (call.positional.empty()) user.fail("no items for cycling given");
      return call.positional[at % call.positional.size()];
    });
  if (name == "changed") {
    const std::weak_ptr<Loop> self = weak_from_this();
    return in.function("changed", [self](Interpreter& user, const Call& call) -> Value {
      const auto loop = self.lock();
      if (!loop) user.refuse("loop.changed after its loop");
      for (const Value& value : call.positional)
        if (value.is(Type::object) || value.depth() > 0) user.refuse("loop.changed of a list or an object");
      if (loop->last &&
          std::equal(loop->last->begin(), loop->last->end(), call.positional.begin(), call.positional.end(), equal))
        return false;
      loop->last = std::make_unique<Values>(call.positional);
      return true;
    });
  }
  there = false;
  return {};
}

Value Loop::call(Interpreter& in, const Call& call) {
  if (!scope) in.fail("The loop must have the 'recursive' marker to be called recursively.");
  const Arguments given(in, "loop", call, {"iterable"}, 1);
  return in.text(in.recurse(*this, given[0]));
}

std::string Interpreter::recurse(const Loop& outer, const Value& over) {
  std::string out;
  const int line = meter_.line;
  loop(*outer.statement, outer.scope, out, over, outer.nesting + 1);
  meter_.line = line;
  return out;
}

}  // namespace whit::jinja
