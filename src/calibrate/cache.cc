#include "calibrate/cache.h"

#include <algorithm>
#include <cctype>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <span>

#include "base/error.h"
#include "base/record.h"

namespace whit {
namespace {

// An entry is a record (base/record.h): the header holds json and the arrays as [name, rows, cols], the body their
// floats one after the other.
const RecordName kName = {"a file of the cache is damaged", "delete it and run again"};

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
  Record record;
  try {
    record = open_record(file, kName);
  } catch (const Error& error) {
    // Another process on this cache may have removed it meanwhile, as what is only kept until a phase is through.
    if (error.kind() == ErrorKind::io && !std::filesystem::exists(file, code)) return std::nullopt;
    throw;
  }
  CacheEntry entry;
  try {
    entry.json = record.header.at("json");
    uint64_t at = 0;
    for (const Json& array : record.header.at("arrays")) {
      const uint64_t rows = array.at(1).get<uint64_t>(), cols = array.at(2).get<uint64_t>();
      const uint64_t left = (record.body.size() - at) / sizeof(float);
      if (cols != 0 && rows > left / cols) damaged_record(file, kName, "its arrays are longer than the file");
      Matrix matrix(rows, cols);
      if (!matrix.data.empty())
        std::memcpy(matrix.data.data(), record.body.data() + at, matrix.data.size() * sizeof(float));
      at += matrix.data.size() * sizeof(float);
      entry.arrays.emplace_back(array.at(0).get<std::string>(), std::move(matrix));
    }
    if (at != record.body.size()) damaged_record(file, kName, "its arrays are shorter than the file");
  } catch (const Json::exception&) {
    damaged_record(file, kName, "its header cannot be read");
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
  std::vector<std::span<const std::byte>> body;
  for (const auto& [name, matrix] : entry.arrays) {
    WHIT_CHECK(matrix.data.size() == matrix.rows * matrix.cols);
    header["arrays"].push_back({name, matrix.rows, matrix.cols});
    body.push_back(std::as_bytes(std::span(matrix.data)));
  }
  write_record(file, header, body);
}

void Cache::remove(const std::string& key) const {
  std::error_code ignored;
  std::filesystem::remove(path(key), ignored);
}

}  // namespace whit
