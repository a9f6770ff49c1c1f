#include "base/file.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/file.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <utility>

#include "base/error.h"
#include "base/lfs.h"
#include "base/output.h"

namespace whit {
namespace {

[[noreturn]] void fail_io(const std::string& what, const std::filesystem::path& path, int error) {
  std::string hint;
  if (error == ENOSPC || error == EDQUOT) hint = "free some space and run the same command again";
  if (error == EACCES || error == EPERM || error == EROFS)
    hint = "choose a folder that you may write to, or check the permissions";
  if (error == ENOENT) hint = "check the path";
  if (error == EFBIG) hint = "the size of files is limited here: `ulimit -f`, or the file system's own limit";
  if (error == ENOMEM) hint = "free some memory, or raise the limit on it (`ulimit -v`)";
  if (error == EMFILE || error == ENFILE) hint = "too many files are open: `ulimit -n`";
  throw Error(ErrorKind::io, what, path.string(), std::strerror(error), hint);
}

struct Descriptor {
  int fd;
  ~Descriptor() {
    if (fd >= 0) ::close(fd);
  }
};

[[noreturn]] void fail_kind(const std::filesystem::path& path, mode_t mode, const char* hint) {
  throw Error(ErrorKind::io, "not a regular file", path.string(),
              S_ISDIR(mode)    ? "a folder"
              : S_ISFIFO(mode) ? "a pipe"
                               : "a special file",
              hint);
}

struct stat status_of(int fd, const std::filesystem::path& path) {
  struct stat status;
  if (::fstat(fd, &status) != 0) fail_io("cannot read the file", path, errno);
  return status;
}

// Opening or reading a pipe waits for its other end, and a signal ends that.
[[noreturn]] void fail_read(const char* what, const std::filesystem::path& path, int error) {
  if (error == EINTR) throw Error(ErrorKind::interrupted, "stopped while reading", path.string());
  fail_io(what, path, error);
}

void write_all(int fd, const char* data, size_t size, const std::filesystem::path& path) {
  while (size > 0) {
    const ssize_t written = ::write(fd, data, size);
    if (written < 0) {
      if (errno == EINTR) continue;
      fail_io("cannot write", path, errno);
    }
    data += written;
    size -= static_cast<size_t>(written);
  }
}

std::filesystem::path folder_of(const std::filesystem::path& path) {
  return path.has_parent_path() ? path.parent_path() : std::filesystem::path(".");
}

[[noreturn]] void fail_exists(const std::filesystem::path& path) {
  throw Error(ErrorKind::io, "the output exists already", path.string(), {}, "--force overwrites it");
}

void refuse_lfs_pointer(std::string_view content, const std::filesystem::path& path) {
  if (!is_lfs_pointer(content)) return;
  const size_t at = content.find("\nsize ");
  const std::string_view size = at == content.npos ? "" : content.substr(at + 6, content.find('\n', at + 1) - at - 6);
  throw Error(ErrorKind::input, "the file is a Git LFS pointer, not the file that it stands for", path.string(),
              size.empty() ? "" : fmt::format("{} bytes in place of {}", content.size(), size.substr(0, 20)),
              "`git lfs pull` in its folder fetches the file");
}

constexpr size_t kBuffer = 1 << 20;

}  // namespace

void remove_abandoned(const std::filesystem::path& path) {
  const std::string prefix = path.filename().string() + ".tmp-";
  std::error_code ignored;
  for (const auto& entry : std::filesystem::directory_iterator(folder_of(path), ignored)) {
    if (!entry.path().filename().string().starts_with(prefix)) continue;
    const Descriptor file{::open(entry.path().c_str(), O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC)};
    if (file.fd >= 0 && ::flock(file.fd, LOCK_EX | LOCK_NB) == 0) std::filesystem::remove_all(entry.path(), ignored);
  }
}

bool is_lfs_pointer(std::string_view content) {
  return content.size() <= 1024 && content.starts_with("version https://git-lfs.github.com/spec/");
}

std::shared_ptr<const MappedFile> MappedFile::open(const std::filesystem::path& path) {
  const Descriptor file{::open(path.c_str(), O_RDONLY | O_NONBLOCK | O_CLOEXEC)};  // a pipe is refused, not waited for
  if (file.fd < 0) fail_io("cannot open the file", path, errno);
  const struct stat status = status_of(file.fd, path);
  if (!S_ISREG(status.st_mode))
    fail_kind(path, status.st_mode, "this must be a file on a disk: it is mapped, not read");
  const auto size = static_cast<uint64_t>(status.st_size);
  std::shared_ptr<MappedFile> result(new MappedFile);
  result->path_ = path;
  if (size > 0) {
    void* address = ::mmap(nullptr, size, PROT_READ, MAP_PRIVATE, file.fd, 0);
    if (address == MAP_FAILED) fail_io("cannot map the file into memory", path, errno);
    result->bytes_ = {static_cast<const std::byte*>(address), size};
    result->remembered_ = std::make_unique<Remembered>(path, result->bytes_);
    refuse_lfs_pointer({static_cast<const char*>(address), size}, path);
  }
  return result;
}

MappedFile::~MappedFile() {
  remembered_.reset();
  if (!bytes_.empty()) ::munmap(const_cast<std::byte*>(bytes_.data()), bytes_.size());
}

std::string read_file(const std::filesystem::path& path, uint64_t limit) {
  const Descriptor file{::open(path.c_str(), O_RDONLY | O_CLOEXEC)};
  if (file.fd < 0) fail_read("cannot open the file", path, errno);
  const struct stat status = status_of(file.fd, path);
  const bool regular = S_ISREG(status.st_mode);
  // Of devices those of a terminal end, and /dev/null; /dev/zero never does.
  const bool endless = S_ISCHR(status.st_mode) && ::isatty(file.fd) == 0 && status.st_rdev != makedev(1, 3);
  if (endless || (!regular && !S_ISFIFO(status.st_mode) && !S_ISCHR(status.st_mode) && !S_ISSOCK(status.st_mode)))
    fail_kind(path, status.st_mode, "");
  const uint64_t size = regular ? static_cast<uint64_t>(status.st_size) : 0;
  const auto check = [&](uint64_t bytes) {
    if (bytes > limit)
      throw Error(ErrorKind::input, "the file is larger than is allowed here", path.string(),
                  fmt::format("{} bytes, limit {}", bytes, limit));
  };
  check(size);
  // To the end, not to the size: a pipe has none, and files of /proc say 0.
  std::string content;
  for (size_t done = 0;;) {
    content.resize(std::max<size_t>(done < size ? size : 0, done + (size_t{1} << 16)));
    const ssize_t count = ::read(file.fd, content.data() + done, content.size() - done);
    if (count < 0) {
      if (errno == EINTR && regular) continue;
      fail_read("cannot read the file", path, errno);
    }
    done += static_cast<size_t>(count);
    check(done);
    if (count > 0) continue;
    if (done < size)
      throw Error(ErrorKind::io, "the file became shorter while it was read", path.string(),
                  fmt::format("{} of {} bytes", done, size), "run the same command again once the file is whole");
    content.resize(done);
    refuse_lfs_pointer(content, path);
    return content;
  }
}

AtomicFile::AtomicFile(const std::filesystem::path& path, bool overwrite)
    : path_(output_target(path, overwrite)),
      temporary_(path_.string() + fmt::format(".tmp-{}", ::getpid())),
      overwrite_(overwrite) {
  remove_abandoned(path_);
  // Another process that looks for abandoned files may take the new one away before it is locked; then once more.
  remembered_ = std::make_unique<Remembered>(temporary_);
  for (struct stat status {}; status.st_nlink == 0;) {
    if (descriptor_ >= 0) ::close(descriptor_);
    descriptor_ = ::open(temporary_.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);
    if (descriptor_ < 0) fail_io("cannot create the output", path_, errno);
    // Where a file system has no locks, nothing is ever taken for abandoned either.
    ::flock(descriptor_, LOCK_EX | LOCK_NB);
    if (::fstat(descriptor_, &status) != 0) fail_io("cannot create the output", path_, errno);
  }
  buffer_.reserve(kBuffer);
}

AtomicFile::~AtomicFile() {
  if (descriptor_ >= 0) {
    ::close(descriptor_);
    ::unlink(temporary_.c_str());
  }
}

void AtomicFile::flush() {
  write_all(descriptor_, buffer_.data(), buffer_.size(), path_);
  buffer_.clear();
}

void AtomicFile::write(std::span<const std::byte> bytes) {
  size_ += bytes.size();
  const char* data = reinterpret_cast<const char*>(bytes.data());
  if (bytes.size() >= kBuffer) {
    flush();
    write_all(descriptor_, data, bytes.size(), path_);
    return;
  }
  buffer_.append(data, bytes.size());
  if (buffer_.size() >= kBuffer) flush();
}

void AtomicFile::write_at(uint64_t offset, std::span<const std::byte> bytes) {
  WHIT_CHECK(offset + bytes.size() <= size_);
  flush();
  if (::lseek(descriptor_, static_cast<off_t>(offset), SEEK_SET) < 0) fail_io("cannot write", path_, errno);
  write_all(descriptor_, reinterpret_cast<const char*>(bytes.data()), bytes.size(), path_);
  if (::lseek(descriptor_, 0, SEEK_END) < 0) fail_io("cannot write", path_, errno);
}

void AtomicFile::commit() {
  flush();
  if (::fsync(descriptor_) != 0) fail_io("cannot write", path_, errno);
  if (::close(descriptor_) != 0) {
    descriptor_ = -1;
    const int error = errno;
    ::unlink(temporary_.c_str());
    fail_io("cannot write", path_, error);
  }
  descriptor_ = -1;
  const auto forget = std::exchange(remembered_, nullptr);  // once the file has its final name, or is gone
  if (!overwrite_) {
    // link() refuses an existing target in one step, rename() would replace what another process wrote meanwhile.
    if (::link(temporary_.c_str(), path_.c_str()) == 0) {
      ::unlink(temporary_.c_str());
    } else if (errno == EEXIST) {
      ::unlink(temporary_.c_str());
      fail_exists(path_);
    } else if (::rename(temporary_.c_str(), path_.c_str()) != 0) {  // file systems without hard links
      const int error = errno;
      ::unlink(temporary_.c_str());
      fail_io("cannot write the output under its final name", path_, error);
    }
  } else if (::rename(temporary_.c_str(), path_.c_str()) != 0) {
    const int error = errno;
    ::unlink(temporary_.c_str());
    fail_io("cannot write the output under its final name", path_, error);
  }
  const Descriptor folder{::open(folder_of(path_).c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC)};
  if (folder.fd >= 0) ::fsync(folder.fd);
}

void write_file(const std::filesystem::path& path, std::string_view content, bool overwrite) {
  AtomicFile file(path, overwrite);
  file.write(content);
  file.commit();
}

}  // namespace whit
