// whit eval: perplexity and divergence of any number of models on one text; logits of given ids as a file.
#include <fmt/format.h>

#include <CLI/CLI.hpp>
#include <cmath>
#include <memory>

#include "base/error.h"
#include "base/hash.h"
#include "base/memory.h"
#include "base/output.h"
#include "cli/named_file.h"
#include "cli/open.h"
#include "cli/values.h"
#include "cli/verbs.h"
#include "data/text.h"
#include "evaluate/evaluate.h"
#include "format/safetensors.h"
#include "report/records.h"
#include "report/units.h"

namespace whit {
namespace {

struct EvalOptions {
  std::vector<std::string> models;
  std::string text, against, ids, dump_logits;
  int64_t context = 0, chunks = 0;
  bool json = false, markdown = false, force = false;
  ExecutorChoice executor;
};

constexpr uint64_t default_context = 512;

struct Opened {
  std::string path;
  ModelPtr model;
  std::shared_ptr<const Scorer> scorer;
  TokenWindows windows;
  std::string windows_hash;  // of all ids, so that only what was judged on the same positions is compared
  uint64_t added_bytes = 0;  // anonymous and shared memory that this model alone needs, at its peak
};

// What all are judged on.
struct Text {
  std::string name, content, hash;
};

Text text_of(const EvalOptions& options, Terminal& terminal) {
  Text text;
  if (options.text.empty()) {
    text = {"Jargon File", default_judging_text(), {}};
    terminal.note("judged on the Jargon File (--text FILE for another text)");
  } else if (options.text == "-") {
    text = {"standard input", checked_text(read_standard_input(), "standard input"), {}};
  } else {
    text = {std::filesystem::path(options.text).filename().string(), read_text_of("--text", options.text, terminal), {}};
  }
  text.hash = Hasher().add(text.content).hex();
  return text;
}

EvalRow row_of(const Opened& opened, const Opened* base, const Text& text, const Judgement& judgement,
               uint64_t common_bytes) {
  EvalRow row;
  row.model = opened.path;
  row.model_hash = opened.model->content_hash;
  row.text = text.name;
  row.text_hash = text.hash;
  row.windows_hash = opened.windows_hash;
  if (base) {
    row.original = base->path;
    row.original_hash = base->model->content_hash;
  }
  row.file_bytes = static_cast<double>(opened.model->file_bytes);
  row.file_bits_per_weight = file_bits_per_weight(*opened.model);
  row.executor = opened.scorer->executor();
  row.activations = opened.scorer->activations();
  row.context = static_cast<double>(judgement.context);
  row.windows = static_cast<double>(judgement.windows);
  row.perplexity_half = judgement.perplexity_half;
  row.perplexity_half_error = judgement.perplexity_half_error;
  row.perplexity_all = judgement.perplexity_all;
  row.kl_mean = judgement.kl_mean;
  row.kl_mean_error = judgement.kl_mean_error;
  row.kl_median = judgement.kl_median;
  row.kl_p99 = judgement.kl_p99;
  row.same_top = judgement.same_top;
  row.tokens_per_second = judgement.tokens_per_second;
  row.peak_bytes = static_cast<double>(common_bytes + opened.added_bytes);
  return row;
}

// Opens a model and lets it read one window alone, so that its memory is its own.
Opened open_to_judge(const std::string& path, const EvalOptions& options, const std::string& text, ThreadPool& pool,
                     Terminal& terminal) {
  Opened opened;
  opened.path = path;
  opened.model = open_model(path, options.executor, terminal);
  const size_t context = session_context(*opened.model, options.context, default_context);
  opened.windows =
      judging_windows(*load_tokenizer(*opened.model, terminal), text, context, static_cast<uint64_t>(options.chunks));
  Hasher hasher;
  for (const std::vector<int32_t>& window : opened.windows.windows) hasher.add(std::as_bytes(std::span(window)));
  opened.windows_hash = hasher.hex();
  const uint64_t before = memory_use().anonymous_and_shared;
  PeakMemory peak;
  opened.scorer = open_scorer(opened.model, pool, options.executor);
  const auto session = opened.scorer->open(context);
  const size_t some = std::min<size_t>(context, piece_rows);
  session->feed(std::span(opened.windows.windows.front()).first(some), some - 1, [](size_t, std::span<const float>) {});
  const uint64_t most = peak.peak();
  opened.added_bytes = most > before ? most - before : 0;
  return opened;
}

bool same_model(const Opened& a, const Opened& b) {
  return a.path == b.path || (!a.model->content_hash.empty() && a.model->content_hash == b.model->content_hash);
}

void judge(const EvalOptions& options, Terminal& terminal) {
  const Text text = text_of(options, terminal);
  ThreadPool pool(options.executor.threads);
  std::vector<Opened> opened;
  std::optional<Opened> base;
  // One pool of rows for the base, one for the model: piece_rows logits each.
  const uint64_t start_bytes = memory_use().anonymous_and_shared;
  if (!options.against.empty()) base = open_to_judge(options.against, options, text.content, pool, terminal);
  for (const std::string& path : options.models) {
    terminal.check_interrupt();
    opened.push_back(open_to_judge(path, options, text.content, pool, terminal));
    if (base && same_model(opened.back(), *base)) opened.back().scorer = base->scorer;
  }
  std::vector<Candidate> candidates;
  for (const Opened& model : opened) candidates.push_back({model.path, model.scorer, &model.windows});
  Candidate base_candidate;
  if (base) base_candidate = {base->path, base->scorer, &base->windows};
  const Judgements judgements = evaluate(candidates, base ? &base_candidate : nullptr, pool, terminal);

  const uint64_t row_bytes = piece_rows * opened.front().model->spec.vocabulary * sizeof(float);
  const uint64_t common = start_bytes + row_bytes * (base ? 2 : 1);
  std::vector<EvalRow> rows;
  for (size_t m = 0; m < opened.size(); ++m) {
    rows.push_back(row_of(opened[m], base ? &*base : nullptr, text, judgements.models[m], common));
    if (m == 0 || judgements.models[m].loss_half.size() != judgements.models[m - 1].loss_half.size() ||
        opened[m].windows_hash != opened[m - 1].windows_hash)
      continue;
    const Paired paired = compare(judgements.models[m], judgements.models[m - 1]);
    EvalRow& row = rows.back();
    row.paired_with = opened[m - 1].path;
    row.paired_kl = paired.kl;
    row.paired_kl_error = paired.kl_error;
    row.paired_log_perplexity = paired.log_perplexity;
    row.paired_log_perplexity_error = paired.log_perplexity_error;
  }
  for (const EvalRow& row : rows)
    if (!std::isfinite(row.perplexity_half)) terminal.note(row.model + ": the perplexity is not finite");
  if (std::any_of(opened.begin(), opened.end(),
                  [&](const Opened& o) { return o.windows_hash != opened[0].windows_hash; }))
    terminal.note(
        "the models do not see the same tokens (other tokenizers or contexts): their perplexities cannot be compared");
  std::optional<EvalRow> base_row;
  if (base) base_row = row_of(*base, &*base, text, *judgements.base, common);
  if (options.json) {
    Json json = {{"rows", Json::array()}, {"base", base_row ? to_json(*base_row) : Json(nullptr)}};
    for (const EvalRow& row : rows) json["rows"].push_back(to_json(row));
    write_json(json);
    return;
  }
  const bool listed =
      base && std::any_of(opened.begin(), opened.end(), [&](const Opened& model) { return same_model(model, *base); });
  if (base_row && !listed) rows.insert(rows.begin(), *base_row);
  const Table table = eval_table(rows);
  write_result(options.markdown ? markdown_table(table) : text_table(table));
  const TokenWindows& windows = opened.front().windows;
  write_result(fmt::format("{}{} windows of {} tokens; perplexity: second halves, then all positions{}\n",
                           options.markdown ? "\n" : "", windows.windows.size(), windows.context,
                           base ? "; KL in nats from " + short_name(base->path) + " on the second halves" : ""));
}

void dump_logits(const EvalOptions& options, Terminal& terminal) {
  const std::vector<int32_t> ids = read_ids(options.ids);
  ThreadPool pool(options.executor.threads);
  const ModelPtr model = open_model(options.models.front(), options.executor, terminal);
  const auto scorer = open_scorer(model, pool, options.executor);
  const auto session = scorer->open(ids.size());
  SafetensorsOutput output;
  output.name = "logits";
  output.shape = {ids.size(), model->spec.vocabulary};
  output.write = [&](const std::function<void(std::span<const float>)>& sink) {
    for (size_t begin = 0; begin < ids.size(); begin += piece_rows) {
      terminal.check_interrupt();
      const size_t count = std::min(piece_rows, ids.size() - begin);
      session->feed(std::span(ids).subspan(begin, count), begin,
                    [&](size_t, std::span<const float> row) { sink(row); });
    }
  };
  write_safetensors(options.dump_logits, std::span(&output, 1), options.force);
  terminal.note(fmt::format("logits [{}, {}] written to {}", ids.size(), model->spec.vocabulary, options.dump_logits));
}

void eval(const CLI::App& app, const EvalOptions& options, Terminal& terminal) {
  options.executor.check();
  if (options.ids.empty() != options.dump_logits.empty())
    throw Error(ErrorKind::usage, "--ids and --dump-logits go together", "whit eval",
                options.ids.empty() ? "--dump-logits" : "--ids", "--ids FILE --dump-logits OUT.safetensors");
  if (options.ids.empty()) {
    refuse_without_effect(app, {"--force"}, "no file is written without --dump-logits");
    if (options.json) refuse_without_effect(app, {"--markdown"}, "--json prints no table");
    return judge(options, terminal);
  }
  refuse_without_effect(app, {"--text", "--against", "--context", "--chunks", "--json", "--markdown"},
                        "with --ids the logits of all ids are written, and nothing is judged");
  if (options.models.size() != 1)
    throw Error(ErrorKind::usage, "--dump-logits takes one model", "whit eval",
                fmt::format("{} models", options.models.size()),
                "whit eval MODEL --ids FILE --dump-logits OUT.safetensors");
  const std::filesystem::path inputs[] = {options.models.front(), options.ids};
  check_output(options.dump_logits, options.force, inputs);
  dump_logits(options, terminal);
}

}  // namespace

Verb eval_verb() {
  return {"eval", "perplexity and divergence from the original, one table for any number of models",
          "whit eval tests/data/models/stories260K.gguf --text README.md --context 128 --chunks 4", false,
          [](CLI::App& app) -> VerbBody {
            auto options = std::make_shared<EvalOptions>();
            app.add_option("MODEL", options->models, "GGUF files or Hugging Face folders")->required();
            app.add_option("--text", options->text,
                           "plain text to be judged on, - is standard input; default: the Jargon File");
            app.add_option("--against", options->against, "the original: adds the divergence from it");
            app.add_option("--context", options->context,
                           "tokens of a window; 0: 512, or less where the model knows less")
                ->transform(whole_number(0, 1 << 24))
                ->capture_default_str();
            app.add_option("--chunks", options->chunks, "windows at most; 0: the whole text")
                ->transform(whole_number(0, int64_t{1} << 40))
                ->capture_default_str();
            app.add_flag("--json", options->json, "print JSON (docs/cli.md)");
            app.add_flag("--markdown", options->markdown, "print the table as Markdown");
            app.add_option("--ids", options->ids,
                           "token ids for --dump-logits: a file with a JSON array, - is standard input");
            app.add_option("--dump-logits", options->dump_logits,
                           "write the logits of all ids: one F32 tensor [tokens, vocabulary]");
            app.add_flag("--force", options->force, "overwrite an existing output");
            options->executor.declare(app, true);
            return [&app, options](Terminal& terminal) { eval(app, *options, terminal); };
          }};
}

}  // namespace whit
