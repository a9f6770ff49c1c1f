// Compressed data of the packages with the default texts.
#pragma once

#include <cstddef>
#include <span>
#include <string>

namespace whit {

// A zlib or gzip stream, whole. `where` names it in errors; more than `limit` bytes: ErrorKind::input.
std::string inflate_all(std::span<const std::byte> bytes, const std::string& where, size_t limit);

}  // namespace whit
