// Which scope holds which name. jinja2 decides this before anything runs, by rules that show: a name that a template
// sets anywhere at its top is no longer the caller's in a macro above that line. The rules are its own (its module
// idtracking), so that every name means the same here.
#include <map>
#include <set>

#include "base/error.h"
#include "data/jinja/interpreter.h"
#include "data/jinja/syntax.h"

namespace whit::jinja {
namespace {

using Kind = Expression::Kind;
using Do = Statement::Kind;

// The names of a scope as far as it was read. A branch of an `if` is read as an overlay of its scope.
struct Frame {
  const Frame* parent = nullptr;  // the scope around
  const Frame* base = nullptr;    // the same scope, before the branch
  std::map<int, Source> refs;
  std::set<int> stores;

  bool here(int name) const { return refs.contains(name) || (base && base->here(name)); }
  bool stored(int name) const { return stores.contains(name) || (base && base->stored(name)); }
  bool outside(int name) const { return parent && (parent->here(name) || parent->outside(name)); }

  void declare(int name) {
    stores.insert(name);
    refs[name] = Source::parameter;
  }
  void load(int name) {
    if (!here(name) && !outside(name)) refs[name] = Source::context;
  }
  void store(int name) {
    stores.insert(name);
    if (!here(name)) refs[name] = outside(name) ? Source::outer : Source::nothing;
  }
  Frame branch() const {
    Frame overlay;
    overlay.parent = parent;
    overlay.base = this;
    return overlay;
  }
  void merge(const std::vector<Frame>& branches) {
    std::set<int> fresh;
    for (const Frame& branch : branches)
      for (const int name : branch.stores)
        if (!stored(name)) fresh.insert(name);
    for (const Frame& branch : branches) {
      for (const auto& [name, source] : branch.refs) refs[name] = source;
      stores.insert(branch.stores.begin(), branch.stores.end());
    }
    for (const int name : fresh) refs[name] = outside(name) ? Source::outer : Source::context;
  }
  Scoped scoped() const { return {{refs.begin(), refs.end()}}; }
};

// Calls `visit` for each part of an expression.
template <class Visit>
void each_part(const Expression& expression, Visit visit) {
  for (const ExpressionPtr& item : expression.items)
    if (item) visit(*item);
  for (const auto& [name, value] : expression.named) visit(*value);
  if (expression.spread) visit(*expression.spread);
  if (expression.spread_named) visit(*expression.spread_named);
}

class Resolver {
 public:
  explicit Resolver(Tree& tree) : tree_(tree), loop_(tree.symbols.number("loop")) {}

  void run() {
    Frame root;
    read(root, tree_.body);
    enter(root, tree_.body, false);
    tree_.scope = root.scoped();
  }

 private:
  // Reading a scope: what its statements load and store, in their order, without the scopes inside.
  void read(Frame& frame, const Expression& expression) {
    if (expression.kind == Kind::name || expression.kind == Kind::member) frame.load(expression.symbol);
    each_part(expression, [&](const Expression& part) { read(frame, part); });
  }
  void read_target(Frame& frame, const Expression& target, bool parameter) {
    if (target.kind == Kind::tuple)
      for (const ExpressionPtr& item : target.items) read_target(frame, *item, parameter);
    else if (target.kind == Kind::member)
      frame.load(target.symbol);
    else if (parameter)
      frame.declare(target.symbol);
    else
      frame.store(target.symbol);
  }
  void read(Frame& frame, const Body& body) {
    for (const Statement& statement : body) read(frame, statement);
  }
  void read(Frame& frame, const Statement& statement) {
    switch (statement.kind) {
      case Do::condition:
        return read_condition(frame, statement);
      case Do::macro:
        return frame.store(statement.symbol);
      case Do::loop:
      case Do::call_block:
        return read(frame, *statement.expressions[0]);
      case Do::set_block:
        return read_target(frame, *statement.targets[0], false);
      case Do::set:
        read(frame, *statement.expressions[0]);
        return read_target(frame, *statement.targets[0], false);
      default:
        for (const ExpressionPtr& expression : statement.expressions) read(frame, *expression);
    }
  }
  void read_condition(Frame& frame, const Statement& statement) {
    const size_t tests = statement.expressions.size();
    read(frame, *statement.expressions[0]);
    std::vector<Frame> branches(3, frame.branch());
    read(branches[0], statement.bodies[0]);
    for (size_t i = 1; i < tests; ++i) {  // each elif is an `if` inside the second branch
      read(branches[1], *statement.expressions[i]);
      std::vector<Frame> inner(1, branches[1].branch());
      read(inner[0], statement.bodies[i]);
      branches[1].merge(inner);
    }
    if (statement.bodies.size() > tests) read(branches[2], statement.bodies[tests]);
    frame.merge(branches);
  }

  // Going into the scopes inside. `soft`: filters and tests may be unknown as long as they are not come to.
  void enter(const Frame& frame, Body& body, bool soft) {
    for (Statement& statement : body) enter(frame, statement, soft);
  }
  void enter(const Frame& frame, Statement& statement, bool soft) {
    for (const ExpressionPtr& expression : statement.expressions)
      if (expression) check(*expression, soft || statement.kind == Do::condition);
    switch (statement.kind) {
      case Do::condition:
        for (Body& body : statement.bodies) enter(frame, body, true);
        break;
      case Do::loop:
        return enter_loop(frame, statement);
      case Do::macro:
      case Do::call_block:
      case Do::generation:
        return enter_macro(frame, statement);
      case Do::with:
      case Do::filter_block:
      case Do::set_block: {
        Frame inner = inside(frame);
        if (statement.kind == Do::with)
          for (const ExpressionPtr& target : statement.targets) read_target(inner, *target, true);
        else if (statement.expressions[0])
          read(inner, *statement.expressions[0]);
        finish(inner, statement, statement.bodies[0]);
        break;
      }
      default:
        break;
    }
  }
  static Frame inside(const Frame& frame) {
    Frame inner;
    inner.parent = &frame;
    return inner;
  }
  void finish(Frame& inner, Statement& statement, Body& body) {
    read(inner, body);
    enter(inner, body, false);
    statement.scopes.push_back(inner.scoped());
  }
  void enter_loop(const Frame& frame, Statement& statement) {
    Frame body = inside(frame);
    body.declare(loop_);
    read_target(body, *statement.targets[0], true);
    finish(body, statement, statement.bodies[0]);
    Frame otherwise = inside(frame);
    if (statement.bodies.size() > 1)
      finish(otherwise, statement, statement.bodies[1]);
    else
      statement.scopes.emplace_back();
    Frame test = inside(frame);
    read_target(test, *statement.targets[0], true);
    if (statement.expressions[1]) read(test, *statement.expressions[1]);
    statement.scopes.push_back(test.scoped());
  }
  void enter_macro(const Frame& frame, Statement& statement) {
    Frame inner = inside(frame);
    std::set<std::string> parameters;
    for (const ExpressionPtr& target : statement.targets) {
      inner.declare(target->symbol);
      parameters.insert(target->name);
    }
    const size_t first = statement.kind == Do::call_block ? 1 : 0;
    for (size_t i = first; i < statement.expressions.size(); ++i) read(inner, *statement.expressions[i]);
    const std::pair<const char*, bool*> special[] = {{"caller", &statement.takes_caller},
                                                     {"kwargs", &statement.takes_kwargs},
                                                     {"varargs", &statement.takes_varargs}};
    for (const auto& [name, takes] : special) {
      bool stored = false;
      *takes = uses(statement.bodies[0], name, stored) && !parameters.contains(name);
      if (*takes) inner.declare(tree_.symbols.number(name));
    }
    Frame after = inner;
    read(after, statement.bodies[0]);
    enter(after, statement.bodies[0], false);
    statement.scopes.push_back(after.scoped());
  }

  // Whether a body, scopes inside included, reads a name before anything there assigns it.
  static bool uses(const Expression& expression, const std::string& name, bool& stored) {
    if (expression.kind == Kind::name && expression.name == name) return !stored;
    bool found = false;
    each_part(expression, [&](const Expression& part) { found = found || uses(part, name, stored); });
    return found;
  }
  static bool uses(const Body& body, const std::string& name, bool& stored) {
    const auto targets = [&](auto self, const Expression& target) -> void {
      if (target.kind == Kind::name && target.name == name) stored = true;
      for (const ExpressionPtr& item : target.items) self(self, *item);
    };
    for (const Statement& statement : body) {
      for (const ExpressionPtr& target : statement.targets) targets(targets, *target);
      for (const ExpressionPtr& expression : statement.expressions)
        if (expression && uses(*expression, name, stored)) return true;
      for (const Body& inner : statement.bodies)
        if (uses(inner, name, stored)) return true;
    }
    return false;
  }

  static void check(const Expression& expression, bool soft) {
    if (expression.kind == Kind::condition) soft = true;
    const bool filter = expression.kind == Kind::filter;
    if (!soft &&
        ((filter && !is_filter(expression.name)) || (expression.kind == Kind::test && !is_test(expression.name))))
      throw Error(ErrorKind::input, "the chat template cannot be read", template_line(expression.line),
                  std::string("No ") + (filter ? "filter" : "test") + " named '" + expression.name + "'");
    each_part(expression, [&](const Expression& part) { check(part, soft); });
  }

  Tree& tree_;
  int loop_;
};

}  // namespace

void resolve_names(Tree& tree) { Resolver(tree).run(); }

}  // namespace whit::jinja
