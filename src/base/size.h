// Sizes in bytes and numbers of tokens as people write them.
#pragma once

#include <cstdint>
#include <optional>
#include <string>

namespace whit {

inline constexpr const char* kSizeHint = "a size such as 60MiB, 45MB, 1.5G or 61900000 (K, M, G are powers of 1000)";
inline constexpr const char* kCountHint = "250k, 5M or 1000000 (k, M, G are powers of 1000)";

// "61900000", "45MB" and "45M" (10^6), "60MiB" (2^20), "1.5G", in any case; nullopt for anything else, for parts of a
// byte, and for what no file can have.
std::optional<uint64_t> parse_size(const std::string& text);

// A number of tokens: "250k", "5M", "1000000", in any case. Throws ErrorKind::usage that names `where`.
int64_t parse_count(const std::string& text, const std::string& where);

}  // namespace whit
