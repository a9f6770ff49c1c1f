#include "calibrate/cache.h"

#include <algorithm>
#include <cctype>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <span>

#include "base/error.h"
#include "base/file.h"
#include "base/hash.h"

namespace whit {
namespace {

// An entry: u64 bytes of the header, the header (JSON: json, arrays as [name, rows, cols]), the floats of the arrays
// one after the other, u64 XXH3 of everything before. Little-endian.
constexpr size_t kSize = sizeof(uint64_t);

[[noreturn]] void damaged(const std::filesystem::path& path, const std::string& found) {
  throw Error(ErrorKind::integrity, "a file of the cache is damaged", path.string(), found, "delete it and run again");
}

const char* environment(const char* name) {
  const char* value = std::getenv(name);
  return value && *value ? value : nullptr;
}

}  // namespace

std::filesystem::path default_cache_folder() {
  if (const char* own = environment("WHIT_CACHE")) return own;
  // A path that is not absolute is to be ignored (XDG base directory specification).
  if (const char* base = environment("XDG_CACHE_HOME"); base && *base == '/')
    return std::filesystem::path(base) / "whit";
  if (const char* home = environment("HOME")) return std::filesystem::path(home) / ".cache" / "whit";
  throw Error(ErrorKind::io, "there is no folder for the cache", "--cache", "neither WHIT_CACHE nor HOME is set",
              "name one with --cache DIR");
}

Cache::Cache(std::filesystem::path folder) : folder_(folder.empty() ? default_cache_folder() : std::move(folder)) {}

std::filesystem::path Cache::path(const std::string& key) const {
  WHIT_CHECK(!key.empty() &&
             std::all_of(key.begin(), key.end(), [](unsigned char c) { return std::isalnum(c) != 0 || c == '-'; }));
  return folder_ / key;
}

std::optional<CacheEntry> Cache::load(const std::string& key) const {
  const std::filesystem::path file = path(key);
  std::error_code code;
  if (!std::filesystem::exists(file, code)) return std::nullopt;
  const auto map = MappedFile::open(file);
  if (map->bytes().size() < 2 * kSize) damaged(file, "it has " + std::to_string(map->bytes().size()) + " bytes");
  const std::span<const std::byte> body = map->bytes().first(map->bytes().size() - kSize);
  uint64_t checksum = 0, header_bytes = 0;
  std::memcpy(&checksum, body.data() + body.size(), kSize);
  std::memcpy(&header_bytes, body.data(), kSize);
  if (xxh3_64(body) != checksum) damaged(file, "its checksum does not match");
  // From here on it is what store() wrote, or it was forged: every size is checked before it is used all the same.
  if (header_bytes > body.size() - kSize) damaged(file, "its header is longer than the file");
  CacheEntry entry;
  try {
    const char* text = reinterpret_cast<const char*>(body.data()) + kSize;
    const Json header = Json::parse(text, text + header_bytes);
    entry.json = header.at("json");
    uint64_t at = kSize + header_bytes;
    for (const Json& array : header.at("arrays")) {
      const uint64_t rows = array.at(1).get<uint64_t>(), cols = array.at(2).get<uint64_t>();
      const uint64_t left = (body.size() - at) / sizeof(float);
      if (cols != 0 && rows > left / cols) damaged(file, "its arrays are longer than the file");
      Matrix matrix(rows, cols);
      if (!matrix.data.empty()) std::memcpy(matrix.data.data(), body.data() + at, matrix.data.size() * sizeof(float));
      at += matrix.data.size() * sizeof(float);
      entry.arrays.emplace_back(array.at(0).get<std::string>(), std::move(matrix));
    }
    if (at != body.size()) damaged(file, "its arrays are shorter than the file");
  } catch (const Json::exception&) {
    damaged(file, "its header cannot be read");
  }
  return entry;
}

void Cache::store(const std::string& key, const CacheEntry& entry) const {
  const std::filesystem::path file = path(key);
  std::error_code code;
  std::filesystem::create_directories(folder_, code);
  if (code)
    throw Error(ErrorKind::io, "cannot create the folder of the cache", folder_.string(), code.message(),
                "name another with --cache DIR");
  Json header = {{"json", entry.json}, {"arrays", Json::array()}};
  uint64_t floats = 0;
  for (const auto& [name, matrix] : entry.arrays) {
    WHIT_CHECK(matrix.data.size() == matrix.rows * matrix.cols);
    header["arrays"].push_back({name, matrix.rows, matrix.cols});
    floats += matrix.data.size();
  }
  const std::string text = header.dump();
  const uint64_t length = text.size();
  std::string bytes;
  bytes.reserve(2 * kSize + length + floats * sizeof(float));
  bytes.append(reinterpret_cast<const char*>(&length), kSize).append(text);
  for (const auto& [name, matrix] : entry.arrays)
    bytes.append(reinterpret_cast<const char*>(matrix.data.data()), matrix.data.size() * sizeof(float));
  const uint64_t checksum = xxh3_64(std::as_bytes(std::span(bytes)));
  bytes.append(reinterpret_cast<const char*>(&checksum), kSize);
  write_file(file, bytes, /*overwrite=*/true);
}

void Cache::remove(const std::string& key) const {
  std::error_code ignored;
  std::filesystem::remove(path(key), ignored);
}

}  // namespace whit
