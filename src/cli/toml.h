// JSON as TOML: how a manifest's recipe becomes a recipe file again.
#pragma once

#include <string>

#include "base/options.h"

namespace whit {

// Keys keep their order as far as TOML allows: scalars of a table before its sub-tables. null is left out.
std::string to_toml(const Json& json);

}  // namespace whit
