// Sizes in bytes as people write them.
#pragma once

#include <cstdint>
#include <optional>
#include <string>

namespace whit {

inline constexpr const char* kSizeHint = "a size such as 60MiB, 45MB or 61900000";

// "61900000", "45MB" (10^6), "60MiB" (2^20), "2GB"; nullopt for anything else, and for what no file can have.
std::optional<uint64_t> parse_size(const std::string& text);

}  // namespace whit
