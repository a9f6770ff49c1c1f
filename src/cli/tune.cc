// whit tune: trains a compressed model, to the original's predictions or to a text.
#include "pipeline/tune.h"

#include <fmt/format.h>

#include <CLI/CLI.hpp>
#include <memory>

#include "base/output.h"
#include "base/size.h"
#include "cli/named_file.h"
#include "cli/values.h"
#include "cli/verbs.h"
#include "model/torch/device.h"
#include "pipeline/recipe.h"
#include "report/units.h"

namespace whit {
namespace {

struct TuneVerb {
  TuneRequest request;
  std::string tokens, text_tokens, device = "cpu";
  std::vector<std::string> set;
  bool json = false, no_verify = false;
};

VerbBody declare_tune(CLI::App& app) {
  auto o = std::make_shared<TuneVerb>();
  app.add_option("model", o->request.model, "the compressed model")->required();
  app.add_option("--against", o->request.against, "the original, whose predictions are learned");
  app.add_option("-o,--output", o->request.output,
                 "the file to write: the same formats, and a manifest that tells of the training")
      ->required();
  auto* time_limit = app.add_option("--minutes", o->request.minutes, "train for so long; the text is written before that")
                      ->transform(real_number(0.01, 1e6));
  app.add_option("--train-tokens", o->tokens, "or on so many tokens: 250k, 5M");
  app.add_option("--data", o->request.options.data,
                 "self (the original writes the text; default), a plain text file, or self+FILE");
  app.add_option("--text-tokens", o->text_tokens, "different tokens of text; passes are repeated after these");
  app.add_option("--batch", o->request.options.batch, "tokens of a step (default 16384 on CUDA, 2048 on the CPU)")
      ->transform(whole_number(1, 1 << 24));
  app.add_option("--context", o->request.options.context, "tokens of a window (default 512)")
      ->transform(whole_number(2, 1 << 20));
  app.add_option("--seed", o->request.options.seed, "draws text and order (default 0)")->transform(whole_number(0));
  repeatable(app.add_option("--set", o->set, "options of the method, NAME=VALUE (whit methods describe distill)"));
  app.add_option("--device", o->device, "cpu or cuda");
  app.add_option("--cache", o->request.cache, "folder of the cache");
  app.add_option("--threads", o->request.threads, "threads (default: all cores)")->transform(whole_number(0, 1024));
  app.add_flag("--allow-short", o->request.allow_short, "train even if --minutes are too few steps for a schedule")
      ->needs(time_limit);
  app.add_flag("--dry-run", o->request.dry_run, "memory, time and bytes only");
  app.add_flag("--force", o->request.force, "overwrite the output");
  app.add_flag("--no-verify", o->no_verify, "skip the checksums of the models");
  app.add_flag("--json", o->json, "result as JSON on stdout");
  return [&app, o](Terminal& terminal) {
    TuneRequest& request = o->request;
    std::string& data = request.options.data;
    data = named_data(data);
    const std::string file = data_file(data);
    const std::filesystem::path inputs[] = {request.model, request.against, file};
    check_gguf_output(request.output, request.force || request.dry_run, inputs);
    if (!o->tokens.empty()) request.options.tokens = parse_count(o->tokens, "--train-tokens");
    if (!o->text_tokens.empty()) request.options.text_tokens = parse_count(o->text_tokens, "--text-tokens");
    if ((request.options.tokens > 0) == (request.minutes > 0))
      throw Error(ErrorKind::usage, "how long shall it train?", "whit tune", {}, "--minutes 30 or --train-tokens 5M");
    if (!file.empty()) read_text_of("--data", file, terminal);
    if (request.against.empty() && request.options.data.starts_with("self"))
      throw Error(ErrorKind::usage, "without the original there is nothing to learn from its own text", "--data self", {},
                  "--against ORIGINAL, or --data FILE for the next tokens of a text of yours");
    set_learning_device(o->device);
    request.method_options = make_tuner(request.method, named_values(o->set))->options();
    request.verify = !o->no_verify;
    request.context_given = given(app, "--context");
    Json result;
    try {
      result = tune(request, terminal);
    } catch (const Error& error) {
      if (error.kind() != ErrorKind::interrupted || request.dry_run) throw;
      const std::filesystem::path checkpoint = request.output.string() + ".journal/tune.checkpoint";
      if (std::filesystem::exists(checkpoint))
        throw Error(ErrorKind::interrupted, "stopped", checkpoint.string(), {},
                    "the same command goes on from this step");
      throw Error(ErrorKind::interrupted, "stopped before the first step of training", "whit tune", {},
                  "the same command begins again; pieces of text that were finished are kept");
    }
    if (o->json) return write_json(result);
    if (result.at("file_bytes").is_null()) {
      const Json& in_all = result.at("predicted_seconds").at("in_all");
      write_result(std::string_view(fmt::format(
          "up to {} bytes\nmemory up to {} (anonymous and shared; a system's own figure also counts pages of "
          "mapped files and libraries)\n{}",
          format_count(result.at("predicted_bytes").get<uint64_t>()),
          format_bytes(result.at("predicted_peak_bytes").get<uint64_t>()),
          in_all.is_null() ? "" : fmt::format("time about {}\n", format_seconds(in_all.get<double>())))));
      return;
    }
    const Json& report = result.at("tune");
    write_result(std::string_view(fmt::format(
        "wrote {}, {} bytes\nheld-out loss {:.4f} -> {:.4f} nats after {} tokens ({:.0f} a second on {}), {:.1f} s\n",
        request.output.string(), format_count(result.at("file_bytes").get<uint64_t>()),
        report.at("held_out_start").get<double>(), report.at("held_out").get<double>(),
        format_count(report.at("tokens").get<uint64_t>()), report.at("tokens_per_second").get<double>(),
        report.at("device").get<std::string>(), result.at("seconds").get<double>())));
  };
}

}  // namespace

Verb tune_verb() {
  return {"tune", "train a compressed model as it is stored",
          "whit tune tests/data/models/stories260K.gguf --data docs/cli.md --train-tokens 4K --context 64 --batch 256 "
          "-o tuned.gguf",
          true, declare_tune};
}

}  // namespace whit
