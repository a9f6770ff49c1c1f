// TOML text to the JSON that options are read from, and back. The one place that knows the TOML library.
#pragma once

#include <string>
#include <string_view>

#include "base/options.h"

namespace whit {

// Throws ErrorKind::usage with line and column of the fault. Dates and times are refused.
Json toml_to_json(std::string_view text, const std::string& where);
// Tables, arrays of tables and plain values, in the order of the JSON object. null, which TOML lacks, is left out.
std::string json_to_toml(const Json& json);

}  // namespace whit
