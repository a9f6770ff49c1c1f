// What `whit formats describe` tells of a format's options.
#pragma once

#include <string_view>
#include <vector>

#include "base/options.h"

namespace whit {

// By a row's name in formats.def; ErrorKind::usage with the nearest known name otherwise.
std::vector<OptionDescription> format_options(std::string_view name);

}  // namespace whit
