// whit run: an answer to one prompt, a continuation, or a chat.
#include <fmt/format.h>
#include <fmt/ranges.h>
#include <unistd.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <cerrno>
#include <cstring>
#include <memory>
#include <optional>
#include <set>

#include "base/error.h"
#include "cli/conversation.h"
#include "cli/generate.h"
#include "cli/open.h"
#include "cli/prompt.h"
#include "cli/values.h"
#include "cli/verbs.h"
#include "data/generation.h"
#include "report/units.h"

namespace whit {
namespace {

struct RunOptions {
  std::string model, prompt, file, ids, system;
  ChatChoice chat;
  int64_t limit = 256;
  int64_t context = 0;
  bool raw = false, json = false, has_prompt = false, has_system = false;
  std::set<std::string> told;  // options of sampling that were given
  std::vector<std::string> stops;
  SamplerOptions sampler;
  ExecutorChoice executor;
};

constexpr uint64_t default_context = 4096;  // or what the model was trained for, if less: bounds the cache

constexpr const char* kSamplingOptions[] = {"--temp", "--top-k", "--top-p", "--min-p", "--repeat-penalty"};

// What was asked for; else what the model's files say, else the program's own.
SamplerOptions usual_sampling(const RunOptions& options, const Model& model, Terminal& terminal) {
  SamplerOptions sampler = options.sampler;
  // Answers of every file went round in circles at the default sampling without a penalty, those of small files most
  // (bench/quality/repeats.py, docs/results.md). A text that is continued is left as it is.
  if (!options.told.contains("--repeat-penalty") && !options.raw && options.ids.empty())
    sampler.repeat_penalty = file_bits_per_weight(model) < 5 ? 1.1 : 1.05;
  if (options.told.contains("--temp") && sampler.temperature == 0) return sampler;
  Sampling said = model.tokenizer_files.empty() ? read_sampling(model.metadata) : read_sampling(model.tokenizer_files);
  // Where one of the others is asked for, it is to do something.
  if (said.temperature == 0.0 && !options.told.empty()) said.temperature.reset();
  std::vector<std::string> followed;
  const auto follow = [&](const auto& value, auto& target, const char* option, const char* name) {
    if (!value || options.told.contains(option)) return;
    target = *value;
    followed.push_back(fmt::format("{} {:.4g}", name, static_cast<double>(*value)));
  };
  follow(said.temperature, sampler.temperature, "--temp", "temperature");
  if (sampler.temperature != 0) {
    follow(said.top_k, sampler.top_k, "--top-k", "top-k");
    follow(said.top_p, sampler.top_p, "--top-p", "top-p");
    follow(said.min_p, sampler.min_p, "--min-p", "min-p");
    follow(said.repeat_penalty, sampler.repeat_penalty, "--repeat-penalty", "repeat penalty");
  }
  if (!followed.empty())
    terminal.note(fmt::format("[sampling as the model's files say: {}]", fmt::join(followed, ", ")));
  return sampler;
}

// Everything that a session of any kind needs.
struct Speaker {
  ModelPtr model;
  ThreadPool pool;
  std::shared_ptr<const Scorer> scorer;
  std::shared_ptr<const Tokenizer> tokenizer;  // null with --ids
  std::unique_ptr<ScorerSession> session;
  size_t context = 0;
  std::vector<int32_t> history;
  Sampler sampler;
  GenerateOptions generate_options;

  Speaker(const RunOptions& options, Terminal& terminal)
      : model(open_model(options.model, options.executor, terminal)), pool(options.executor.threads),
        sampler(usual_sampling(options, *model, terminal)) {
    if (options.ids.empty()) tokenizer = load_tokenizer(*model, terminal);
    context = session_context(*model, options.context, default_context);
    scorer = open_scorer(model, pool, options.executor);
    session = scorer->open(context);
    generate_options.limit = static_cast<uint64_t>(options.limit);
    generate_options.stops = options.stops;
    if (!tokenizer) return;
    generate_options.ends = tokenizer->ends();
    for (const std::string& stop : tokenizer->stop_strings()) generate_options.stops.push_back(stop);
  }

  void need_room(size_t tokens) const {
    if (tokens > context)
      throw Error(ErrorKind::input, "the prompt is longer than the context", "prompt",
                  fmt::format("{} tokens, the context has {}", tokens, context),
                  !model->spec.context || context < model->spec.longest_context()
                      ? "a shorter prompt, or a larger --context"
                      : "a shorter prompt: the model was trained for no more");
  }

  void need_rows(const std::vector<int32_t>& ids) const {
    const auto past = [&](int32_t id) { return static_cast<uint64_t>(id) >= model->spec.vocabulary; };
    if (const auto found = std::find_if(ids.begin(), ids.end(), past); tokenizer && found != ids.end())
      throw Error(ErrorKind::input, "the prompt has a token that the model has no row for", tokenizer->piece(*found),
                  fmt::format("id {} of {}", *found, model->spec.vocabulary), "a prompt without it");
  }

  // Feeds what of `ids` the session does not hold yet, and answers.
  Answer answer(const std::vector<int32_t>& ids, const std::function<void(const std::string&)>& show) {
    need_room(ids.size());
    need_rows(ids);
    const auto differing = std::mismatch(ids.begin(), ids.end(), history.begin(), history.end());
    // The last id is always fed again: its row is the one to sample from.
    const size_t common = std::min<size_t>(static_cast<size_t>(differing.first - ids.begin()), ids.size() - 1);
    session->truncate(common);
    history.resize(common);
    return generate(*session, context, std::span(ids).subspan(common), history, sampler, tokenizer.get(),
                    generate_options, show);
  }
};

void show_now(const std::string& text) {
  write_result(text);
  finish_results();
}

void tell_timing(const Answer& answer, Terminal& terminal) {
  const auto rate = [](size_t tokens, double seconds) {
    return seconds > 0 ? fmt::format("{:.1f} tokens/s", static_cast<double>(tokens) / seconds) : std::string("-");
  };
  terminal.note(fmt::format("[prompt {} tokens, {}; answer {} tokens, {}; {}]", answer.prompt_tokens,
                            rate(answer.prompt_tokens, answer.prompt_seconds), answer.ids.size(),
                            // The first token comes with the prompt.
                            rate(answer.ids.size() > 1 ? answer.ids.size() - 1 : 0, answer.answer_seconds),
                            end_reason_text(answer.reason)));
}

Json answer_json(const Answer& answer, const Tokenizer* tokenizer) {
  Json json = Json::object();
  if (tokenizer) json["text"] = answer.text;
  json["ids"] = answer.ids;
  json["end"] = end_reason_text(answer.reason);
  json["prompt_tokens"] = answer.prompt_tokens;
  json["prompt_seconds"] = answer.prompt_seconds;
  json["answer_tokens"] = answer.ids.size();
  json["answer_seconds"] = answer.answer_seconds;
  return json;
}

[[noreturn]] void interrupted() { throw Error(ErrorKind::interrupted, stop_text()); }

Json said(const char* role, const std::string& content) { return {{"role", role}, {"content", content}}; }

void add_ends(const Conversation& conversation, GenerateOptions& options) {
  options.ends.insert(options.ends.end(), conversation.ends().begin(), conversation.ends().end());
  options.stops.insert(options.stops.end(), conversation.stops().begin(), conversation.stops().end());
  options.trim_first_space = true;
}

void answer_ids(const RunOptions& options, Terminal& terminal) {
  const std::vector<int32_t> ids = read_ids(options.ids);
  Speaker speaker(options, terminal);
  const Answer answer = speaker.answer(ids, {});
  write_result((options.json ? answer_json(answer, nullptr) : Json(answer.ids)).dump() + "\n");
  tell_timing(answer, terminal);
  if (answer.reason == EndReason::interrupted) interrupted();
}

void answer_prompt(const RunOptions& options, Terminal& terminal) {
  Speaker speaker(options, terminal);
  std::vector<int32_t> ids;
  if (options.raw) {
    ids = speaker.tokenizer->encode(options.prompt, true, true);
    if (ids.empty())
      throw Error(ErrorKind::usage, "there is nothing to continue", "--prompt", "an empty text", "-p TEXT");
  } else {
    const Conversation conversation(options.chat, *speaker.tokenizer, options.model);
    Json messages = Json::array();
    if (options.has_system) messages.push_back(said("system", options.system));
    messages.push_back(said("user", options.prompt));
    ids = conversation.encode(messages);
    add_ends(conversation, speaker.generate_options);
  }
  const Answer answer = speaker.answer(ids, options.json ? std::function<void(const std::string&)>() : show_now);
  if (options.json)
    write_json(answer_json(answer, speaker.tokenizer.get()));
  else if (!options.raw)
    show_now("\n");
  tell_timing(answer, terminal);
  if (answer.reason == EndReason::interrupted) interrupted();
}

// A line of standard input. nullopt at its end; Ctrl-C sets `stopped`.
class LineReader {
 public:
  std::optional<std::string> next(bool& stopped) {
    stopped = false;
    for (;;) {
      if (const size_t end = buffer_.find('\n'); end != std::string::npos) {
        std::string line = buffer_.substr(0, end);
        buffer_.erase(0, end + 1);
        return line;
      }
      char bytes[4096];
      const ssize_t count = read(STDIN_FILENO, bytes, sizeof(bytes));
      if (count > 0) {
        buffer_.append(bytes, static_cast<size_t>(count));
      } else if (count == 0) {
        if (buffer_.empty()) return std::nullopt;
        return std::exchange(buffer_, {});
      } else if (errno == EINTR) {
        if (!interrupt_requested()) continue;
        stopped = true;
        return std::string();
      } else {
        throw Error(ErrorKind::io, "standard input cannot be read", "stdin", std::strerror(errno));
      }
    }
  }

 private:
  std::string buffer_;
};

void chat(const RunOptions& options, Terminal& terminal) {
  Speaker speaker(options, terminal);
  const Conversation conversation(options.chat, *speaker.tokenizer, options.model);
  add_ends(conversation, speaker.generate_options);
  const bool person = isatty(STDIN_FILENO) == 1;
  if (person)
    terminal.note(
        "Chat. Ctrl-C stops an answer, Ctrl-D or /exit leaves, /reset forgets what was said, /help tells more.");
  std::vector<Json> messages;
  if (options.has_system) messages.push_back(said("system", options.system));
  const size_t fixed = messages.size();  // never dropped
  LineReader reader;
  bool stopped_before = false;
  for (;;) {
    if (person && !terminal.quiet()) {
      std::fputs("> ", stderr);
      std::fflush(stderr);
    }
    bool stopped = false;
    std::optional<std::string> line = reader.next(stopped);
    if (stopped) {
      forget_interrupt();
      if (interrupt_requested()) interrupted();  // not by Ctrl-C
      if (stopped_before) interrupted();
      stopped_before = true;
      terminal.note("\nCtrl-C once more, Ctrl-D or /exit leaves.");
      continue;
    }
    stopped_before = false;
    if (!line) break;
    const ChatLine kind = read_chat_line(*line, terminal);
    if (kind == ChatLine::leave) break;
    if (kind == ChatLine::reset) {
      messages.resize(fixed);
      terminal.note("Forgotten.");
    }
    if (kind != ChatLine::message) continue;
    messages.push_back(said("user", *line));

    // Room for an answer: the oldest exchanges go when the context would be full.
    const size_t reserve =
        std::min<size_t>(options.limit ? static_cast<size_t>(options.limit) : speaker.context / 4, speaker.context / 4);
    std::vector<int32_t> ids = conversation.encode(messages);
    size_t dropped = 0;
    while (ids.size() + reserve > speaker.context && messages.size() > fixed + 2) {
      messages.erase(messages.begin() + static_cast<int64_t>(fixed),
                     messages.begin() + static_cast<int64_t>(fixed) + 2);
      ++dropped;
      ids = conversation.encode(messages);
    }
    if (dropped) terminal.note(fmt::format("[the context is full: the {} oldest exchanges are forgotten]", dropped));
    if (ids.size() >= speaker.context) {
      terminal.note(
          fmt::format("[this message has {} tokens, the context {}: it was not sent]", ids.size(), speaker.context));
      messages.pop_back();
      continue;
    }
    const Answer answer = speaker.answer(ids, show_now);
    show_now("\n");
    messages.push_back(conversation.message_of(answer.text));
    tell_timing(answer, terminal);
    forget_interrupt();
    if (interrupt_requested()) interrupted();
  }
}

// What was asked for twice, or would do nothing.
void check(const CLI::App& app, const RunOptions& options) {
  options.executor.check();
  if (given(app, "--prompt") && given(app, "--file"))
    throw Error(ErrorKind::usage, "a prompt as text and from a file", "--file", options.file, "one of -p and -f");
  if (options.raw && !options.has_prompt)
    throw Error(ErrorKind::usage, "--raw continues a prompt, and there is none", "--raw", {}, "-p TEXT, or -f FILE");
  if (options.raw)
    refuse_without_effect(app, {"--template", "--system", "--thinking", "--tools", "--date"},
                          "--raw uses no chat template");
  if (!options.ids.empty())
    refuse_without_effect(app, {"--raw", "--template", "--system", "--thinking", "--tools", "--date", "--stop"},
                          "--ids takes and gives ids, no text");
  if (options.sampler.temperature == 0)
    refuse_without_effect(app, {"--top-k", "--top-p", "--min-p", "--repeat-penalty"}, "--temp 0 always takes the likeliest token");
  if (options.json && !options.has_prompt && options.ids.empty())
    throw Error(ErrorKind::usage, "a chat cannot be JSON", "--json", {}, "-p TEXT or --ids FILE");
  if (!options.ids.empty() && options.has_prompt)
    throw Error(ErrorKind::usage, "a prompt as text and as ids", "--ids", options.ids, "one of --ids, -p and -f");
}

void run(const CLI::App& app, RunOptions& options, Terminal& terminal) {
  options.has_prompt = given(app, "--prompt") || given(app, "--file");
  options.has_system = given(app, "--system");
  for (const char* option : kSamplingOptions)
    if (given(app, option)) options.told.insert(option);
  check(app, options);
  check_utf8(options.system, "--system");
  for (const std::string& stop : options.stops) check_utf8(stop, "--stop");
  if (options.has_prompt) options.prompt = read_prompt(options.prompt, options.file, terminal);
  if (!options.ids.empty())
    answer_ids(options, terminal);
  else if (options.has_prompt)
    answer_prompt(options, terminal);
  else
    chat(options, terminal);
}

}  // namespace

Verb run_verb() {
  return {"run", "answer a prompt, continue a text, or chat",
          "whit run tests/data/models/stories260K.gguf --raw -p \"Once upon a time\" -n 60 --temp 0", false,
          [](CLI::App& app) -> VerbBody {
            auto options = std::make_shared<RunOptions>();
            SamplerOptions& sampler = options->sampler;
            app.add_option("MODEL", options->model, "a GGUF file or a Hugging Face folder")->required();
            app.add_option("--prompt,-p", options->prompt,
                           "answer this and end, - reads standard input; without it: chat");
            app.add_option("--file,-f", options->file, "the same with the text of a file, - is standard input");
            app.add_flag("--raw", options->raw, "no chat template: continue the prompt, print nothing but the text");
            app.add_option("--system", options->system, "system message of the chat");
            app.add_option("--template", options->chat.name,
                           "chat template instead of the model's own: a name that the model has, a file NAME.jinja, or "
                           "one of ours: " +
                               chat_template_names());
            app.add_option("--thinking", options->chat.thinking,
                           "on or off: whether the answer begins with thoughts, where the template has such a switch")
                ->check(CLI::IsMember({"on", "off"}));
            app.add_option("--tools", options->chat.tools, "tools that the model may call: a JSON list of their schemas");
            app.add_option("--date", options->chat.date,
                           "the day that a template is told which asks for it, YYYY-MM-DD; else today");
            app.add_option("--ids", options->ids,
                           "continue these token ids: a file with a JSON array, - is standard input");
            app.add_flag("--json", options->json, "print JSON (docs/cli.md)");
            app.add_option("-n,--tokens", options->limit, "new tokens at most; 0: until the context is full")
                ->transform(whole_number(0, 1 << 30))
                ->capture_default_str();
            app.add_option("--context", options->context, "tokens that the session holds; 0: as trained, 4096 at most")
                ->transform(whole_number(0, 1 << 24))
                ->capture_default_str();
            app.add_option("--temp", sampler.temperature, "temperature, 0 is greedy")
                ->transform(real_number(0, 100))
                ->capture_default_str();
            app.add_option("--top-k", sampler.top_k, "keep the k likeliest tokens, 0 is off")
                ->transform(whole_number(0, 1 << 30))
                ->capture_default_str();
            app.add_option("--top-p", sampler.top_p, "keep the likeliest tokens of this total probability")
                ->transform(real_number(0, 1))
                ->capture_default_str();
            app.add_option("--min-p", sampler.min_p, "drop tokens below this share of the likeliest")
                ->transform(real_number(0, 1))
                ->capture_default_str();
            app.add_option("--repeat-penalty", sampler.repeat_penalty,
                           "divides the logits of recent tokens, 1 is off (default: 1.05, for files below 5 bits a weight "
                           "1.1; 1 with --raw and --ids)")
                ->transform(real_number(0.1, 10));
            app.add_option("--seed", sampler.seed, "the same seed gives the same text")
                ->transform(whole_number(0))
                ->capture_default_str();
            repeatable(app.add_option("--stop", options->stops, "end the answer at this text; may be given several times"));
            options->executor.declare(app, false);
            return [&app, options](Terminal& terminal) { run(app, *options, terminal); };
          }};
}

}  // namespace whit
