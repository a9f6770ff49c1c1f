#include "base/error.h"

#include <fmt/format.h>

namespace whit {
namespace {

std::string compose(const std::string& what, const std::string& where, const std::string& found,
                    const std::string& hint) {
  std::string text = what;
  if (!where.empty()) text += fmt::format("\n  where: {}", where);
  if (!found.empty()) text += fmt::format("\n  found: {}", found);
  if (!hint.empty()) text += fmt::format("\n  try:   {}", hint);
  // what() is a C string: behind a NUL byte of a file's the rest would be lost.
  for (size_t at = 0; (at = text.find('\0', at)) != std::string::npos; at += 4) text.replace(at, 1, "\\x00");
  return text;
}

}  // namespace

Error::Error(ErrorKind kind, std::string what, std::string where, std::string found, std::string hint)
    : std::runtime_error(compose(what, where, found, hint)),
      kind_(kind),
      message_(std::move(what)),
      where_(std::move(where)),
      found_(std::move(found)),
      hint_(std::move(hint)) {}

void check_failed(const char* condition, const char* file, int line) {
  throw Error(ErrorKind::internal, "a check of whit itself failed", fmt::format("{}:{}", file, line), condition,
              "this is a bug: please report the command");
}

}  // namespace whit
