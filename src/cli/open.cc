#include "cli/open.h"

#include <fmt/format.h>
#include <unistd.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <cerrno>
#include <cstring>

#include "base/error.h"
#include "base/file.h"
#include "base/memory.h"
#include "base/options.h"
#include "cli/named_file.h"
#include "cli/terminal.h"
#include "cli/values.h"
#include "runtime/runtime.h"
#ifdef WHIT_LEARN
#include "model/torch/device.h"
#include "model/torch/executor.h"
#endif

namespace whit {

std::shared_ptr<const Tokenizer> load_tokenizer(const Model& model, Progress& progress) {
  const auto tokenizer =
      model.tokenizer_files.empty() ? make_tokenizer(model.metadata) : make_tokenizer(model.tokenizer_files);
  for (const std::string& note : tokenizer->notes()) progress.note(note);
  return tokenizer;
}

void ExecutorChoice::declare(CLI::App& app, bool choose_executor) {
  app.add_option("--threads,-t", threads, "threads, 0 is all cores")->transform(whole_number(0, 1024))->capture_default_str();
  app.add_option("--isa", isa, "instruction set to use instead of the best one of this machine");
  app.add_option("--activations", activations, "numbers that the products read: fp32 or int8")->capture_default_str();
  if (choose_executor) {
    app.add_option("--executor", executor, "runtime or torch")->capture_default_str();
    app.add_option("--device", device, "of the executor torch: cpu or cuda")->capture_default_str();
  }
  app.add_flag("--no-verify", no_verify, "do not verify the checksums of the file");
}

ModelPtr open_model(const std::filesystem::path& path, const ExecutorChoice& choice, Progress& progress) {
  LoadOptions options;
  options.verify = !choice.no_verify;
  ModelPtr model = load_model(path, options, progress);
  note_if_too_large(progress, path.string() + " has", model->file_bytes, "it is read from the disk again for every token");
  return model;
}

void ExecutorChoice::check() const {
  const std::vector<std::string> kinds = {"fp32", "int8"}, executors = {"runtime", "torch"};
  if (activations != "fp32" && activations != "int8")
    throw Error(ErrorKind::usage, "unknown kind of activations", "--activations", activations,
                suggest_name(activations, kinds));
  if (executor == "runtime") {
    if (device != "cpu")
      throw Error(ErrorKind::usage, "the runtime has no such device", "--device", device, "--executor torch");
    isa_in_use(runtime_options());
    return;
  }
  if (executor != "torch")
    throw Error(ErrorKind::usage, "unknown executor", "--executor", executor, suggest_name(executor, executors));
#ifdef WHIT_LEARN
  set_learning_device(device);
  if (activations != "fp32")
    throw Error(ErrorKind::usage, "the executor torch has no such activations", "--activations", activations,
                "--executor runtime");
  if (!isa.empty())
    throw Error(ErrorKind::usage, "the executor torch chooses its instructions itself", "--isa", isa,
                "--executor runtime");
#else
  throw Error(ErrorKind::usage, "this build of whit has no such executor", "--executor", executor,
              "it is the lean build, made without LibTorch: configure with the preset dev or release");
#endif
}

RuntimeOptions ExecutorChoice::runtime_options() const {
  RuntimeOptions options;
  options.isa = isa;
  options.activations = activations == "int8" ? ActivationType::int8 : ActivationType::fp32;
  return options;
}

std::shared_ptr<const Scorer> open_scorer(const ModelPtr& model, ThreadPool& pool, const ExecutorChoice& choice) {
  choice.check();
#ifdef WHIT_LEARN
  if (choice.executor == "torch") {
    set_torch_threads(pool.threads());
    if (learning_device() != "cpu") return make_device_scorer(*model);
    return make_torch_scorer(model);
  }
#endif
  return make_runtime(model, pool, choice.runtime_options());
}

size_t session_context(const Model& model, int64_t asked, uint64_t usual) {
  const uint64_t trained = model.spec.context, longest = model.spec.longest_context();
  if (asked == 0) return static_cast<size_t>(trained ? std::min(trained, usual) : usual);
  if (trained && static_cast<uint64_t>(asked) > longest)
    throw Error(ErrorKind::usage, "the context is longer than the model was trained for",
                model.path.string() + ": --context", std::to_string(asked), fmt::format("--context {}", longest));
  return static_cast<size_t>(asked);
}

std::string read_standard_input() {
  std::string text;
  char buffer[65536];
  for (;;) {
    const ssize_t count = read(STDIN_FILENO, buffer, sizeof(buffer));
    if (count == 0) return text;
    if (count < 0 && errno == EINTR) {
      if (interrupt_requested()) throw Error(ErrorKind::interrupted, stop_text());
      continue;
    }
    if (count < 0) throw Error(ErrorKind::io, "standard input cannot be read", "stdin", std::strerror(errno));
    text.append(buffer, static_cast<size_t>(count));
  }
}

std::vector<int32_t> read_ids(const std::filesystem::path& path) {
  std::string text, absent;
  if (path.string().find_first_not_of("[]0123456789, ") == std::string::npos)
    absent = "--ids takes a file: echo '[1,2,3]' | whit ... --ids -";
  reading_file("--ids", path.string(), "a file with a JSON array of integers", absent, [&] {
    text = path == "-" ? read_standard_input() : read_file(path, uint64_t{1} << 30);
  });
  const std::string where = path == "-" ? "standard input" : path.string();
  const auto refuse = [&](const std::string& found) -> Error {
    return Error(ErrorKind::input, "token ids cannot be read", where, found,
                 "a JSON array of integers is wanted, like [1, 403, 407]");
  };
  // Nesting is refused before the parser sees it: a deep file must not exhaust the stack.
  if (std::count(text.begin(), text.end(), '[') != 1) throw refuse("not one array of numbers");
  const Json json = Json::parse(text, nullptr, false);
  if (json.is_discarded()) throw refuse("no valid JSON");
  if (!json.is_array()) throw refuse(json.type_name());
  std::vector<int32_t> ids;
  for (const Json& item : json) {
    if (!item.is_number_integer()) throw refuse(item.dump(-1, ' ', false, Json::error_handler_t::replace));
    // Read as unsigned where it is one, so that a huge value does not wrap to a small negative one.
    if (item.is_number_unsigned() ? item.get<uint64_t>() > 0x7fffffff : true)
      throw refuse(fmt::format("the id {}", item.dump()));
    ids.push_back(item.get<int32_t>());
  }
  if (ids.empty()) throw refuse("an empty array");
  return ids;
}

double file_bits_per_weight(const Model& model) {
  return 8.0 * static_cast<double>(model.file_bytes) / static_cast<double>(model.spec.weights());
}

std::map<std::string, std::string> unit_kinds(const ModelSpec& spec) {
  std::map<std::string, std::string> kinds;
  for (const UnitSpec& unit : units_of(spec)) {
    kinds[unit.name] = unit.kind;
    for (const std::string& member : unit.members) kinds[member] = unit.kind;
  }
  return kinds;
}

}  // namespace whit
