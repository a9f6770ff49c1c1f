// Quantities for people.
#pragma once

#include <cstdint>
#include <string>

namespace whit {

std::string format_bytes(uint64_t bytes);               // "98.4 MB" (10^6), "12 B"
std::string format_seconds(double seconds);             // "0.4 s", "2 min 05 s", "1 h 03 min"
std::string format_count(uint64_t count);               // "134,515,008"
std::string format_number(double value, int decimals);  // "-" where it is not finite

}  // namespace whit
