#include "cli/verbs.h"

#include <fmt/format.h>
#include <sys/resource.h>
#include <unistd.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <csignal>
#include <cstdio>
#include <filesystem>
#include <fstream>
#include <new>
#include <set>
#include <system_error>

#include "base/error.h"
#include "base/memory.h"
#include "base/threads.h"
#include "cli/meanings.h"

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

bool given(const CLI::App& app, const char* option) {
  const CLI::Option* found = app.get_option_no_throw(option);
  return found && found->count() > 0;
}

void refuse_without_effect(const CLI::App& app, std::initializer_list<const char*> options, const std::string& why) {
  for (const char* option : options)
    if (given(app, option))
      throw Error(ErrorKind::usage, "an option that would do nothing", option, why,
                  fmt::format("leave out {}", option));
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
  throw Error(ErrorKind::usage, "unknown verb", "whit", name, verb_hint(name, known));
}

std::vector<std::string> option_names(const CLI::App& app) {
  std::vector<std::string> names;
  for (const CLI::Option* option : app.get_options()) {
    for (const std::string& name : option->get_lnames()) names.push_back("--" + name);
    for (const std::string& name : option->get_snames()) names.push_back("-" + name);
  }
  return names;
}

[[noreturn]] void unknown_option(const CLI::App& app, const std::string& verb, const std::string& found) {
  const std::string name = found.substr(0, found.find('='));
  throw Error(ErrorKind::usage, "unknown option", "whit " + verb, found, option_hint(verb, name, option_names(app)));
}

// What CLI11 would read as something else than was meant: -temp 0 as -t emp, --text= as --text with the next word. And
// values of which one would do nothing.
void check_words(const CLI::App& app, const std::string& verb, const std::vector<std::string>& words) {
  const std::vector<std::string> known = option_names(app);
  std::set<const CLI::Option*> seen;
  for (size_t i = 0; i < words.size() && words[i] != "--"; ++i) {
    const std::string& word = words[i];
    if (word.size() < 2 || word[0] != '-') continue;
    const size_t sign = word.find('=');
    const std::string name = word.substr(0, sign);
    if (means_something_else(name, known)) unknown_option(app, verb, word);
    const CLI::Option* option = app.get_option_no_throw(word[1] == '-' ? name : name.substr(0, 2));
    if (!option || option->get_items_expected_max() == 0) continue;
    if (option->get_multi_option_policy() == CLI::MultiOptionPolicy::Throw && !seen.insert(option).second)
      throw Error(ErrorKind::usage, "an option was given twice", "whit " + verb, word,
                  "it takes one value: leave one of them out");
    if (sign + 1 == word.size())
      throw Error(ErrorKind::usage, "an option without its value", "whit " + verb, word, "whit " + verb + " --help");
    if (word == name && (word[1] == '-' || word.size() == 2))
      ++i;  // the next word is its value, whatever that looks like
  }
}

// An empty name, which a script's empty variable leaves, is never what was meant; an empty text may be.
void check_values(const CLI::App& app, const std::string& verb) {
  for (const CLI::Option* option : app.get_options()) {
    const std::vector<std::string>& values = option->results();
    const std::string name = option->get_name();
    const bool text =
        name == "--prompt" || name == "--system" || name == "--tokenize" || name == "--title" || name == "--note";
    if (!text && std::find(values.begin(), values.end(), "") != values.end())
      throw Error(ErrorKind::usage, "an empty value", "whit " + verb + ": " + name, {},
                  "leave the option out, or give a value");
  }
}

void check_rest(const CLI::App& app, const std::string& verb) {
  bool only_arguments = false;  // behind --
  for (const std::string& word : app.remaining()) {
    if (!only_arguments && word == "--") {
      only_arguments = true;
      continue;
    }
    if (!only_arguments && word.size() > 1 && word[0] == '-') unknown_option(app, verb, word);
    throw Error(ErrorKind::usage, "an argument too many", "whit " + verb, word,
                argument_hint(verb, word, option_names(app)));
  }
}

// Under a limit on addresses OpenBLAS waits for ever for buffers of its threads that it does not get.
void check_address_space(const Verb& verb) {
  rlimit limit{};
  if (!verb.learning || verb.name == "methods" || ::getrlimit(RLIMIT_AS, &limit) != 0 || limit.rlim_cur == RLIM_INFINITY)
    return;
  uint64_t pages = 0;
  std::ifstream("/proc/self/statm") >> pages;
  const uint64_t used = pages * static_cast<uint64_t>(::sysconf(_SC_PAGESIZE));
  // Its buffers, the stacks and malloc's arenas of a thread; what a small model takes beside them.
  const uint64_t wanted = used + (uint64_t{512} << 20) + (uint64_t{128} << 20) * static_cast<uint64_t>(available_cores());
  if (limit.rlim_cur < wanted)
    throw Error(ErrorKind::budget, "the limit on memory is too small to learn under", "ulimit -v",
                fmt::format("{} KiB", limit.rlim_cur / 1024), fmt::format("ulimit -v {}, or more", wanted / 1024 + 1));
}

int fail(const Error& error) {
  std::fflush(stdout);
  const bool stopped = error.kind() == ErrorKind::interrupted && stop_signal() != 0;
  std::string text = error.what();
  // Below the verbs nobody knows by what: "stopped while reading".
  const std::string by = stop_text();
  if (stopped && text.starts_with("stopped") && !text.starts_with(by)) text.replace(0, 7, by);
  if (!stopped || stop_signal() != SIGPIPE) say("error: " + text + "\n");
  return stopped ? 128 + stop_signal() : error.exit_code();
}

void run_verb_of(const std::vector<std::string>& arguments) {
  const Verb& verb = find_verb(arguments.front());
  CLI::App app(verb.summary, "whit " + verb.name);
  app.footer("Example:\n  " + verb.example);
  app.allow_extras();  // reported by unknown_option()
  bool quiet = false;
  app.add_flag("--quiet,-q", quiet, "no talk and no progress on stderr, errors only");
  const VerbBody body = verb.declare(app);
  check_words(app, verb.name, {arguments.begin() + 1, arguments.end()});
  std::vector<std::string> reversed(arguments.rbegin(), arguments.rend() - 1);
  try {
    app.parse(reversed);
  } catch (const CLI::CallForHelp&) {
    write_result(app.help());
    return;
  } catch (const CLI::ParseError& error) {
    // An unknown option is the likelier reason for anything that is missing, so it is told first.
    check_rest(app, verb.name);
    throw Error(ErrorKind::usage, error.what(), "whit " + verb.name, {}, "whit " + verb.name + " --help");
  }
  check_rest(app, verb.name);
  check_values(app, verb.name);
  check_address_space(verb);
  Terminal terminal(quiet);
  body(terminal);
}

}  // namespace

Json named_values(const std::vector<std::string>& set) {
  Json options = Json::object();
  for (const std::string& item : set) {
    const size_t at = item.find('=');
    const std::string name = item.substr(0, at);
    if (at == std::string::npos || name.empty())
      throw Error(ErrorKind::usage, "an option is NAME=VALUE", "--set", item, "--set bits=3");
    if (options.contains(name))
      throw Error(ErrorKind::usage, "an option was given twice", "--set", item, "leave one of them out");
    const Json value = Json::parse(item.substr(at + 1), nullptr, false);
    options[name] = value.is_discarded() ? Json(item.substr(at + 1)) : value;
  }
  return options;
}

int run_program(int argc, const char* const* argv) {
  try {
    return_freed_memory_at_once();
    install_signal_handlers();
    std::vector<std::string> arguments(argv + 1, argv + argc);
    if (!arguments.empty() && arguments.front() == "help") {
      arguments.erase(arguments.begin());
      arguments.insert(arguments.begin() + (arguments.empty() ? 0 : 1), "--help");
    }
    if (arguments.empty()) throw Error(ErrorKind::usage, "a verb is missing", "whit", {}, "whit --help");
    const std::string& first = arguments.front();
    const bool help = first == "--help" || first == "-h", version = first == "--version";
    if ((help || version) && arguments.size() > 1)
      throw Error(ErrorKind::usage, "an argument too many", "whit " + first, arguments[1],
                  help ? "whit " + arguments[1] + " --help" : "whit --version");
    if (help) {
      write_result(program_help());
    } else if (version) {
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
  } catch (const std::filesystem::filesystem_error& error) {
    return fail(Error(ErrorKind::io, "a file or folder cannot be used", {}, error.what(), "check path and permissions"));
  } catch (const std::system_error& error) {
    return fail(Error(ErrorKind::budget, "the system refuses what whit needs", {}, error.what(),
                      "look at the limits on threads, memory and open files (`ulimit -a`)"));
  } catch (const std::exception& error) {
    const std::string what = error.what();
    if (what.find("CUDA out of memory") != std::string::npos)  // LibTorch's own words, and a trace behind them
      return fail(Error(ErrorKind::budget, "the card's memory is full", "--device cuda", what.substr(0, what.find('\n')),
                        "end what else uses the card, or train with a smaller --batch"));
    return fail(Error(ErrorKind::internal, "an unexpected failure inside whit", {}, error.what(),
                      "this is a bug: please report the command"));
  }
}

}  // namespace whit
