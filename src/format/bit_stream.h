// Streams of items of a few bits, little-endian: item i of b bits takes the bits [i b, (i + 1) b) of a row, bit k being
// bit k % 8 of byte k / 8. And halves, which need not be aligned. Shared by the formats of ours.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <span>

#include "base/checked.h"
#include "base/half.h"

namespace whit {

inline uint64_t stream_bytes(uint64_t count, unsigned bits) noexcept { return div_up(count * uint64_t{bits}, 8); }

// `bits` (0 to 32) from bit `position` of the row on.
inline uint32_t read_bits_at(const std::byte* row, uint64_t position, unsigned bits) noexcept {
  const std::byte* at = row + position / 8;
  const unsigned shift = static_cast<unsigned>(position % 8), bytes = (shift + bits + 7) / 8;
  uint64_t value = 0;
  for (unsigned k = 0; k < bytes; ++k) value |= std::to_integer<uint64_t>(at[k]) << (8 * k);
  return static_cast<uint32_t>((value >> shift) & ((uint64_t{1} << bits) - 1));
}
// The bits must be zero before.
inline void write_bits_at(std::byte* row, uint64_t position, unsigned bits, uint32_t value) noexcept {
  std::byte* at = row + position / 8;
  const unsigned shift = static_cast<unsigned>(position % 8), bytes = (shift + bits + 7) / 8;
  const uint64_t wide = uint64_t{value} << shift;
  for (unsigned k = 0; k < bytes; ++k) at[k] |= static_cast<std::byte>((wide >> (8 * k)) & 0xff);
}

// Item `index` of 1 to 8 bits: two bytes at most, the inner loop of decoders.
inline uint32_t read_bits(const std::byte* row, uint64_t index, int bits) noexcept {
  const uint64_t position = index * static_cast<uint64_t>(bits);
  const std::byte* at = row + position / 8;
  const int shift = static_cast<int>(position % 8);
  uint32_t value = std::to_integer<uint32_t>(at[0]) >> shift;
  if (shift + bits > 8) value |= std::to_integer<uint32_t>(at[1]) << (8 - shift);
  return value & ((1u << bits) - 1);
}
inline void write_bits(std::byte* row, uint64_t index, int bits, uint32_t value) noexcept {
  write_bits_at(row, index * static_cast<uint64_t>(bits), static_cast<unsigned>(bits), value);
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
inline bool all_finite_halves(std::span<const std::byte> halves) noexcept {
  bool finite = true;
  for (size_t i = 0; i < halves.size() / 2; ++i) finite &= (read_half(halves.data(), i) & 0x7c00) != 0x7c00;
  return finite;
}
inline void write_half(std::byte* to, uint64_t index, uint16_t half) noexcept { std::memcpy(to + 2 * index, &half, 2); }

}  // namespace whit
