#include "cli/program.h"

#include <fcntl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cstdlib>
#include <fstream>
#include <sstream>
#include <stdexcept>

namespace whit {
namespace {

Outcome call(const std::vector<std::string>& words, const std::string& input, const std::filesystem::path& folder) {
  const TemporaryFolder scratch;
  const std::string in = scratch.file("in", input), out = scratch.file("out", ""), error = scratch.file("error", "");
  const pid_t child = fork();
  if (child < 0) throw std::runtime_error("fork failed");
  if (child == 0) {
    if (!folder.empty() && chdir(folder.c_str()) != 0) _exit(126);
    dup2(open(in.c_str(), O_RDONLY), 0);
    dup2(open(out.c_str(), O_WRONLY), 1);
    dup2(open(error.c_str(), O_WRONLY), 2);
    std::vector<char*> raw;
    for (const std::string& word : words) raw.push_back(const_cast<char*>(word.c_str()));
    raw.push_back(nullptr);
    execv(raw[0], raw.data());
    _exit(127);
  }
  int status = 0;
  waitpid(child, &status, 0);
  Outcome outcome;
  outcome.code = WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
  outcome.out = read_all(out);
  outcome.error = read_all(error);
  return outcome;
}

}  // namespace

Outcome call_whit(const std::vector<std::string>& arguments, const std::string& input,
                  const std::filesystem::path& folder) {
  std::vector<std::string> words = {WHIT_PROGRAM};
  words.insert(words.end(), arguments.begin(), arguments.end());
  return call(words, input, folder);
}

Outcome call_shell(const std::string& line, const std::filesystem::path& folder) {
  const std::string bin = std::filesystem::path(WHIT_PROGRAM).parent_path().string();
  return call({"/bin/sh", "-ec", "PATH='" + bin + "':$PATH\n" + line}, "", folder);
}

TemporaryFolder::TemporaryFolder() {
  std::string name = (std::filesystem::temp_directory_path() / "whit-test-XXXXXX").string();
  if (!mkdtemp(name.data())) throw std::runtime_error("no temporary folder");
  path_ = name;
}

TemporaryFolder::~TemporaryFolder() {
  std::error_code ignored;
  std::filesystem::remove_all(path_, ignored);
}

std::string TemporaryFolder::file(const std::string& name, const std::string& content) const {
  const std::filesystem::path path = path_ / name;
  std::ofstream(path, std::ios::binary) << content;
  return path.string();
}

std::string read_all(const std::filesystem::path& path) {
  std::ifstream file(path, std::ios::binary);
  std::ostringstream text;
  text << file.rdbuf();
  return text.str();
}

}  // namespace whit
