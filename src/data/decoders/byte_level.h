// The byte-level alphabet: every byte as a visible character, and back.
#pragma once

#include <array>
#include <cstdint>
#include <string>
#include <string_view>

namespace whit {

// Code points of the 256 bytes: printable Latin-1 stands for itself, the rest moves to U+0100 ...
const std::array<char32_t, 256>& byte_level_letters() noexcept;

// The bytes that a token's letters stand for; a token with any other character stands for its own bytes.
std::string byte_level_bytes(std::string_view token);

}  // namespace whit
