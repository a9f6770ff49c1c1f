#include "cli/verbs.h"

#include <fmt/format.h>

#include <CLI/CLI.hpp>
#include <cstdio>
#include <new>

#include "base/error.h"
#include "base/memory.h"
#include "base/names.h"

namespace whit {

const std::vector<Verb>& verbs() {
  static const std::vector<Verb> table = {
      inspect_verb(), convert_verb(), run_verb(), eval_verb(), bench_verb(), report_verb(), formats_verb(),
#ifdef WHIT_LEARN
      compress_verb(), calibrate_verb(), tune_verb(), methods_verb(),
#else
      {"compress", "make a model fit a number of bytes", "", true, {}},
      {"calibrate", "measure once what every size of a model needs to know", "", true, {}},
      {"tune", "train a compressed model as it is stored", "", true, {}},
      {"methods", "list and describe the methods, and the presets", "", true, {}},
#endif
  };
  return table;
}

namespace {

std::string program_help() {
  std::string text = "whit: not one more bit than your model needs.\n\nUsage: whit VERB [options]\n\nVerbs:\n";
  for (const Verb& verb : verbs())
    if (verb.declare) text += fmt::format("  {:<10} {}\n", verb.name, verb.summary);
  text +=
      "\n`whit VERB --help` tells the options of a verb and ends with an example.\n"
      "Results go to stdout, talk to stderr; the exit codes are in docs/cli.md.\n";
  return text;
}

const Verb& find_verb(const std::string& name) {
  std::vector<std::string> known;
  for (const Verb& verb : verbs()) {
    if (verb.name == name) {
      if (!verb.declare)
        throw Error(ErrorKind::usage, "this build of whit cannot do that", "verb", name,
                    "it is the lean build, made without LibTorch: configure with the preset dev or release");
      return verb;
    }
    if (verb.declare) known.push_back(verb.name);
  }
  throw Error(ErrorKind::usage, "unknown verb", "whit", name, suggest_name(name, known));
}

// CLI11 names what it did not understand; the nearest option of the verb is the help.
[[noreturn]] void unknown_option(const CLI::App& app, const std::string& verb) {
  std::vector<std::string> known;
  for (const CLI::Option* option : app.get_options()) {
    for (const std::string& name : option->get_lnames()) known.push_back("--" + name);
    for (const std::string& name : option->get_snames()) known.push_back("-" + name);
  }
  const std::vector<std::string> rest = app.remaining();
  const std::string found = rest.empty() ? std::string() : rest.front();
  if (found.rfind("-", 0) != 0)
    throw Error(ErrorKind::usage, "an argument too many", "whit " + verb, found, "whit " + verb + " --help");
  const std::string name = found.substr(0, found.find('='));
  throw Error(ErrorKind::usage, "unknown option", "whit " + verb, found, suggest_name(name, known));
}

// Names inside files are hostile: control characters never reach the terminal.
std::string printable(const std::string& text) {
  std::string out;
  for (const char c : text) {
    const auto byte = static_cast<unsigned char>(c);
    if ((byte < 0x20 && c != '\n' && c != '\t') || byte == 0x7f)
      out += fmt::format("\\x{:02x}", byte);
    else
      out += c;
  }
  return out;
}

int fail(const Error& error) {
  std::fflush(stdout);
  fmt::print(stderr, "error: {}\n", printable(error.what()));
  return error.exit_code();
}

void run_verb_of(const std::vector<std::string>& arguments) {
  const Verb& verb = find_verb(arguments.front());
  CLI::App app(verb.summary, "whit " + verb.name);
  app.footer("Example:\n  " + verb.example);
  app.allow_extras();  // reported by unknown_option()
  bool quiet = false;
  app.add_flag("--quiet,-q", quiet, "no talk and no progress on stderr, errors only");
  const VerbBody body = verb.declare(app);
  std::vector<std::string> reversed(arguments.rbegin(), arguments.rend() - 1);
  try {
    app.parse(reversed);
  } catch (const CLI::CallForHelp&) {
    write_result(app.help());
    return;
  } catch (const CLI::ParseError& error) {
    // An unknown option is the likelier reason for anything that is missing, so it is told first.
    if (!app.remaining().empty()) unknown_option(app, verb.name);
    throw Error(ErrorKind::usage, error.what(), "whit " + verb.name, {}, "whit " + verb.name + " --help");
  }
  if (!app.remaining().empty()) unknown_option(app, verb.name);
  Terminal terminal(quiet);
  body(terminal);
}

}  // namespace

Json named_values(const std::vector<std::string>& set) {
  Json options = Json::object();
  for (const std::string& item : set) {
    const size_t at = item.find('=');
    if (at == std::string::npos) throw Error(ErrorKind::usage, "an option is NAME=VALUE", "--set", item);
    const Json value = Json::parse(item.substr(at + 1), nullptr, false);
    options[item.substr(0, at)] = value.is_discarded() ? Json(item.substr(at + 1)) : value;
  }
  return options;
}

int run_program(int argc, const char* const* argv) {
  try {
    return_freed_memory_at_once();
    install_interrupt_handler();
    std::vector<std::string> arguments(argv + 1, argv + argc);
    if (!arguments.empty() && arguments.front() == "help") {
      arguments.erase(arguments.begin());
      if (!arguments.empty())
        arguments = {arguments.front(), "--help"};
      else
        arguments = {"--help"};
    }
    if (arguments.empty()) throw Error(ErrorKind::usage, "a verb is missing", "whit", {}, "whit --help");
    if (arguments.front() == "--help" || arguments.front() == "-h") {
      write_result(program_help());
    } else if (arguments.front() == "--version") {
      write_result(fmt::format("whit {}\n", WHIT_VERSION));
    } else {
      run_verb_of(arguments);
    }
    finish_results();
    return 0;
  } catch (const Error& error) {
    return fail(error);
  } catch (const std::bad_alloc&) {
    return fail(
        Error(ErrorKind::budget, "out of memory", {}, {}, "free some memory, or use a smaller model or context"));
  } catch (const std::exception& error) {
    return fail(Error(ErrorKind::internal, "an unexpected failure inside whit", {}, error.what(),
                      "this is a bug: please report the command"));
  }
}

}  // namespace whit
