// Counts nested evaluations, so that no template exhausts the stack.
#pragma once

#include "data/jinja/interpreter.h"

namespace whit::jinja {

class Interpreter::Level {
 public:
  explicit Level(Interpreter& in) : in_(in) {
    if (in.depth_ >= in.meter_.limits().depth)
      in.refuse("more than " + std::to_string(in.meter_.limits().depth) + " nested evaluations");
    ++in.depth_;
  }
  ~Level() { --in_.depth_; }
  Level(const Level&) = delete;
  Level& operator=(const Level&) = delete;

 private:
  Interpreter& in_;
};

}  // namespace whit::jinja
