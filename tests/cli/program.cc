#include "cli/program.h"

#include <fcntl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cstdio>
#include <cstdlib>
#include <fstream>
#include <sstream>
#include <stdexcept>

#include "cli/verbs.h"

namespace whit {
namespace {

Outcome call(const std::vector<std::string>& words, const std::filesystem::path& folder) {
  const TemporaryFolder scratch;
  const std::string in = scratch.file("in", ""), out = scratch.file("out", ""), error = scratch.file("error", "");
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

// In this process: LibTorch takes half a second to load, which a process for each call would pay again.
Outcome call_whit(const std::vector<std::string>& arguments, const std::string& input) {
  const TemporaryFolder scratch;
  const std::string files[] = {scratch.file("in", input), scratch.file("out", ""), scratch.file("error", "")};
  std::fflush(nullptr);
  int kept[3];
  for (int descriptor = 0; descriptor < 3; ++descriptor) {
    kept[descriptor] = dup(descriptor);
    const int file = open(files[descriptor].c_str(), descriptor == 0 ? O_RDONLY : O_WRONLY | O_APPEND);
    dup2(file, descriptor);
    close(file);
  }
  std::vector<const char*> words = {"whit"};
  for (const std::string& argument : arguments) words.push_back(argument.c_str());
  Outcome outcome;
  outcome.code = run_program(static_cast<int>(words.size()), words.data());
  std::fflush(nullptr);
  for (int descriptor = 0; descriptor < 3; ++descriptor) {
    dup2(kept[descriptor], descriptor);
    close(kept[descriptor]);
  }
  outcome.out = read_all(files[1]);
  outcome.error = read_all(files[2]);
  return outcome;
}

Outcome call_shell(const std::string& line, const std::filesystem::path& folder) {
  const std::string bin = std::filesystem::path(WHIT_PROGRAM).parent_path().string();
  return call({"/bin/sh", "-ec", "PATH='" + bin + "':$PATH\n" + line}, folder);
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
