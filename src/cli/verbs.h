// The verbs of the program. Each has one file, which makes one Verb; verbs.cc lists them.
#pragma once

#include <functional>
#include <initializer_list>
#include <string>
#include <vector>

#include "base/options.h"
#include "cli/terminal.h"

namespace CLI {
class App;
}

namespace whit {

// What runs once the command line was understood. Errors are thrown; results go to stdout.
using VerbBody = std::function<void(Terminal&)>;

struct Verb {
  std::string name;
  std::string summary;    // one line of `whit --help`
  std::string example;    // ends `whit VERB --help`: a command that runs in the project's folder
  bool learning = false;  // needs LibTorch: absent in the lean build
  // Declares the options on the app and returns the body. The variables of the options live in the body's closure.
  // Empty for a learning verb in the lean build.
  std::function<VerbBody(CLI::App&)> declare;
};

Verb inspect_verb();
Verb convert_verb();
Verb run_verb();
Verb eval_verb();
Verb bench_verb();
Verb report_verb();
Verb formats_verb();
#ifdef WHIT_LEARN
Verb compress_verb();
Verb calibrate_verb();
Verb tune_verb();
Verb methods_verb();
#endif

const std::vector<Verb>& verbs();

// Whether the option stands on the command line. For use in a body.
bool given(const CLI::App& app, const char* option);
// ErrorKind::usage where one of `options` is given: it would do nothing, and `why` says why.
void refuse_without_effect(const CLI::App& app, std::initializer_list<const char*> options, const std::string& why);
// NAME=VALUE of --set as a table of options.
Json named_values(const std::vector<std::string>& set);

// The whole program: picks the verb, parses, runs, and turns an Error into its message on stderr and its exit code.
int run_program(int argc, const char* const* argv);

}  // namespace whit
