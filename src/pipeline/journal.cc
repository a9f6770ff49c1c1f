#include "pipeline/journal.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/file.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>

#include "base/file.h"
#include "base/hash.h"

namespace whit {
namespace {

Json parse_json_file(const std::filesystem::path& path) {
  try {
    return Json::parse(read_file(path, uint64_t{64} << 20));
  } catch (const Json::exception&) {
    throw Error(ErrorKind::integrity, "a file of the journal is damaged", path.string(), {}, "delete it and run again");
  }
}

// The first key whose values differ, for a message that says what changed.
std::string first_difference(const Json& a, const Json& b) {
  for (const auto& [key, value] : b.items())
    if (!a.contains(key) || a[key] != value) return key;
  return "the program";
}

struct Entry {
  Json header;
  std::span<const std::byte> body;
  std::shared_ptr<const MappedFile> file;
};

// Layout: u64 header length, header JSON, parts, u64 xxh3 of all that comes before.
Entry open_entry(const std::filesystem::path& path) {
  Entry entry;
  entry.file = MappedFile::open(path);
  const auto bytes = entry.file->bytes();
  const auto damaged = [&] {
    return Error(ErrorKind::integrity, "an entry of the journal is damaged", path.string(), {},
                 "delete this entry; the run then makes it anew");
  };
  uint64_t length = 0, checksum = 0;
  if (bytes.size() < 16) throw damaged();
  std::memcpy(&length, bytes.data(), 8);
  std::memcpy(&checksum, bytes.data() + bytes.size() - 8, 8);
  if (length > bytes.size() - 16 || xxh3_64(bytes.first(bytes.size() - 8)) != checksum) throw damaged();
  const char* text = reinterpret_cast<const char*>(bytes.data()) + 8;
  entry.header = Json::parse(text, text + length);
  entry.body = bytes.subspan(8 + length, bytes.size() - 16 - length);
  return entry;
}

}  // namespace

Journal::Journal(std::filesystem::path folder, const Json& key) : folder_(std::move(folder)) {
  std::error_code error;
  const bool fresh = std::filesystem::create_directory(folder_, error);
  if (error)
    throw Error(ErrorKind::io, "cannot create the journal", folder_.string(), error.message(),
                "choose an output folder that you may write to");
  lock_ = ::open((folder_ / "lock").c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0644);
  if (lock_ < 0 || ::flock(lock_, LOCK_EX | LOCK_NB) != 0) {
    const int reason = errno;
    if (lock_ >= 0) ::close(lock_);
    lock_ = -1;
    throw Error(ErrorKind::io, "cannot lock the journal", folder_.string(),
                reason == EWOULDBLOCK ? "another process works on this output" : std::strerror(reason),
                "wait for it, or choose another output");
  }
  const auto key_path = folder_ / "key.json";
  if (fresh || !std::filesystem::exists(key_path)) {
    write_file(key_path, key.dump(1), true);
  } else if (const Json old = parse_json_file(key_path); old != key) {
    ::close(lock_);
    lock_ = -1;
    throw Error(ErrorKind::usage, "the journal beside the output belongs to another run", folder_.string(),
                fmt::format("{} differs", first_difference(old, key)),
                "finish that run with its own command, delete the journal folder, or choose another output");
  }
}

Journal::~Journal() {
  if (lock_ >= 0) ::close(lock_);
}

std::filesystem::path Journal::path_of(const std::string& unit) const { return folder_ / (unit + ".unit"); }

bool Journal::has(const std::string& unit) const { return std::filesystem::exists(path_of(unit)); }

void Journal::store(const std::string& unit, const Packed& packed, const StageReport& report) {
  Json header;
  header["format"] = format_to_json(*packed.format);
  header["rows"] = packed.shape.rows;
  header["cols"] = packed.shape.cols;
  header["loss"] = report.loss;
  header["relative_loss"] = report.relative_loss;
  header["damp_ratio"] = report.damp_ratio;
  const std::string text = header.dump();
  std::string bytes;
  bytes.reserve(text.size() + packed.bytes() + 16);
  const uint64_t length = text.size();
  bytes.append(reinterpret_cast<const char*>(&length), 8).append(text);
  for (const auto& part : packed.parts) bytes.append(reinterpret_cast<const char*>(part.data()), part.size());
  const uint64_t checksum = xxh3_64(std::as_bytes(std::span(bytes)));
  bytes.append(reinterpret_cast<const char*>(&checksum), 8);
  write_file(path_of(unit), bytes, true);
}

std::shared_ptr<const Packed> Journal::load(const std::string& unit) const {
  const Entry entry = open_entry(path_of(unit));
  auto packed = std::make_shared<Packed>();
  packed->format = make_format_from(entry.header.at("format"), path_of(unit).string());
  packed->shape = {entry.header.at("rows").get<uint64_t>(), entry.header.at("cols").get<uint64_t>()};
  uint64_t offset = 0;
  for (const PartSpec& part : packed->format->parts(packed->shape)) {
    if (part.bytes > entry.body.size() - offset)
      throw Error(ErrorKind::integrity, "an entry of the journal is damaged", path_of(unit).string());
    const auto span = entry.body.subspan(offset, part.bytes);
    packed->parts.emplace_back(span.begin(), span.end());
    offset += part.bytes;
  }
  return packed;
}

StageReport Journal::report(const std::string& unit) const {
  const Json header = open_entry(path_of(unit)).header;
  const auto number = [&](const char* key) { return header.at(key).is_number() ? header.at(key).get<double>() : 0.0; };
  return {number("loss"), number("relative_loss"), number("damp_ratio")};
}

bool Journal::has_value(const std::string& name) const { return std::filesystem::exists(folder_ / (name + ".json")); }

void Journal::store_value(const std::string& name, const Json& value) {
  write_file(folder_ / (name + ".json"), value.dump(1), true);
}

Json Journal::value(const std::string& name) const { return parse_json_file(folder_ / (name + ".json")); }

void Journal::remove() {
  ::close(lock_);
  lock_ = -1;
  std::error_code error;
  std::filesystem::remove_all(folder_, error);
}

}  // namespace whit
