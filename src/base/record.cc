#include "base/record.h"

#include <cstring>

#include "base/hash.h"

namespace whit {
namespace {

constexpr size_t kSize = sizeof(uint64_t);

}  // namespace

void write_record(const std::filesystem::path& path, const Json& header,
                  std::span<const std::span<const std::byte>> body) {
  const std::string text = header.dump();
  const uint64_t length = text.size();
  size_t total = 2 * kSize + text.size();
  for (const auto& part : body) total += part.size();
  std::string bytes;
  bytes.reserve(total);
  bytes.append(reinterpret_cast<const char*>(&length), kSize).append(text);
  for (const auto& part : body)
    if (!part.empty()) bytes.append(reinterpret_cast<const char*>(part.data()), part.size());
  const uint64_t checksum = xxh3_64(std::as_bytes(std::span(bytes)));
  bytes.append(reinterpret_cast<const char*>(&checksum), kSize);
  write_file(path, bytes, /*overwrite=*/true);
}

void damaged_record(const std::filesystem::path& path, const RecordName& name, const std::string& found) {
  throw Error(ErrorKind::integrity, name.what, path.string(), found, name.hint);
}

Record open_record(const std::filesystem::path& path, const RecordName& name) {
  Record record;
  record.file = MappedFile::open(path);
  const auto bytes = record.file->bytes();
  if (bytes.size() < 2 * kSize) damaged_record(path, name, "it has " + std::to_string(bytes.size()) + " bytes");
  const auto checked = bytes.first(bytes.size() - kSize);
  uint64_t checksum = 0, header_bytes = 0;
  std::memcpy(&checksum, checked.data() + checked.size(), kSize);
  std::memcpy(&header_bytes, checked.data(), kSize);
  if (xxh3_64(checked) != checksum) damaged_record(path, name, "its checksum does not match");
  // From here on it is what write_record() wrote, or it was forged: every size is checked before it is used all the
  // same.
  if (header_bytes > checked.size() - kSize) damaged_record(path, name, "its header is longer than the file");
  try {
    const char* text = reinterpret_cast<const char*>(checked.data()) + kSize;
    record.header = Json::parse(text, text + header_bytes);
  } catch (const Json::exception&) {
    damaged_record(path, name, "its header cannot be read");
  }
  record.body = checked.subspan(kSize + header_bytes);
  return record;
}

}  // namespace whit
