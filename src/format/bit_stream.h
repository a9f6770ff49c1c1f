// Little-endian bit streams and halves inside the parts of a format: bit k of a stream is bit k % 8 of byte k / 8, the
// fields follow each other without gaps, the lowest bit of a field first.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstring>

#include "base/checked.h"
#include "base/half.h"

namespace whit {

// Bytes of `count` fields of `bits` bits that begin on a byte.
inline uint64_t stream_bytes(uint64_t count, int bits) noexcept {
  return div_up(count * static_cast<uint64_t>(bits), 8);
}

// A field of 0 to 57 bits that begins at bit `position`; only the bytes that hold it are touched.
inline uint64_t read_bits(const std::byte* stream, uint64_t position, int bits) noexcept {
  const int shift = static_cast<int>(position % 8);
  const std::byte* at = stream + position / 8;
  uint64_t value = 0;
  for (int have = 0; have < shift + bits; have += 8) value |= std::to_integer<uint64_t>(*at++) << have;
  return (value >> shift) & ((uint64_t{1} << bits) - 1);
}

// The bits must be zero before.
inline void write_bits(std::byte* stream, uint64_t position, int bits, uint64_t value) noexcept {
  const int shift = static_cast<int>(position % 8);
  std::byte* at = stream + position / 8;
  value <<= shift;
  for (int have = 0; have < shift + bits; have += 8, value >>= 8) *at++ |= static_cast<std::byte>(value & 0xff);
}

inline constexpr float kLargestHalf = 65504.0f;

// Saturating instead of infinite.
inline uint16_t nearest_half(float value) noexcept {
  return float_to_half(std::clamp(value, -kLargestHalf, kLargestHalf));
}
inline float round_to_half(float value) noexcept { return half_to_float(nearest_half(value)); }

inline uint16_t read_half(const std::byte* from, uint64_t index) noexcept {
  uint16_t half;
  std::memcpy(&half, from + 2 * index, 2);
  return half;
}
inline void write_half(std::byte* to, uint64_t index, uint16_t half) noexcept { std::memcpy(to + 2 * index, &half, 2); }

}  // namespace whit
