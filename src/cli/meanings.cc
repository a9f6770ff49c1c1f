#include "cli/meanings.h"

#include <fmt/format.h>

#include <algorithm>
#include <filesystem>

#include "base/names.h"
#include "base/output.h"

namespace whit {
namespace {

// `theirs` without dashes, small letters, '-' for '_'. `ours` is an option, suggested where the verb has it, or a
// sentence. `verbs`: only there; empty: everywhere. The first row that fits counts.
struct Meaning {
  const char *theirs, *ours, *verbs = "";
};
constexpr const char* kModel = "the model is given without an option: whit run MODEL ...";
constexpr const char* kLayers = "nothing to set: whit runs models on the processor; -t sets its threads";
constexpr Meaning kOptions[] = {
    {"m", kModel},
    {"model", kModel},
    {"model-path", kModel},
    {"hf-repo", kModel},
    {"hf", kModel},
    {"base", "--against"},
    {"baseline", "--against"},
    {"original", "--against"},
    {"reference", "--against"},
    {"teacher", "--against"},
    {"kl-divergence-base", "--against"},
    {"kl-divergence", "--against"},
    {"temperature", "--temp"},
    {"t", "--threads"},
    {"num-threads", "--threads"},
    {"n-threads", "--threads"},
    {"j", "--threads"},
    {"threads-batch", "--threads"},
    {"tb", "--threads"},
    {"c", "--context"},
    {"ctx", "--context"},
    {"ctx-size", "--context"},
    {"n-ctx", "--context"},
    {"num-ctx", "--context"},
    {"context-size", "--context"},
    {"context-length", "--context"},
    {"max-seq-len", "--context"},
    {"seq-len", "--context"},
    {"seqlen", "--context"},
    {"max-length", "--context"},
    {"max-context", "--context"},
    {"window", "--context"},
    {"n-predict", "--tokens", "run"},
    {"predict", "--tokens", "run"},
    {"max-tokens", "--tokens", "run"},
    {"max-new-tokens", "--tokens", "run"},
    {"num-predict", "--tokens", "run"},
    {"n", "--tokens", "run"},
    {"n", "--decode", "bench"},
    {"n-gen", "--decode", "bench"},
    {"n-prompt", "--prompt", "bench"},
    {"r", "--repeats", "bench"},
    {"repetitions", "--repeats", "bench"},
    {"p", "--prompt", "bench"},
    {"ngl", kLayers},
    {"n-gpu-layers", kLayers},
    {"gpu-layers", kLayers},
    {"cuda", "--device cuda"},
    {"gpu", "--device cuda"},
    {"cuda", kLayers},
    {"gpu", kLayers},
    {"f", "--file"},
    {"prompt-file", "--file"},
    {"input", "--file", "run"},
    {"file", "--text"},
    {"f", "--text"},
    {"f", "--data"},
    {"prompt-file", "--text"},
    {"file", "--data"},
    {"input-file", "--text"},
    {"dataset", "--text"},
    {"data", "--text"},
    {"dataset", "--data"},
    {"text", "--data"},
    {"train-data", "--data"},
    {"calibration-data", "--data"},
    {"imatrix", "--data"},
    {"calib-data", "--data"},
    {"corpus", "--text"},
    {"corpus", "--data"},
    {"nsamples", "--calibration-tokens"},
    {"n-samples", "--calibration-tokens"},
    {"calibration-samples", "--calibration-tokens"},
    {"tokens", "--calibration-tokens"},
    {"tokens", "--train-tokens"},
    {"s", "--seed"},
    {"random-seed", "--seed"},
    {"sys", "--system"},
    {"system-prompt", "--system"},
    {"system-message", "--system"},
    {"chat-template", "--template"},
    {"jinja", "--template"},
    {"reverse-prompt", "--stop"},
    {"r", "--stop"},
    {"stop-string", "--stop"},
    {"stop-sequence", "--stop"},
    {"repetition-penalty", "--repeat-penalty"},
    {"rep-penalty", "--repeat-penalty"},
    {"think", "--thinking"},
    {"reasoning", "--thinking"},
    {"enable-thinking", "--thinking"},
    {"greedy", "--temp 0", "run"},
    {"no-template", "--raw"},
    {"no-cnv", "--raw"},
    {"no-conversation", "--raw"},
    {"completion", "--raw"},
    {"i", "without -p a chat begins: leave it out", "run"},
    {"interactive", "without -p a chat begins: leave it out", "run"},
    {"cnv", "without -p a chat begins: leave it out", "run"},
    {"conversation", "without -p a chat begins: leave it out", "run"},
    {"chat", "without -p a chat begins: leave it out", "run"},
    {"stream", "an answer is always shown as it comes: leave it out", "run"},
    {"no-display-prompt", "the prompt is never printed: leave it out", "run"},
    {"bits", "--preset gptq-4, or --fit 4.5bpw", "compress"},
    {"wbits", "--preset gptq-4, or --fit 4.5bpw", "compress"},
    {"b", "--preset gptq-4, or --fit 4.5bpw", "compress"},
    {"bpw", "--fit 3.1bpw", "compress"},
    {"size", "--fit", "compress"},
    {"target-size", "--fit", "compress"},
    {"budget", "--fit", "compress"},
    {"max-size", "--fit", "compress"},
    {"method", "--preset", "compress"},
    {"algorithm", "--preset", "compress"},
    {"quant", "--preset", "compress"},
    {"quantization", "--preset", "compress"},
    {"type", "--preset", "compress"},
    {"config", "--recipe"},
    {"r", "--recipe"},
    {"outtype", "--type"},
    {"quant", "--type"},
    {"quantize", "--type"},
    {"dtype", "--type"},
    {"format", "--type"},
    {"split-max-size", "--max-shard-size"},
    {"shard-size", "--max-shard-size"},
    {"o", "the output is the second argument: whit convert MODEL OUT", "convert"},
    {"output", "the output is the second argument: whit convert MODEL OUT", "convert"},
    {"outfile", "the output is the second argument: whit convert MODEL OUT", "convert"},
    {"outfile", "--output"},
    {"out", "--output"},
    {"save", "--output"},
    {"o", "--dump-logits", "eval"},
    {"o", "--recipe", "inspect"},
    {"logits-file", "--dump-logits"},
    {"time", "--minutes"},
    {"duration", "--minutes"},
    {"hours", "--minutes"},
    {"epochs", "--minutes 30, or --train-tokens 5M", "tune"},
    {"steps", "--minutes 30, or --train-tokens 5M", "tune"},
    {"max-steps", "--minutes 30, or --train-tokens 5M", "tune"},
    {"lr", "--set NAME=VALUE: `whit methods describe distill` tells the rates", "tune"},
    {"learning-rate", "--set NAME=VALUE: `whit methods describe distill` tells the rates", "tune"},
    {"batch-size", "--batch"},
    {"y", "--force"},
    {"yes", "--force"},
    {"overwrite", "--force"},
    {"allow-overwrite", "--force"},
    {"silent", "--quiet"},
    {"log-disable", "--quiet"},
    {"s", "--quiet"},
    {"n", "--dry-run"},
    {"dryrun", "--dry-run"},
    {"verbose", "talk is on stderr unless --quiet: leave it out"},
    {"v", "talk is on stderr unless --quiet: leave it out"},
    {"version", "whit --version"},
    {"check-tensors", "checksums are verified unless --no-verify: leave it out"},
    {"mlock", "models are mapped from the file: leave it out"},
    {"no-mmap", "models are mapped from the file: leave it out"},
    {"tokenizer", "--tokenize"},
    {"text", "--tokenize", "inspect"},
    {"prompt", "--tokenize", "inspect"},
    {"p", "--tokenize", "inspect"},
    {"limit", "--chunks"},
    {"windows", "--chunks"},
    {"csv", "--json"},
    {"md", "--markdown"},
    {"output-format", "--json"},
};

constexpr Meaning kVerbs[] = {
    {"chat", "run"},          {"generate", "run"},      {"complete", "run"},       {"ask", "run"},
    {"infer", "run"},         {"cli", "run"},           {"llama-cli", "run"},      {"simple", "run"},
    {"quantize", "compress"}, {"quant", "compress"},    {"quantise", "compress"},  {"prune", "compress"},
    {"shrink", "compress"},   {"pack", "compress"},     {"fit", "compress"},       {"info", "inspect"},
    {"show", "inspect"},      {"ls", "inspect"},        {"list", "inspect"},       {"dump", "inspect"},
    {"describe", "inspect"},  {"cat", "inspect"},       {"tokenize", "inspect"},   {"verify", "inspect"},
    {"check", "inspect"},     {"perplexity", "eval"},   {"ppl", "eval"},           {"evaluate", "eval"},
    {"test", "eval"},         {"judge", "eval"},        {"compare", "eval"},       {"score", "eval"},
    {"benchmark", "bench"},   {"llama-bench", "bench"}, {"speed", "bench"},        {"finetune", "tune"},
    {"fine-tune", "tune"},    {"train", "tune"},        {"distill", "tune"},       {"export", "convert"},
    {"merge", "convert"},     {"split", "convert"},     {"dequantize", "convert"}, {"plot", "report"},
    {"imatrix", "calibrate"}, {"presets", "methods"},   {"recipes", "methods"},
};

std::string plain(std::string name) {
  name.erase(0, name.find_first_not_of('-'));
  std::replace(name.begin(), name.end(), '_', '-');
  return small_letters(std::move(name));
}

bool has(std::span<const std::string> known, std::string_view option) {
  return std::find(known.begin(), known.end(), option.substr(0, option.find(' '))) != known.end();
}

// Empty: nothing is known.
std::string meaning_of(const std::string& verb, const std::string& option, std::span<const std::string> known) {
  const std::string name = plain(option);
  if (has(known, "--" + name)) return fmt::format("did you mean '--{}'?", name);
  for (const Meaning& row : kOptions) {
    if (name != row.theirs || (*row.verbs && verb != row.verbs)) continue;
    if (row.ours[0] != '-') return row.ours;
    if (has(known, row.ours)) return fmt::format("did you mean '{}'?", row.ours);
  }
  return {};
}

}  // namespace

std::string option_hint(const std::string& verb, const std::string& option, std::span<const std::string> known) {
  const std::string meaning = meaning_of(verb, option, known);
  return meaning.empty() ? suggest_name(option, known) : meaning;
}

bool means_something_else(const std::string& option, std::span<const std::string> known) {
  if (option.size() < 3 || option[0] != '-' || option[1] == '-') return false;
  const std::string name = plain(option);
  return has(known, "--" + name) ||
         std::any_of(std::begin(kOptions), std::end(kOptions), [&](const Meaning& row) { return name == row.theirs; });
}

std::string argument_hint(const std::string& verb, const std::string& argument, std::span<const std::string> known) {
  std::error_code ignored;
  if (verb == "run" && !std::filesystem::exists(argument, ignored))
    return "a prompt is given with -p: -p \"" + argument + "\"";
  if (argument.find('=') != std::string::npos && has(known, "--set")) return "--set " + argument;
  if (has(known, "--output")) return "an output is given with -o: -o " + argument;
  return "whit " + verb + " --help";
}

std::string verb_hint(const std::string& verb, std::span<const std::string> known) {
  const std::string name = plain(verb);
  if (name == "serve" || name == "server" || name == "llama-server")
    return "there is no server yet: `whit run` answers and chats";
  if (name == "download" || name == "pull")
    return "models are not fetched: give the path of a GGUF file or a Hugging Face folder";
  if (name == "version" || name == "v") return "whit --version";
  if (verb.starts_with("-")) return "a verb comes first, its options behind it: whit --help lists the verbs";
  for (const Meaning& row : kVerbs)
    if (name == row.theirs && std::find(known.begin(), known.end(), row.ours) != known.end())
      return fmt::format("did you mean '{}'?", row.ours);
  std::error_code ignored;
  if (is_gguf_name(verb) || std::filesystem::exists(verb, ignored)) return "a verb comes first: whit run " + verb;
  return suggest_name(verb, known);
}

}  // namespace whit
