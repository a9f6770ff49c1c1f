// Runs a parsed template. What Jinja calls an error is ErrorKind::input with the line; raise_exception is
// ErrorKind::usage with the template's own words.
#pragma once

#include <ctime>
#include <functional>
#include <initializer_list>
#include <map>
#include <string>

#include "data/jinja/syntax.h"
#include "data/jinja/value.h"

namespace whit::jinja {

class Interpreter;

// Arguments of a call.
struct Call {
  Values positional;
  std::vector<std::pair<std::string, Value>> named;
};

struct Callable : Object {
  virtual Value call(Interpreter& in, const Call& call) = 0;
};

// Python's binding of arguments to parameters: by position, then by name.
class Arguments {
 public:
  // The first `required` parameters must be given.
  Arguments(Interpreter& in, const char* function, const Call& call, std::initializer_list<const char*> names,
            size_t required = 0);
  bool has(size_t i) const { return values_[i] != nullptr; }
  const Value& operator[](size_t i) const { return *values_[i]; }
  Value get(size_t i, Value otherwise) const { return values_[i] ? *values_[i] : std::move(otherwise); }
  bool given(size_t i) const { return values_[i] && !values_[i]->is(Type::none); }  // and not None

 private:
  std::vector<const Value*> values_;
};

// A scope at work. Scopes that a macro was defined in live as long as it does.
struct Scope {
  std::shared_ptr<Scope> parent;
  struct Slot {
    int symbol;
    bool there;
    Value value;
  };
  std::vector<Slot> slots;
  Slot* find(int symbol) noexcept;  // here
};
using ScopePtr = std::shared_ptr<Scope>;

struct Function : Callable {
  using Body = std::function<Value(Interpreter&, const Call&)>;
  Function(std::string called, Body work) : name(std::move(called)), body(std::move(work)) {}
  const char* type_name() const noexcept override { return "function"; }
  int depth() const noexcept override { return nesting; }
  Value call(Interpreter& in, const Call& call) override { return body(in, call); }
  std::string name;
  Body body;
  int nesting = 0;  // of a value that the body holds
};

// What the function `cycler` makes.
struct Cycler : Object, std::enable_shared_from_this<Cycler> {
  const char* type_name() const noexcept override { return "Cycler"; }
  int depth() const noexcept override { return nesting; }
  Value attribute(Interpreter& in, const std::string& name, bool& there);
  Values items;
  size_t at = 0;
  int nesting = 1;
};

struct Macro : Callable {
  const char* type_name() const noexcept override { return "Macro"; }
  Value call(Interpreter& in, const Call& call) override;
  const Statement* statement = nullptr;
  ScopePtr scope;  // where it was defined
};

class Interpreter {
 public:
  Interpreter(const Tree& tree, const std::tm& now, Meter& meter);
  ~Interpreter();
  Interpreter(const Interpreter&) = delete;
  Interpreter& operator=(const Interpreter&) = delete;

  // A variable of the template's context.
  void set(const std::string& name, Value value) { context_[name] = std::move(value); }
  std::string run();

  // For filters, tests, methods and functions.
  Meter& meter() { return meter_; }
  const std::tm& now() const { return now_; }
  [[noreturn]] void fail(const std::string& what) const { jinja::fail(meter_.line, what); }
  [[noreturn]] void refuse(const std::string& name) const { jinja::refuse(meter_.line, name); }

  Value text(std::string bytes, bool markup = false);
  Value list(Values items, ListKind kind = ListKind::list);
  Value dict(const std::vector<std::pair<Value, Value>>& entries);
  Value iterator(Values items, std::exception_ptr error = nullptr);
  // One that `make` fills; an error of it waits for whoever reads on.
  Value iterator(const std::function<void(Values&)>& make);
  // `nesting`: of the value that the body holds, if any.
  Value function(std::string name, Function::Body body, int nesting = 0);
  // Keeps an object that can hold itself until the end.
  template <class Kind>
  std::shared_ptr<Kind> keep(std::shared_ptr<Kind> object) {
    kept_.push_back(object);
    return object;
  }

  Values items(const Value& value);  // as Python iterates
  std::string str(const Value& value);
  std::string repr(const Value& value);
  const std::string& text_of(const Value& value, const char* what);  // of an unmarked text; fails for others
  int64_t whole_of(const Value& value, const char* what);
  int64_t length(const Value& value);
  bool contains(const Value& container, const Value& item);
  // Python's < of the two; fails where they have no order.
  bool less(const Value& a, const Value& b);
  Value attribute(const Value& object, const std::string& name);  // object.name
  Value item(const Value& object, const Value& key);              // object[key]
  Value slice(const Value& object, const Value& start, const Value& stop, const Value& step);
  Value binary(Operator op, const Value& a, const Value& b);
  Value call(const Value& callable, const Call& call);
  std::string recurse(const struct Loop& outer, const Value& over);  // the text of a recursive loop
  Value filter(const std::string& name, const Value& value, const Call& call);
  bool test(const std::string& name, const Value& value, const Call& call);
  bool compare(Operator op, const Value& a, const Value& b);

 private:
  friend struct Macro;
  friend struct Loop;
  enum class Flow { on, stop, next };  // how a body ended

  class Level;  // counts nested evaluations

  Flow execute(const Body& body, const ScopePtr& scope, std::string& out);
  Flow execute(const Statement& statement, const ScopePtr& scope, std::string& out);
  Flow condition(const Statement& statement, const ScopePtr& scope, std::string& out);
  Flow loop(const Statement& statement, const ScopePtr& scope, std::string& out, const Value& over, int depth);
  void set(const Statement& statement, const ScopePtr& scope);
  void set_block(const Statement& statement, const ScopePtr& scope);
  void define(const Statement& statement, const ScopePtr& scope);
  void call_block(const Statement& statement, const ScopePtr& scope, std::string& out);
  std::string call_macro(const Macro& macro, const Call& call);
  void emit(std::string_view text, std::string& out);

  ScopePtr open(const Scoped& scoped, const ScopePtr& parent);
  void assign(const Expression& target, const Value& value, const ScopePtr& scope);
  Value look_up(int symbol, const ScopePtr& scope);
  Scope::Slot* find(int symbol, const ScopePtr& scope);

  Value evaluate(const Expression& expression, const ScopePtr& scope);
  Value evaluate_dict(const Expression& expression, const ScopePtr& scope);
  Value evaluate_compare(const Expression& expression, const ScopePtr& scope);
  Value evaluate_filter(const Expression& expression, const ScopePtr& scope, const Value* block);
  Call arguments(const Expression& expression, const ScopePtr& scope);
  Value sign(const Value& value, bool negative);

  std::string repr_list(const List& list);
  Value arithmetic(Operator op, const Value& a, const Value& b);

  const Tree& tree_;
  Meter& meter_;
  std::tm now_;
  int loop_;  // the symbol
  int depth_ = 0;
  uint64_t written_ = 0;
  std::unordered_map<std::string, Value> context_;
  std::vector<std::shared_ptr<Object>> kept_;
};

// ---- tables, one file each ----
bool is_filter(const std::string& name) noexcept;  // known to Jinja, supported here or not
bool is_test(const std::string& name) noexcept;
void add_functions(Interpreter& in);  // range, dict, namespace, ...
// The method of a Python type as a value; undefined, and `there` false, where the type has no such attribute.
Value method(Interpreter& in, const Value& object, const std::string& name, bool& there);

// ---- texts ----
std::string real_text(double value);              // repr(float)
std::string repr_text(std::string_view text);     // repr(str)
std::string html_escaped(std::string_view text);  // markupsafe.escape
std::string percent_format(Interpreter& in, const std::string& format, const Value& arguments);
std::string brace_format(Interpreter& in, const std::string& format, const Call& call);
struct JsonStyle {
  bool ascii = false, sort = false, indented = false;
  std::string indent, item_separator = ", ", key_separator = ": ";
};
std::string to_json(Interpreter& in, const Value& value, const JsonStyle& style);
// Where code points `start` to `stop` of a text lie in it.
std::string_view part_of(const Text& text, int64_t start, int64_t stop);
int64_t length_of(const Text& text);

}  // namespace whit::jinja
