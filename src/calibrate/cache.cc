#include "calibrate/cache.h"

#include <cstdlib>
#include <cstring>

#include "base/file.h"
#include "base/hash.h"

namespace whit {
namespace {

std::filesystem::path default_folder() {
  if (const char* own = std::getenv("WHIT_CACHE"); own && *own) return own;
  if (const char* base = std::getenv("XDG_CACHE_HOME"); base && *base) return std::filesystem::path(base) / "whit";
  if (const char* home = std::getenv("HOME"); home && *home) return std::filesystem::path(home) / ".cache" / "whit";
  throw Error(ErrorKind::io, "there is no folder for the cache", "--cache", "neither WHIT_CACHE nor HOME is set",
              "name one with --cache DIR");
}

}  // namespace

Cache::Cache(std::filesystem::path folder) : folder_(folder.empty() ? default_folder() : std::move(folder)) {}

std::optional<CacheEntry> Cache::load(const std::string& key) const {
  const auto path = folder_ / key;
  if (!std::filesystem::exists(path)) return std::nullopt;
  const auto file = MappedFile::open(path);
  const auto bytes = file->bytes();
  const Error damaged(ErrorKind::integrity, "a file of the cache is damaged", path.string(), {}, "delete it and run again");
  uint64_t checksum = 0, length = 0;
  if (bytes.size() < 16) throw damaged;
  std::memcpy(&checksum, bytes.data() + bytes.size() - 8, 8);
  std::memcpy(&length, bytes.data(), 8);
  if (xxh3_64(bytes.first(bytes.size() - 8)) != checksum || length > bytes.size() - 16) throw damaged;
  const char* text = reinterpret_cast<const char*>(bytes.data()) + 8;
  const Json header = Json::parse(text, text + length);
  CacheEntry entry;
  entry.json = header.at("json");
  uint64_t offset = 8 + length;
  for (const Json& array : header.at("arrays")) {
    Matrix matrix(array.at(1).get<size_t>(), array.at(2).get<size_t>());
    const uint64_t size = matrix.data.size() * sizeof(float);
    if (size > bytes.size() - 8 - offset) throw damaged;
    std::memcpy(matrix.data.data(), bytes.data() + offset, size);
    offset += size;
    entry.arrays.emplace_back(array.at(0).get<std::string>(), std::move(matrix));
  }
  return entry;
}

void Cache::store(const std::string& key, const CacheEntry& entry) const {
  std::error_code error;
  std::filesystem::create_directories(folder_, error);
  if (error)
    throw Error(ErrorKind::io, "cannot create the folder of the cache", folder_.string(), error.message(),
                "name another with --cache DIR");
  Json header;
  header["json"] = entry.json;
  header["arrays"] = Json::array();
  for (const auto& [name, matrix] : entry.arrays) header["arrays"].push_back({name, matrix.rows, matrix.cols});
  const std::string text = header.dump();
  std::string bytes;
  const uint64_t length = text.size();
  bytes.append(reinterpret_cast<const char*>(&length), 8).append(text);
  for (const auto& [name, matrix] : entry.arrays)
    bytes.append(reinterpret_cast<const char*>(matrix.data.data()), matrix.data.size() * sizeof(float));
  const uint64_t checksum = xxh3_64(std::as_bytes(std::span(bytes)));
  bytes.append(reinterpret_cast<const char*>(&checksum), 8);
  write_file(folder_ / key, bytes, true);
}

void Cache::remove(const std::string& key) const {
  std::error_code ignored;
  std::filesystem::remove(folder_ / key, ignored);
}

}  // namespace whit
