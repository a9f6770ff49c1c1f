// How the program ends when it is stopped from outside: what is said, the exit code, and that nothing is left behind.
#include "cli/signals.h"

#include <gtest/gtest.h>
#include <pty.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include <csignal>
#include <string>
#include <thread>

#include "base/file.h"
#include "cli/program.h"

namespace whit {
namespace {

namespace fs = std::filesystem;

const std::string tests = WHIT_TESTS_DIR;
const std::string stories = tests + "/data/models/stories260K.gguf";

size_t entries(const fs::path& folder) {
  return static_cast<size_t>(std::distance(fs::directory_iterator(folder), fs::directory_iterator()));
}

class Signals : public testing::Test {
 protected:
  // A child that has begun two outputs and then does `body`; its wait status.
  template <class Body>
  int in_child(Body body) {
    const pid_t child = fork();
    if (child == 0) {
      install_signal_handlers();
      const rlimit none{0, 0};
      setrlimit(RLIMIT_CORE, &none);
      const AtomicFile one(folder.path() / "one", false);
      const Remembered directory(folder.path() / "directory");
      fs::create_directory(folder.path() / "directory");
      const AtomicFile two(folder.path() / "directory" / "two", false);
      body();
      _exit(99);
    }
    int status = 0;
    waitpid(child, &status, 0);
    return status;
  }
  TemporaryFolder folder;
};

TEST_F(Signals, ThatEndTheProcessLeaveNothing) {
  for (const int signal : {SIGABRT, SIGSEGV, SIGQUIT, SIGFPE}) {
    const int status = in_child([&] { raise(signal); });
    EXPECT_TRUE(WIFSIGNALED(status) && WTERMSIG(status) == signal) << signal;
    EXPECT_EQ(entries(folder.path()), 0u) << signal;
  }
  // The second of those that stop between two units of work.
  for (const int signal : {SIGINT, SIGTERM, SIGHUP}) {
    const int status = in_child([&] {
      raise(signal);
      if (stop_signal() != signal) _exit(98);
      raise(signal);
    });
    EXPECT_TRUE(WIFSIGNALED(status) && WTERMSIG(status) == signal) << signal << " " << WEXITSTATUS(status);
    EXPECT_EQ(entries(folder.path()), 0u) << signal;
  }
}

TEST_F(Signals, AMappedFileThatIsCutShortIsNamed) {
  const TemporaryFolder other;
  const std::string path = other.file("mapped\x1b.bin", std::string(1 << 20, 'x'));
  const std::string said = other.file("said", "");
  const int status = in_child([&] {
    if (!freopen(said.c_str(), "w", stderr)) _exit(97);
    const auto mapped = MappedFile::open(path);
    fs::resize_file(path, 100);
    const volatile std::byte last = mapped->bytes().back();
    static_cast<void>(last);
  });
  EXPECT_TRUE(WIFEXITED(status) && WEXITSTATUS(status) == 5) << status;
  EXPECT_NE(read_all(said).find("became shorter"), std::string::npos) << read_all(said);
  EXPECT_NE(read_all(said).find("mapped\\x1b.bin"), std::string::npos) << read_all(said);
  EXPECT_EQ(entries(folder.path()), 0u);
  // A fault elsewhere stays one.
  const int elsewhere = in_child([] { raise(SIGBUS); });
  EXPECT_TRUE(WIFSIGNALED(elsewhere) && WTERMSIG(elsewhere) == SIGBUS);
  EXPECT_EQ(entries(folder.path()), 0u);
}

// In the program itself: a chat whose model is cut short between two answers.
TEST_F(Signals, AModelThatIsCutShortInAChat) {
  fs::copy_file(stories, folder.path() / "model.gguf");
  const Outcome outcome = call_shell(
      "mkfifo lines; whit run model.gguf --template chatml -n 4 --temp 0 < lines > out 2> said & pid=$!; exec 3> lines\n"
      "echo Hello >&3; while ! [ -s out ]; do sleep 0.1; done; truncate -s 4096 model.gguf; echo Hello >&3; exec 3>&-\n"
      "code=0; wait $pid || code=$?; cat said >&2; exit $code",
      folder.path());
  EXPECT_EQ(outcome.code, 5) << outcome.error;
  EXPECT_NE(outcome.error.find("model.gguf"), std::string::npos) << outcome.error;
  EXPECT_NE(outcome.error.find("became shorter"), std::string::npos) << outcome.error;
}

TEST_F(Signals, ALimitOnFileSizesIsAnError) {
  for (const std::string& command : {"convert '" + stories + "' out.gguf", "convert '" + stories + "' out"}) {
    const Outcome outcome = call_shell("ulimit -f 100; exec whit " + command, folder.path());
    EXPECT_EQ(outcome.code, 5) << command << outcome.error;
    EXPECT_NE(outcome.error.find("ulimit -f"), std::string::npos) << command << outcome.error;
    EXPECT_EQ(entries(folder.path()), 0u) << command;
  }
}

// A folder cannot be looked into then, and goes all the same.
TEST_F(Signals, ALimitOnOpenFilesLeavesNothing) {
  size_t refused = 0;
  for (int limit = 4; limit < 12; ++limit) {
    const Outcome outcome = call_shell(
        "ulimit -n " + std::to_string(limit) + "; exec whit convert '" + stories + "' out", folder.path());
    if (outcome.code == 0) break;
    if (outcome.error.find("loading shared libraries") != std::string::npos) continue;  // not yet the program itself
    ++refused;
    EXPECT_EQ(outcome.code, 5) << outcome.error;
    EXPECT_NE(outcome.error.find("ulimit -n"), std::string::npos) << outcome.error;
    EXPECT_EQ(entries(folder.path()), 0u) << outcome.error;
  }
  EXPECT_GT(refused, 0u);
}

#ifndef __SANITIZE_ADDRESS__  // which takes terabytes of addresses
TEST_F(Signals, ALimitOnMemoryIsAnError) {
  const Outcome outcome =
      call_shell("ulimit -v 3000000; exec whit convert '" + stories + "' out.gguf --threads 1024", folder.path());
  EXPECT_EQ(outcome.code, 4) << outcome.error;
  EXPECT_NE(outcome.error.find("no more threads"), std::string::npos) << outcome.error;
#ifdef WHIT_LEARN
  // Where the libraries would wait for ever.
  const Outcome learning = call_shell(
      "ulimit -v 1048576; exec timeout 20 whit compress '" + stories + "' --preset rtn-3 -o out.gguf", folder.path());
  EXPECT_EQ(learning.code, 4) << learning.error;
  EXPECT_NE(learning.error.find("ulimit -v"), std::string::npos) << learning.error;
#endif
  EXPECT_EQ(entries(folder.path()), 0u);
}
#endif

TEST_F(Signals, TermAndHangupStopAsCtrlCDoes) {
  struct Case {
    std::string name, command;
    int code;
    Outcome outcome;
  };
  std::vector<Case> cases;
  for (const auto& [name, code] : {std::pair{"TERM", 143}, std::pair{"HUP", 129}, std::pair{"INT", 130}}) {
    // Waiting for a line, and waiting for a pipe that nobody writes to. In a chat the first Ctrl-C only asks for another.
    if (std::string(name) != "INT")
      cases.push_back({name, "run '" + stories + "' --template chatml < waiting", code, {}});
    cases.push_back({name, "eval '" + stories + "' --text waiting", code, {}});
  }
  // All at once: they do nothing but wait.
  std::vector<std::thread> threads;
  for (size_t i = 0; i < cases.size(); ++i) {
    const fs::path own = folder.path() / std::to_string(i);
    fs::create_directory(own);
    threads.emplace_back([&one = cases[i], own] {
      one.outcome = call_shell("mkfifo waiting; sleep 60 > waiting & open=$!\nset -m; whit " + one.command +
                                   " & pid=$!; sleep 2.5; kill -" + one.name +
                                   " $pid\ncode=0; wait $pid || code=$?; kill $open; exit $code",
                               own);
    });
  }
  for (std::thread& thread : threads) thread.join();
  for (const Case& one : cases) {
    EXPECT_EQ(one.outcome.code, one.code) << one.name << " " << one.command << one.outcome.error;
    EXPECT_EQ(one.outcome.error.find("unexpected"), std::string::npos) << one.outcome.error;
    EXPECT_NE(one.outcome.error.find(one.code == 130   ? "Ctrl-C"
                                     : one.code == 143 ? "SIGTERM"
                                                       : "SIGHUP"),
              std::string::npos)
        << one.outcome.error;
  }
}

TEST_F(Signals, AReaderThatLeavesIsNoError) {
  const std::string wait = "; while ! [ -s code ]; do sleep 0.1; done; cat code; rm code";
  const Outcome outcome =
      call_shell("( sleep 0.3; whit inspect '" + stories + "' 2> said || echo $? > code ) | true" + wait, folder.path());
  EXPECT_EQ(outcome.out, "141\n");
  EXPECT_EQ(read_all(folder.path() / "said"), "");
  // Talk that nobody reads does not end the work.
  EXPECT_EQ(call_shell("( sleep 0.3; whit convert '" + stories + "' out.gguf 2>&1 > done && echo 0 > code ) | true" + wait,
                       folder.path())
                .out,
            "0\n");
}

TEST_F(Signals, ClosedStreamsAreNoFiles) {
  EXPECT_EQ(
      call_shell("whit convert '" + stories + "' a.gguf 2>&- && cmp a.gguf a.gguf && whit inspect a.gguf > /dev/null",
                 folder.path())
          .code,
      0);
  EXPECT_EQ(call_shell("exec whit inspect '" + stories + "' >&-", folder.path()).code, 5);
}

// What the program writes to a terminal, and to a pipe.
TEST_F(Signals, ATerminalGetsNothingThatActs) {
  const std::string name =
      "a\x1b[31m\xc2\x9b"
      "b\xe2\x80\xae"
      "c\rd.gguf";
  fs::copy_file(stories, folder.path() / name);
  int terminal = -1;
  const std::string path = (folder.path() / name).string();
  const pid_t child = forkpty(&terminal, nullptr, nullptr, nullptr);
  if (child == 0) {
    execl(WHIT_PROGRAM, "whit", "inspect", path.c_str(), nullptr);
    _exit(127);
  }
  std::string shown;
  char bytes[4096];
  for (ssize_t count; (count = read(terminal, bytes, sizeof(bytes))) > 0;)
    shown.append(bytes, static_cast<size_t>(count));
  waitpid(child, nullptr, 0);
  close(terminal);
  EXPECT_NE(shown.find("a\\x1b[31m\\u009bb\\u202ec\\x0dd.gguf"), std::string::npos) << shown.substr(0, 300);
  EXPECT_EQ(shown.find('\x1b'), std::string::npos);
  EXPECT_NE(call_whit({"inspect", path}).out.find(name), std::string::npos);  // a pipe gets the bytes
}

}  // namespace
}  // namespace whit
