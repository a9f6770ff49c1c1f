// Runs the program and keeps what it said.
#pragma once

#include <filesystem>
#include <string>
#include <vector>

namespace whit {

struct Outcome {
  int code = -1;  // 128 + signal when it was killed
  std::string out, error;
};

// Runs the program inside this process. `input`: its standard input.
Outcome call_whit(const std::vector<std::string>& arguments, const std::string& input = {});
// A shell line in a process of its own, with the program's folder first on PATH.
Outcome call_shell(const std::string& line, const std::filesystem::path& folder);

// A folder that goes with the object.
class TemporaryFolder {
 public:
  TemporaryFolder();
  ~TemporaryFolder();
  const std::filesystem::path& path() const { return path_; }
  // Writes a file and returns its path.
  std::string file(const std::string& name, const std::string& content) const;

 private:
  std::filesystem::path path_;
};

std::string read_all(const std::filesystem::path& path);

}  // namespace whit
