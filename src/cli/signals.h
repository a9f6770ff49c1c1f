// How the program is stopped from outside.
#pragma once

namespace whit {

// SIGINT (Ctrl-C), SIGTERM and SIGHUP set a flag, and the work ends between two units of it; the second one ends the
// process at once. A file that was cut short while it is mapped (SIGBUS) ends it with a message and the exit code of
// io. No way out but SIGKILL leaves temporary files. Writing into a closed pipe or beyond a limit on sizes is an error
// of the write, no signal. Also sees to it that descriptors 0 to 2 are taken, so that no file of ours gets one of them.
void install_signal_handlers();

// The signal that was caught, or 0. SIGPIPE: whoever read stdout went away.
int stop_signal() noexcept;
bool interrupt_requested() noexcept;
void request_stop(int signal) noexcept;
void forget_interrupt() noexcept;  // a Ctrl-C that only ended an answer; other signals stay
// "stopped by Ctrl-C", or by which signal.
const char* stop_text() noexcept;

}  // namespace whit
