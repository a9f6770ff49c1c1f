#include "pipeline/journal.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <signal.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstdlib>
#include <cstring>

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

bool holds_entries(const std::filesystem::path& folder) {
  for (const auto& entry : std::filesystem::directory_iterator(folder))
    if (entry.path().filename() != "lock" && !entry.path().filename().string().starts_with("key.json")) return true;
  return false;
}

// Journals of this output that a run was about to remove when it was killed (Journal::remove).
void remove_unfinished(const std::filesystem::path& folder) {
  const std::string prefix = folder.filename().string() + ".tmp-";
  const std::filesystem::path around = folder.has_parent_path() ? folder.parent_path() : std::filesystem::path(".");
  std::error_code ignored;
  for (const auto& entry : std::filesystem::directory_iterator(around, ignored)) {
    const std::string name = entry.path().filename().string();
    if (!name.starts_with(prefix)) continue;
    const int pid = std::atoi(name.c_str() + prefix.size());
    if (pid > 0 && ::kill(pid, 0) != 0 && errno == ESRCH) std::filesystem::remove_all(entry.path(), ignored);
  }
}

const RecordName kName = {"an entry of the journal is damaged", "delete this entry; the run then makes it anew"};

}  // namespace

Journal::Journal(std::filesystem::path folder, const Json& key) : folder_(std::move(folder)) {
  bool fresh = false;
  const std::filesystem::path lock = folder_ / "lock";
  // A run that ends takes its journal away, maybe between two of these calls: then the lock is not the folder's, and
  // once more.
  for (struct stat held{}, there{};
       lock_ < 0 || ::fstat(lock_, &held) != 0 || ::stat(lock.c_str(), &there) != 0 || held.st_ino != there.st_ino;) {
    if (lock_ >= 0) ::close(lock_);
    std::error_code error;
    fresh = std::filesystem::create_directory(folder_, error);
    if (error)
      throw Error(ErrorKind::io, "cannot create the journal", folder_.string(), error.message(),
                  std::filesystem::exists(folder_, error) ? "something else has this name: move it, or choose another output"
                                                          : "choose an output folder that you may write to");
    if (!fresh && !std::filesystem::exists(folder_ / "key.json") && holds_entries(folder_))
      throw Error(ErrorKind::io, "the folder beside the output is no journal", folder_.string(),
                  "files, and no key.json", "move it, or choose another output: a journal is taken away in the end");
    lock_ = ::open(lock.c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0644);
    if (lock_ < 0 && errno == ENOENT) continue;
    if (lock_ < 0 || ::flock(lock_, LOCK_EX | LOCK_NB) != 0) {
      const int reason = errno;
      if (lock_ >= 0) ::close(lock_);
      lock_ = -1;
      throw Error(ErrorKind::io, "cannot lock the journal", folder_.string(),
                  reason == EWOULDBLOCK ? "another process works on this output" : std::strerror(reason),
                  "wait for it, or choose another output");
    }
  }
  remove_unfinished(folder_);
  const auto key_path = folder_ / "key.json";
  if (fresh || !std::filesystem::exists(key_path) || !holds_entries(folder_)) {
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

void Journal::store(const std::string& unit, const Packed& packed, const StageReport& report,
                    const std::vector<Matrix>& latents) {
  if (!latents.empty()) {
    Json shapes = Json::array();
    std::vector<std::span<const std::byte>> body;
    for (const Matrix& matrix : latents) {
      shapes.push_back({matrix.rows, matrix.cols});
      body.push_back(std::as_bytes(std::span(matrix.data)));
    }
    write_record(folder_ / (unit + ".latents"), {{"shapes", shapes}}, body);
  }
  Json header;
  header["format"] = format_to_json(*packed.format);
  header["rows"] = packed.shape.rows;
  header["cols"] = packed.shape.cols;
  header["loss"] = report.loss;
  header["relative_loss"] = report.relative_loss;
  header["damp_ratio"] = report.damp_ratio;
  write_record(path_of(unit), header, packed.views());
}

std::shared_ptr<Packed> Journal::load(const std::string& unit) const {
  const auto path = path_of(unit);
  const Record record = open_record(path, kName);
  auto packed = std::make_shared<Packed>();
  uint64_t offset = 0;
  try {
    packed->format = make_format_from(record.header.at("format"), path.string());
    packed->shape = {record.header.at("rows").get<uint64_t>(), record.header.at("cols").get<uint64_t>()};
    for (const PartSpec& part : packed->format->parts(packed->shape)) {
      if (part.bytes > record.body.size() - offset) damaged_record(path, kName, "its parts are longer than the file");
      const auto span = record.body.subspan(offset, part.bytes);
      packed->parts.emplace_back(span.begin(), span.end());
      offset += part.bytes;
    }
  } catch (const Json::exception&) {
    damaged_record(path, kName, "its header cannot be read");
  }
  if (offset != record.body.size()) damaged_record(path, kName, "its parts are shorter than the file");
  return packed;
}

std::vector<Matrix> Journal::latents(const std::string& unit) const {
  const auto path = folder_ / (unit + ".latents");
  if (!std::filesystem::exists(path)) return {};
  const Record record = open_record(path, kName);
  std::vector<Matrix> latents;
  uint64_t offset = 0;
  try {
    for (const Json& shape : record.header.at("shapes")) {
      const uint64_t rows = shape.at(0).get<uint64_t>(), cols = shape.at(1).get<uint64_t>();
      const uint64_t left = (record.body.size() - offset) / sizeof(float);
      if (cols != 0 && rows > left / cols) damaged_record(path, kName, "its matrices are longer than the file");
      Matrix matrix(rows, cols);
      std::memcpy(matrix.data.data(), record.body.data() + offset, matrix.data.size() * sizeof(float));
      offset += matrix.data.size() * sizeof(float);
      latents.push_back(std::move(matrix));
    }
  } catch (const Json::exception&) {
    damaged_record(path, kName, "its header cannot be read");
  }
  return latents;
}

std::filesystem::path Journal::path_of(uint64_t block) const { return folder_ / fmt::format("blk.{}.block", block); }

bool Journal::has_block(uint64_t block) const { return std::filesystem::exists(path_of(block)); }

void Journal::store_block(uint64_t block, const Block& entry) {
  Json header;
  header["report"] = entry.report;
  std::vector<std::span<const std::byte>> body;
  append_vectors(entry.vectors, header, body);
  write_record(path_of(block), header, body);
}

Journal::Block Journal::load_block(uint64_t block) const {
  const auto path = path_of(block);
  const Record record = open_record(path, kName);
  uint64_t offset = 0;
  try {
    return {read_vectors(record, offset, path, kName), record.header.at("report")};
  } catch (const Json::exception&) {
    damaged_record(path, kName, "its header cannot be read");
  }
}

StageReport Journal::report(const std::string& unit) const {
  const Json header = open_record(path_of(unit), kName).header;
  const auto number = [&](const char* key) {
    const auto found = header.find(key);
    return found != header.end() && found->is_number() ? found->get<double>() : 0.0;
  };
  return {number("loss"), number("relative_loss"), number("damp_ratio")};
}

void Journal::remove() {
  // Under another name first, its lock still held: whoever comes now begins a journal of his own.
  const std::filesystem::path gone = folder_.string() + fmt::format(".tmp-{}", ::getpid());
  std::error_code error;
  std::filesystem::rename(folder_, gone, error);
  std::filesystem::remove_all(error ? folder_ : gone, error);
  ::close(lock_);
  lock_ = -1;
}

void append_vectors(const Vectors& vectors, Json& header, std::vector<std::span<const std::byte>>& body) {
  Json list = Json::array();
  for (const auto& [name, values] : vectors) {
    list.push_back({{"name", name}, {"count", values.size()}});
    body.push_back(std::as_bytes(std::span(values)));
  }
  header["vectors"] = std::move(list);
}

Vectors read_vectors(const Record& record, uint64_t& offset, const std::filesystem::path& path, const RecordName& name) {
  Vectors vectors;
  for (const Json& entry : record.header.at("vectors")) {
    const auto count = entry.at("count").get<uint64_t>();
    if (count > (record.body.size() - offset) / sizeof(float)) damaged_record(path, name, "it is too short");
    std::vector<float> values(count);
    std::memcpy(values.data(), record.body.data() + offset, count * sizeof(float));
    offset += count * sizeof(float);
    vectors[entry.at("name").get<std::string>()] = std::move(values);
  }
  return vectors;
}

}  // namespace whit
