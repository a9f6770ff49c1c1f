// How a method's file hands itself to the table. Included by methods and registry.cc only.
#pragma once

#include <memory>
#include <vector>

#include "methods/stages.h"

namespace whit {

struct MethodDefinition {
  std::unique_ptr<Method> (*make)(const Json& options);
  std::vector<OptionDescription> (*describe)();
};

// At the end of STAGE/NAME.cc: Class(const Options&) implements the stage's interface. registry.cc declares and calls
// the function for each row of methods.def, so a row without a file does not link.
#define WHIT_DEFINE_METHOD(stage, name, Class, Options)       \
  MethodDefinition method_##stage##_##name() {                \
    return {[](const Json& json) -> std::unique_ptr<Method> { \
              Options options;                                \
              read_options(options, json, #name);             \
              return std::make_unique<Class>(options);        \
            },                                                \
            [] { return describe_options<Options>(); }};      \
  }

}  // namespace whit
