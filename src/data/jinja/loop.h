// The variable `loop`.
#pragma once

#include "data/jinja/interpreter.h"

namespace whit::jinja {

struct Loop : Callable, std::enable_shared_from_this<Loop> {
  Loop(Values values, Charge taken) : items(std::move(values)), charge(std::move(taken)) {}
  const char* type_name() const noexcept override { return "LoopContext"; }
  // Of a recursive loop: its text for other items.
  Value call(Interpreter& in, const Call& call) override;
  // loop.index and the others; `there` false where the loop has no such attribute.
  Value attribute(Interpreter& in, const std::string& name, bool& there);
  Values items;
  size_t index = 0;
  int nesting = 0;  // of a recursive loop
  const Statement* statement = nullptr;
  ScopePtr scope;                // of a recursive loop: where it stands
  std::unique_ptr<Values> last;  // what loop.changed was asked last
  Charge charge;
};

}  // namespace whit::jinja
