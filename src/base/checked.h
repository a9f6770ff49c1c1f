// Arithmetic on sizes that come from files: throws instead of wrapping around.
#pragma once

#include <cstdint>
#include <string_view>

#include "base/error.h"

namespace whit {

inline uint64_t checked_mul(uint64_t a, uint64_t b, std::string_view where) {
  uint64_t result;
  if (__builtin_mul_overflow(a, b, &result))
    throw Error(ErrorKind::input, "a size overflows 64 bits", std::string(where),
                std::to_string(a) + " x " + std::to_string(b));
  return result;
}

inline uint64_t checked_add(uint64_t a, uint64_t b, std::string_view where) {
  uint64_t result;
  if (__builtin_add_overflow(a, b, &result))
    throw Error(ErrorKind::input, "a size overflows 64 bits", std::string(where),
                std::to_string(a) + " + " + std::to_string(b));
  return result;
}

inline uint64_t round_up(uint64_t value, uint64_t multiple) { return (value + multiple - 1) / multiple * multiple; }
inline uint64_t div_up(uint64_t value, uint64_t divisor) { return (value + divisor - 1) / divisor; }

}  // namespace whit
