// Files that options name: what is wrong with one, said in words of the option. Models have their own
// (model/spec/what_is_this.h).
#pragma once

#include <functional>
#include <string>

#include "base/error.h"
#include "base/progress.h"

namespace whit {

// Runs `read`. Where it fails, the error says what stands there instead, and what `option` wants: `wanted`, "a plain
// text". `absent`: a hint for a name that is no file, or nothing.
void reading_file(const std::string& option, const std::string& name, const std::string& wanted,
                  const std::string& absent, const std::function<void()>& read);

// What some editors put before UTF-8.
inline constexpr const char* kByteOrderMark = "\xef\xbb\xbf";

// A value of --data with standard input by its name as a file, which is read once and kept. ErrorKind::usage for one
// that cannot be.
std::string named_data(const std::string& data);
// The file in it, or nothing.
std::string data_file(const std::string& data);

// A plain text, of pipes too.
std::string read_text_of(const std::string& option, const std::string& name, Progress& progress);

}  // namespace whit
