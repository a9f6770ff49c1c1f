// kill -9 at moments spread over a run of the program: the same command goes on and ends in the same bytes.
// The run is slowed by WHIT_TEST_DELAY_MS, so that every phase lasts long enough to be hit; the phase is read off
// stderr.
#include <fcntl.h>
#include <gtest/gtest.h>
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <map>
#include <string>
#include <thread>
#include <vector>

#include "base/file.h"
#include "base/rng.h"

namespace whit {
namespace {

using Clock = std::chrono::steady_clock;

struct Program {
  pid_t pid = -1;
  int errors = -1;  // read end of its stderr
};

Program start(const std::vector<std::string>& arguments) {
  int pipe_ends[2];
  if (::pipe(pipe_ends) != 0) return {};
  const pid_t pid = ::fork();
  if (pid == 0) {
    ::dup2(pipe_ends[1], STDERR_FILENO);
    ::close(pipe_ends[0]);
    ::close(pipe_ends[1]);
    const int null = ::open("/dev/null", O_WRONLY);
    ::dup2(null, STDOUT_FILENO);
    std::vector<char*> argv;
    for (const std::string& argument : arguments) argv.push_back(const_cast<char*>(argument.c_str()));
    argv.push_back(nullptr);
    ::execv(argv[0], argv.data());
    ::_exit(127);
  }
  ::close(pipe_ends[1]);
  return {pid, pipe_ends[0]};
}

int wait_for(const Program& program, std::string* log = nullptr) {
  char buffer[4096];
  for (ssize_t count; (count = ::read(program.errors, buffer, sizeof(buffer))) > 0;)
    if (log) log->append(buffer, static_cast<size_t>(count));
  ::close(program.errors);
  int status = 0;
  ::waitpid(program.pid, &status, 0);
  return status;
}

// Kills the program `delay` after `phase` was first seen on its stderr. False when it ended before.
bool kill_in_phase(const Program& program, const std::string& phase, std::chrono::milliseconds delay) {
  // As begin() is shown: "2 of 4: compress". The time that is expected of it is told before.
  const std::string begun = ": " + phase;
  std::string log;
  char buffer[4096];
  bool seen = false;
  for (ssize_t count; !seen && (count = ::read(program.errors, buffer, sizeof(buffer))) > 0;) {
    log.append(buffer, static_cast<size_t>(count));
    seen = log.find(begun) != std::string::npos;
  }
  if (seen) {
    std::this_thread::sleep_for(delay);
    ::kill(program.pid, SIGKILL);
  }
  const int status = wait_for(program);
  return WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL;
}

size_t finished_units(const std::filesystem::path& journal) {
  size_t count = 0;
  if (std::filesystem::exists(journal))
    for (const auto& entry : std::filesystem::directory_iterator(journal)) count += entry.path().extension() == ".unit";
  return count;
}

// A folder of the test's own with a text in it.
class Kill : public testing::Test {
 protected:
  void SetUp() override {
    folder = std::filesystem::temp_directory_path() / ("whit_kill_" + std::to_string(::getpid()));
    std::filesystem::remove_all(folder);
    std::filesystem::create_directories(folder);
    std::string text;
    Rng rng(3);
    const char* words[] = {"the", "cat", "sat", "on", "a", "mat", "and", "saw", "big", "dog", "run", "away"};
    for (int i = 0; i < 6000; ++i) text += std::string(words[rng.below(12)]) + (rng.below(8) == 0 ? ". " : " ");
    write_file(folder / "text.txt", text, false);
  }
  void TearDown() override {
    ::unsetenv("WHIT_TEST_DELAY_MS");
    ::unsetenv("WHIT_TEST_CHECKPOINT_SECONDS");
    std::filesystem::remove_all(folder);
  }
  // The command that makes name.gguf.
  std::vector<std::string> compress(const std::string& name, const std::vector<std::string>& how) const {
    std::vector<std::string> command = {WHIT_PROGRAM, "compress",
                                        std::string(WHIT_TESTS_DIR) + "/data/models/stories260K.gguf"};
    command.insert(command.end(), how.begin(), how.end());
    for (const std::string& more :
         {std::string("--no-check"), std::string("--threads"), std::string("1"), std::string("--cache"),
          (folder / ("cache-" + name)).string(), std::string("-o"), (folder / (name + ".gguf")).string()})
      command.push_back(more);
    return command;
  }
  void forget(const std::string& name) const {
    std::filesystem::remove_all(folder / ("cache-" + name));
    std::filesystem::remove_all(folder / (name + ".gguf.journal"));
    std::filesystem::remove(folder / (name + ".gguf"));
  }
  std::filesystem::path folder;
};

TEST_F(Kill, AnywhereAndGoOn) {
  const auto command = [&](const std::string& name) {
    return compress(name, {"--fit", "200KB", "--data", (folder / "text.txt").string(), "--calibration-tokens", "2048",
                           "--context", "128"});
  };
  ASSERT_EQ(wait_for(start(command("whole"))), 0);
  const std::string whole = read_file(folder / "whole.gguf");
  ::setenv("WHIT_TEST_DELAY_MS", "60", 1);
  std::map<std::string, int> kills;
  int with_finished_units = 0;
  for (const std::string phase :
       {"sensitivity: forward", "sensitivity: blocks", "sensitivity: probes", "compress", "write"})
    for (int moment = 0; moment < 5; ++moment) {
      const std::string name = "stopped";
      forget(name);
      if (!kill_in_phase(start(command(name)), phase, std::chrono::milliseconds(1 + 50 * moment))) continue;
      ++kills[phase];
      ASSERT_FALSE(std::filesystem::exists(folder / "stopped.gguf")) << phase << " " << moment;
      const size_t finished = finished_units(folder / "stopped.gguf.journal");
      std::string log;
      ASSERT_EQ(wait_for(start(command(name)), &log), 0) << phase << " " << moment << "\n" << log;
      ASSERT_EQ(read_file(folder / "stopped.gguf"), whole) << phase << " " << moment;
      // Nothing that was finished is done again: what is repeated is the block in hand at most.
      const bool goes_on = log.find("going on: " + std::to_string(finished) + " of ") != std::string::npos;
      ASSERT_EQ(goes_on, finished > 0) << phase << " " << moment << "\n" << log;
      with_finished_units += finished > 0;
    }
  for (const auto& [phase, count] : kills) std::printf("%-22s killed %d times\n", phase.c_str(), count);
  std::printf("finished units in the journal at %d of these moments\n", with_finished_units);
  EXPECT_EQ(kills.size(), 5u) << "every phase was hit";
  for (const auto& [phase, count] : kills) EXPECT_GE(count, 4) << phase;
  EXPECT_GE(with_finished_units, 6);
}

TEST_F(Kill, WhileItTrains) {
  write_file(folder / "recipe.toml",
             "whit = 1\n[tune]\ndata = \"self+" + (folder / "text.txt").string() +
                 "\"\ntokens = 10240\ntext_tokens = 4096\nbatch = 256\ncontext = 128\n"
                 "[[step]]\nmethod = \"lowrank_admm\"\ntensors = \"*\"\nformat = { name = \"lowrank_sign\", bits = 1 }\n"
                 "[[step]]\nmethod = \"distill\"\n",
             false);
  const auto command = [&](const std::string& name) {
    return compress(name, {"--recipe", (folder / "recipe.toml").string()});
  };
  std::string first;
  ASSERT_EQ(wait_for(start(command("whole")), &first), 0) << first;
  const std::string whole = read_file(folder / "whole.gguf");
  ::setenv("WHIT_TEST_DELAY_MS", "60", 1);
  ::setenv("WHIT_TEST_CHECKPOINT_SECONDS", "0", 1);
  int kills = 0, went_on = 0;
  for (int moment = 0; moment < 6; ++moment) {
    forget("stopped");
    if (!kill_in_phase(start(command("stopped")), "tune", std::chrono::milliseconds(50 + 500 * moment))) continue;
    ++kills;
    ASSERT_FALSE(std::filesystem::exists(folder / "stopped.gguf")) << moment;
    const bool saved = std::filesystem::exists(folder / "stopped.gguf.journal" / "tune.checkpoint");
    std::string log;
    ASSERT_EQ(wait_for(start(command("stopped")), &log), 0) << moment << "\n" << log;
    ASSERT_EQ(read_file(folder / "stopped.gguf"), whole) << moment;
    EXPECT_EQ(log.find("going on after step") != std::string::npos, saved) << moment << "\n" << log;
    went_on += saved;
  }
  std::printf("killed %d times, a checkpoint was there %d times\n", kills, went_on);
  EXPECT_GE(kills, 4);
  EXPECT_GE(went_on, 3);
}

// Ctrl-C before a periodic checkpoint is due: the program says where it goes on from, and does.
TEST_F(Kill, CtrlCInTune) {
  const std::string model = std::string(WHIT_TESTS_DIR) + "/data/models/stories260K.gguf";
  const auto command = [&](const std::string& name) {
    return std::vector<std::string>{WHIT_PROGRAM,
                                    "tune",
                                    model,
                                    "--against",
                                    model,
                                    "--data",
                                    (folder / "text.txt").string(),
                                    "--train-tokens",
                                    "10240",
                                    "--batch",
                                    "256",
                                    "--context",
                                    "128",
                                    "--threads",
                                    "1",
                                    "--cache",
                                    (folder / "cache").string(),
                                    "-o",
                                    (folder / (name + ".gguf")).string()};
  };
  ASSERT_EQ(wait_for(start(command("whole"))), 0);
  ::setenv("WHIT_TEST_DELAY_MS", "60", 1);
  const Program program = start(command("stopped"));
  std::string log;
  char buffer[4096];
  for (ssize_t count;
       log.find(": tune") == std::string::npos && (count = ::read(program.errors, buffer, sizeof(buffer))) > 0;)
    log.append(buffer, static_cast<size_t>(count));
  std::this_thread::sleep_for(std::chrono::milliseconds(300));
  ::kill(program.pid, SIGINT);
  const int status = wait_for(program, &log);
  ASSERT_TRUE(WIFEXITED(status) && WEXITSTATUS(status) == 130) << log;
  EXPECT_NE(log.find("goes on from this step"), std::string::npos) << log;
  EXPECT_TRUE(std::filesystem::exists(folder / "stopped.gguf.journal" / "tune.checkpoint"));
  log.clear();
  ASSERT_EQ(wait_for(start(command("stopped")), &log), 0) << log;
  EXPECT_NE(log.find("going on after step"), std::string::npos) << log;
  EXPECT_EQ(read_file(folder / "stopped.gguf"), read_file(folder / "whole.gguf"));
}

}  // namespace
}  // namespace whit
