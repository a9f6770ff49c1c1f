#include "data/text.h"

#include <sys/stat.h>

#include <algorithm>
#include <cstdlib>
#include <map>
#include <mutex>
#include <numeric>

#include "base/error.h"
#include "base/file.h"
#include "base/hash.h"
#include "base/rng.h"
#include "data/inflate.h"
#include "data/r_database.h"
#include "data/unicode.h"

namespace whit {
namespace {

namespace fs = std::filesystem;

// Where the text may be, best first.
std::vector<fs::path> text_folders(const fs::path& package_folder) {
  std::vector<fs::path> folders;
  if (const char* set = std::getenv("WHIT_DATA"); set && *set) {
    std::error_code ignored;
    if (!fs::is_directory(set, ignored))
      throw Error(ErrorKind::io, "WHIT_DATA names no folder", "environment variable WHIT_DATA", set,
                  "the folder that set-up filled, or unset WHIT_DATA");
    folders.emplace_back(set);
  }
  // What set-up leaves in the project's folder, from a program that was built in it; what belongs to an installed one.
  std::error_code none;
  const fs::path program = fs::read_symlink("/proc/self/exe", none).parent_path();
  for (fs::path above = program; above.has_relative_path(); above = above.parent_path())
    folders.push_back(above / ".whit/data");
  if (!program.empty()) folders.push_back(program.parent_path() / "share/whit/data");
  folders.push_back(package_folder);
  folders.emplace_back(".whit/data");
  return folders;
}

fs::path find_text(const char* file, const char* package, const fs::path& package_folder) {
  const std::vector<fs::path> folders = text_folders(package_folder);
  std::string looked;
  for (const fs::path& folder : folders) {
    std::error_code ignored;
    if (fs::exists(folder / file, ignored)) return folder / file;
    looked += (looked.empty() ? "" : ", ") + folder.string();
  }
  throw Error(ErrorKind::io, "the default text is not installed", file, "not in " + looked,
              std::string("run ./setup.sh, install the Debian package ") + package +
                  ", or name the folder that has it by WHIT_DATA; or give a text of your own");
}

}  // namespace

std::string checked_text(std::string text, const std::string& where) {
  if (text.empty()) throw Error(ErrorKind::input, "the text is empty", where);
  if (const size_t at = text.find('\0'); at != std::string::npos)
    throw Error(ErrorKind::input, "a NUL byte: this is not a text", where, "at byte " + std::to_string(at));
  if (const size_t at = find_invalid_utf8(text); at != std::string_view::npos)
    throw Error(ErrorKind::input, "the text is not valid UTF-8", where, "at byte " + std::to_string(at));
  return text;
}

std::string read_text(const fs::path& path) {
  std::error_code ignored;
  if (fs::is_regular_file(path, ignored) || !fs::exists(path, ignored))
    return checked_text(read_file(path), path.string());
  // A pipe can be read once, and a run may want its text more than once (for statistics, then to train on).
  static std::mutex mutex;
  static std::map<std::pair<dev_t, ino_t>, std::string> texts;
  struct stat status {};
  if (::stat(path.c_str(), &status) != 0) status = {};
  std::lock_guard lock(mutex);
  auto found = texts.find({status.st_dev, status.st_ino});
  if (found == texts.end())
    found = texts.emplace(std::pair(status.st_dev, status.st_ino), checked_text(read_file(path), path.string())).first;
  return found->second;
}

std::string default_calibration_text(const fs::path& data_folder) {
  const char* const package = "r-cran-janeaustenr";
  const fs::path rdx = data_folder.empty() ? find_text("Rdata.rdx", package, "/usr/lib/R/site-library/janeaustenr/data")
                                           : data_folder / "Rdata.rdx";
  fs::path rdb = rdx;
  rdb.replace_extension(".rdb");
  for (const fs::path& file : {rdx, rdb}) {
    std::error_code ignored;
    if (!fs::exists(file, ignored))
      throw Error(ErrorKind::io, "the default text is not whole", file.string(), "missing",
                  std::string("run ./setup.sh, or install the Debian package ") + package);
  }
  std::string text;
  for (const auto& [name, lines] : read_r_strings(rdx, rdb)) {
    for (const std::string& line : lines) {
      text += line;
      text += '\n';
    }
  }
  return checked_text(std::move(text), rdb.string());
}

std::string named_text(const std::string& name, const std::string& where) {
  if (name == "text")
    throw Error(ErrorKind::usage, "this recipe was made with a text of your own", where, {},
                "name that text with --data FILE");
  return name == "novels" ? default_calibration_text() : read_text(name);
}

std::string default_judging_text(const fs::path& gz) {
  const fs::path path = gz.empty() ? find_text("jargon.txt.gz", "jargon-text", "/usr/share/doc/jargon-text") : gz;
  return checked_text(inflate_all(MappedFile::open(path)->bytes(), path.string(), size_t{1} << 28), path.string());
}

std::vector<int32_t> CalibrationWindows::ids() const {
  std::vector<int32_t> all;
  for (const auto& window : windows) all.insert(all.end(), window.begin(), window.end());
  return all;
}

CalibrationWindows calibration_windows(const Tokenizer& tokenizer, std::string_view text, uint64_t tokens,
                                       uint64_t context, uint64_t seed) {
  return calibration_windows(tokenizer.encode(text, false, false), tokenizer.bos(), tokens, context, seed);
}

CalibrationWindows calibration_windows(std::span<const int32_t> ids, int32_t bos, uint64_t tokens, uint64_t context,
                                       uint64_t seed) {
  const std::vector<int32_t> front = bos >= 0 ? std::vector<int32_t>{bos} : std::vector<int32_t>{};
  if (context < front.size() + 1)
    throw Error(ErrorKind::usage, "a calibration window is too short", "context", std::to_string(context));
  const uint64_t count = tokens / context;
  if (count == 0)
    throw Error(ErrorKind::usage, "fewer calibration tokens than one window has", "tokens", std::to_string(tokens),
                "context is " + std::to_string(context));
  const uint64_t step = context - front.size();  // ids of the text in one window
  const uint64_t available = ids.size() / step;
  if (available < count)
    throw Error(ErrorKind::input, "the calibration text is too short", "",
                std::to_string(ids.size()) + " tokens, " + std::to_string(available) + " windows",
                std::to_string(count) + " windows of " + std::to_string(context) + " are asked for");

  // The first `count` places of a shuffle are a draw without replacement.
  std::vector<uint64_t> order(available);
  std::iota(order.begin(), order.end(), uint64_t{0});
  Rng rng(seed);
  for (uint64_t i = 0; i < count; ++i) std::swap(order[i], order[i + rng.below(available - i)]);
  order.resize(count);
  std::sort(order.begin(), order.end());

  CalibrationWindows result;
  result.context = context;
  Hasher hasher;
  hasher.add(context);
  for (const uint64_t index : order) {
    std::vector<int32_t> window = front;
    const auto begin = ids.begin() + static_cast<ptrdiff_t>(index * step);
    window.insert(window.end(), begin, begin + static_cast<ptrdiff_t>(step));
    hasher.add(std::as_bytes(std::span(window)));
    result.windows.push_back(std::move(window));
  }
  result.hash = hasher.hex();
  return result;
}

}  // namespace whit
