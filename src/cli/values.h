// What stands behind an option, read strictly. CLI11 alone takes NaN as being in every range, 010 as eight, -1 as the
// largest seed, and lets an option of several values swallow the words behind it.
#pragma once

#include <CLI/CLI.hpp>
#include <cstdint>
#include <limits>
#include <string>
#include <vector>

namespace whit {

// Decimal digits that make a number of this range. For use with transform().
CLI::Validator whole_number(int64_t least, int64_t most = std::numeric_limits<int64_t>::max());
CLI::Validator real_number(double least, double most);

// "1,2,4": numbers of this range. ErrorKind::usage, naming `option`.
std::vector<int> whole_numbers(const std::string& option, const std::string& text, int least, int most);

// An option that may be given several times, with one value each: a value in brackets is no list.
CLI::Option* repeatable(CLI::Option* option);

}  // namespace whit
