// XXH3 checksums (not cryptographic: they find damage, not forgery).
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <string_view>

namespace whit {

uint64_t xxh3_64(std::span<const std::byte> bytes) noexcept;

// The same over bytes that come in pieces.
class Xxh3 {
 public:
  Xxh3();
  ~Xxh3();
  Xxh3(const Xxh3&) = delete;
  Xxh3& operator=(const Xxh3&) = delete;
  Xxh3& add(std::span<const std::byte> bytes);
  uint64_t value() const noexcept;

 private:
  struct State;
  std::unique_ptr<State> state_;
};

// 128 bits as 32 lower-case hex digits: names of caches, journals, inputs.
class Hasher {
 public:
  Hasher();
  ~Hasher();
  Hasher(const Hasher&) = delete;
  Hasher& operator=(const Hasher&) = delete;
  Hasher& add(std::span<const std::byte> bytes);
  // Strings are added with their length, so that ("ab","c") and ("a","bc") differ.
  Hasher& add(std::string_view text);
  Hasher& add(uint64_t value);
  std::string hex() const;

 private:
  struct State;
  std::unique_ptr<State> state_;
};

}  // namespace whit
