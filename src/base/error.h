// The one error type of the project: what went wrong, where, what was found, what to try.
// Libraries throw it; only cli prints it and turns its kind into the exit code (docs/cli.md).
#pragma once

#include <stdexcept>
#include <string>
#include <string_view>

namespace whit {

// The value of a kind is the exit code of the program.
enum class ErrorKind {
  internal = 1,     // our own mistake
  usage = 2,        // unknown option, nonsense value, missing argument
  input = 3,        // a file or text that cannot be used: damaged structure, unknown type, wrong shape
  budget = 4,       // a size or memory budget that cannot be met
  io = 5,           // missing file, full disk, no permission, existing output
  integrity = 6,    // a checksum does not match
  numeric = 7,      // NaN or Inf where a number was needed, an unsolvable system
  interrupted = 130 // Ctrl-C
};

class Error : public std::runtime_error {
 public:
  // `where` names file, tensor or option; `found` the offending value; `hint` what to try. Any may be empty.
  Error(ErrorKind kind, std::string what, std::string where = {}, std::string found = {}, std::string hint = {});

  ErrorKind kind() const noexcept { return kind_; }
  int exit_code() const noexcept { return static_cast<int>(kind_); }
  const std::string& message() const noexcept { return message_; }
  const std::string& where() const noexcept { return where_; }
  const std::string& found() const noexcept { return found_; }
  const std::string& hint() const noexcept { return hint_; }

 private:
  ErrorKind kind_;
  std::string message_, where_, found_, hint_;
};

// For invariants of ours (never for input): throws ErrorKind::internal.
#define WHIT_CHECK(condition)                                                                              \
  do {                                                                                                     \
    if (!(condition)) ::whit::check_failed(#condition, __FILE__, __LINE__);                                \
  } while (0)
[[noreturn]] void check_failed(const char* condition, const char* file, int line);

}  // namespace whit
