#include "base/record.h"

#include <cstring>

#include "base/hash.h"

namespace whit {
namespace {

constexpr size_t kSize = sizeof(uint64_t);

}  // namespace

RecordWriter::RecordWriter(const std::filesystem::path& path, const Json& header) : file_(path, /*overwrite=*/true) {
  const std::string text = header.dump();
  const uint64_t length = text.size();
  write(std::as_bytes(std::span(&length, 1)));
  write(std::as_bytes(std::span(text)));
}

void RecordWriter::write(std::span<const std::byte> bytes) {
  if (bytes.empty()) return;
  sum_.add(bytes);
  file_.write(bytes);
}

void RecordWriter::commit() {
  const uint64_t checksum = sum_.value();
  file_.write(std::as_bytes(std::span(&checksum, 1)));
  file_.commit();
}

void write_record(const std::filesystem::path& path, const Json& header,
                  std::span<const std::span<const std::byte>> body) {
  RecordWriter writer(path, header);
  for (const auto& part : body) writer.write(part);
  writer.commit();
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
