#include "cli/signals.h"

#include <fcntl.h>
#include <signal.h>
#include <unistd.h>

#include <atomic>
#include <cstring>

#include "base/error.h"
#include "base/last_words.h"

namespace whit {
namespace {

std::atomic<int> caught{0};
static_assert(std::atomic<int>::is_always_lock_free, "the signal handlers rely on it");

void end_by(int signal) {
  remove_temporaries();
  ::signal(signal, SIG_DFL);
  ::raise(signal);
}

extern "C" void on_stop(int signal) {
  int none = 0;
  if (!caught.compare_exchange_strong(none, signal)) end_by(signal);
}

extern "C" void on_end(int signal) { end_by(signal); }

void say(const char* text) {
  if (::write(STDERR_FILENO, text, std::strlen(text)) < 0) return;
}

extern "C" void on_bus_error(int signal, siginfo_t* info, void*) {
  const char* name = mapped_file_at(info->si_addr);
  if (!name) return end_by(signal);
  say("\nerror: a file became shorter while it was in use, or the disk failed\n  where: ");
  say(name);
  say("\n  try:   leave the file alone while whit reads it, and check that it is whole\n");
  remove_temporaries();
  ::_exit(static_cast<int>(ErrorKind::io));
}

void handle(int signal, void (*handler)(int), int flags) {
  struct sigaction action {};
  action.sa_handler = handler;
  sigemptyset(&action.sa_mask);
  action.sa_flags = flags;
  sigaction(signal, &action, nullptr);
}

// What a sanitizer or a caller's wish (nohup) has set stays.
bool is_default(int signal) {
  struct sigaction now {};
  return sigaction(signal, nullptr, &now) == 0 && !(now.sa_flags & SA_SIGINFO) && now.sa_handler == SIG_DFL;
}

}  // namespace

void install_signal_handlers() {
  // Read-only, so that writing to a stdout that was closed stays an error.
  for (int descriptor = 0; descriptor <= STDERR_FILENO;)
    if (::fcntl(descriptor, F_GETFD) >= 0 || ::open("/dev/null", O_RDONLY) == descriptor)
      ++descriptor;
    else
      break;
  caught = 0;
  handle(SIGINT, on_stop, 0);  // no SA_RESTART: a read that waits for the user must return
  for (const int signal : {SIGTERM, SIGHUP})
    if (is_default(signal)) handle(signal, on_stop, 0);
  for (const int signal : {SIGQUIT, SIGABRT, SIGSEGV, SIGFPE, SIGILL, SIGXCPU})
    if (is_default(signal)) handle(signal, on_end, 0);
  for (const int signal : {SIGPIPE, SIGXFSZ}) handle(signal, SIG_IGN, 0);
  if (!is_default(SIGBUS)) return;
  struct sigaction action {};
  action.sa_sigaction = on_bus_error;
  sigemptyset(&action.sa_mask);
  action.sa_flags = SA_SIGINFO;
  sigaction(SIGBUS, &action, nullptr);
}

int stop_signal() noexcept { return caught.load(); }
bool interrupt_requested() noexcept { return caught.load() != 0; }

void request_stop(int signal) noexcept {
  int none = 0;
  caught.compare_exchange_strong(none, signal);
}

void forget_interrupt() noexcept {
  int interrupt = SIGINT;
  caught.compare_exchange_strong(interrupt, 0);
}

const char* stop_text() noexcept {
  switch (caught.load()) {
    case SIGTERM:
      return "stopped by SIGTERM";
    case SIGHUP:
      return "stopped by SIGHUP (the terminal went away)";
    default:
      return "stopped by Ctrl-C";
  }
}

}  // namespace whit
