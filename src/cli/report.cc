// whit report: results as results.json, one self-contained page and a picture.
#include <fmt/format.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <cmath>
#include <filesystem>
#include <memory>

#include "base/error.h"
#include "base/file.h"
#include "base/output.h"
#include "cli/inspect.h"
#include "cli/named_file.h"
#include "cli/open.h"
#include "cli/values.h"
#include "cli/verbs.h"
#include "report/comparisons.h"
#include "report/html.h"
#include "report/records.h"

namespace whit {
namespace {

struct ReportOptions {
  std::string results, title, note, prompt, base, references, reference_name = "llama.cpp", output = "report";
  std::vector<std::string> evals, models, answers;
  bool force = false;
};

constexpr uint64_t most_json_bytes = uint64_t{256} << 20;

Json parse_json(const std::string& path) {
  const auto too_deep = [depth = 0](int level, Json::parse_event_t, Json&) mutable {
    depth = level;
    if (depth > 64) throw Error(ErrorKind::input, "JSON is nested too deeply", "results", "more than 64 levels");
    return true;
  };
  Json json;
  reading_file("whit report", path, "JSON: of --eval the output of `whit eval --json`", {}, [&] {
    const std::string text = read_file(path, most_json_bytes);
    json = Json::parse(text, too_deep, false);
    if (json.is_discarded())
      throw Error(ErrorKind::input, "this is no valid JSON", path, text.substr(0, 60),
                  "the output of `whit eval --json`, or results.json of a report");
  });
  return json;
}

const Json& need_array(const Json& json, const char* key, const std::string& path) {
  const auto found = json.is_object() ? json.find(key) : json.end();
  if (!json.is_object() || found == json.end() || !found->is_array())
    throw Error(ErrorKind::input, "results cannot be read", path, std::string("no array ") + key,
                "the output of `whit eval --json`");
  return *found;
}

// Rows of `whit eval --json`, the original's among them. What an older file does not say stays apart: its text is "of
// FILE".
void add_rows(Results& results, const std::string& path, Terminal& terminal) {
  const Json json = parse_json(path);
  std::vector<EvalRow> rows;
  for (const Json& row : need_array(json, "rows", path)) rows.push_back(eval_row_from(row, path));
  if (const auto base = json.find("base"); base != json.end() && base->is_object()) {
    EvalRow original = eval_row_from(*base, path);
    results.base = original.model;
    for (EvalRow& row : rows)
      if (row.original.empty()) row.original = original.model;
    if (original.original.empty()) original.original = original.model;
    if (std::none_of(rows.begin(), rows.end(), is_original)) rows.insert(rows.begin(), std::move(original));
  }
  bool unknown = false;
  for (EvalRow& row : rows) {
    if (row.text_hash.empty() && row.text.empty()) {
      unknown = true;
      row.text = "an unknown text (" + path + ")";
    }
    const bool there = std::any_of(results.rows.begin(), results.rows.end(), [&](const EvalRow& earlier) {
      return is_original(row) && is_original(earlier) && to_json(earlier) == to_json(row);
    });
    if (!there) results.rows.push_back(std::move(row));  // several files may bring the same original
  }
  if (unknown)
    terminal.note(
        path +
        " does not say what its models were judged on (an older whit wrote it): they stand apart, as judged on an "
        "unknown text");
}

void add_references(Results& results, const ReportOptions& options, Terminal& terminal) {
  const Json json = parse_json(options.references);
  const Json wrapped = {{"references", json.is_array() ? json : need_array(json, "references", options.references)}};
  size_t unknown = 0;
  for (const ReferencePoint& point : results_from(wrapped, options.references).references) {
    unknown +=
        (point.text.empty() && point.text_hash.empty()) || (point.original.empty() && std::isfinite(point.kl_mean));
    results.references.push_back(point);
  }
  results.reference_name = options.reference_name;
  if (unknown > 0)
    terminal.note(
        fmt::format("{}: {} points do not say text and original: they are drawn apart", options.references, unknown));
}

// MODEL=FILE
std::pair<std::string, std::string> split_answer(const std::string& answer) {
  const size_t sign = answer.rfind('=');
  if (sign == std::string::npos || sign == 0 || sign + 1 == answer.size())
    throw Error(ErrorKind::usage, "an answer needs its model and its file", "--answer", answer, "--answer MODEL=FILE");
  return {answer.substr(0, sign), answer.substr(sign + 1)};
}

Results gather(const CLI::App& app, const ReportOptions& options, Terminal& terminal) {
  Results results;
  if (!options.results.empty()) results = results_from(parse_json(options.results), options.results);
  for (const std::string& path : options.evals) add_rows(results, path, terminal);
  for (const std::string& path : options.models) results.models.push_back(model_record(*load_model(path, {}, terminal), path));
  for (const std::string& answer : options.answers) {
    const auto [model, file] = split_answer(answer);
    std::string text;
    reading_file("--answer", file, "a text: what MODEL wrote", {}, [&] {
      text = read_file(file, most_json_bytes);
      if (text.find('\0') != std::string::npos) throw Error(ErrorKind::input, "a NUL byte: this is not a text", file);
    });
    results.answers.push_back({model, std::move(text)});
  }
  if (!options.references.empty()) add_references(results, options, terminal);
  // An empty one takes away what RESULTS.json has.
  if (given(app, "--title")) results.title = options.title;
  if (given(app, "--note")) results.note = options.note;
  if (given(app, "--prompt")) results.prompt = options.prompt;
  if (!options.base.empty()) {
    results.base = options.base;
    for (EvalRow& row : results.rows) {
      if (row.original.empty()) row.original = options.base;
      if (short_name(row.original) != short_name(options.base))
        throw Error(ErrorKind::usage, "a result was measured beside another model", "--base", options.base,
                    row.model + " was compared with " + row.original + ": leave out --base");
    }
  }
  if (results.rows.empty() && results.models.empty() && results.answers.empty())
    throw Error(ErrorKind::usage, "there is nothing to report", "whit report", {},
                "RESULTS.json, --eval, --model or --answer");
  if (results.rows.empty())
    refuse_without_effect(app, {"--base"}, "there are no results that were measured beside a model");
  if (results.answers.empty()) refuse_without_effect(app, {"--prompt"}, "there are no answers to it");
  if (results.references.empty()) refuse_without_effect(app, {"--reference-name"}, "there are no references");
  if (given(app, "--reference-name")) results.reference_name = options.reference_name;
  return results;
}

void report(const CLI::App& app, const ReportOptions& options, Terminal& terminal) {
  const Results results = gather(app, options, terminal);
  const std::filesystem::path folder = options.output;
  if (folder == "-")
    throw Error(ErrorKind::io, "a report is a folder of files", "--output", "standard output", "-o FOLDER");
  std::error_code failed;
  std::filesystem::create_directories(folder, failed);
  if (failed)
    throw Error(ErrorKind::io, "the folder cannot be made", folder.string(), failed.message(), "another --output");
  const std::string json = to_json(results).dump(1, ' ', false, Json::error_handler_t::replace) + "\n";
  const std::pair<const char*, std::string> files[] = {
      {"results.json", json}, {"index.html", html_page(results)}, {"picture.svg", svg_picture(results)}};
  // Results may be re-drawn into their own folder; everything else that exists is left alone without --force.
  const auto own = [&](const char* name) {
    std::error_code ignored;
    return !options.results.empty() && std::filesystem::equivalent(folder / name, options.results, ignored);
  };
  std::vector<std::filesystem::path> inputs(options.evals.begin(), options.evals.end());
  inputs.insert(inputs.end(), options.models.begin(), options.models.end());
  inputs.emplace_back(options.references);
  for (const std::string& answer : options.answers) inputs.emplace_back(split_answer(answer).second);
  for (const auto& [name, content] : files) check_output(folder / name, options.force || own(name), inputs);
  for (const auto& [name, content] : files) write_file(folder / name, content, options.force || own(name));
  for (const Comparison& comparison : comparisons(results))
    if (!comparison.rows.empty())
      write_result(comparison.heading + "\n" + text_table(eval_table(comparison.rows)) + "\n");
  write_result((folder / "index.html").string() + "\n");
  terminal.note(fmt::format("report written to {}: index.html, picture.svg, results.json", folder.string()));
}

}  // namespace

Verb report_verb() {
  return {"report", "results as one self-contained page and a picture",
          "whit eval tests/data/models/stories260K.gguf --text README.md --context 128 --json > eval.json\n"
          "  whit report --eval eval.json --model tests/data/models/stories260K.gguf -o report --force",
          false, [](CLI::App& app) -> VerbBody {
            auto options = std::make_shared<ReportOptions>();
            app.add_option("RESULTS", options->results,
                           "a results.json of an earlier report, to be added to or drawn anew");
            repeatable(app.add_option("--eval", options->evals, "output of `whit eval --json`; may be given several times"));
            repeatable(app.add_option("--model", options->models, "a model whose layers are drawn; may be given several times"));
            repeatable(app.add_option("--answer", options->answers,
                           "MODEL=FILE: what a model answered; may be given several times"));
            app.add_option("--prompt", options->prompt, "what was asked");
            app.add_option("--base", options->base, "the model that the others were compared with");
            app.add_option("--title", options->title, "title of the page");
            app.add_option("--note", options->note, "a paragraph under the title: text, machine");
            app.add_option("--references", options->references,
                           "points of other programs to compare with: JSON (docs/cli.md)");
            app.add_option("--reference-name", options->reference_name, "what they are")->capture_default_str();
            app.add_option("--output,-o", options->output, "folder for index.html, picture.svg and results.json")
                ->capture_default_str();
            app.add_flag("--force", options->force, "overwrite existing files");
            return [&app, options](Terminal& terminal) { report(app, *options, terminal); };
          }};
}

}  // namespace whit
