// whit compress: a model in, a file of a given size out. whit calibrate: only what depends on the original, into the
// cache.
#include "pipeline/compress.h"

#include <fmt/format.h>

#include <CLI/CLI.hpp>
#include <map>
#include <memory>

#include "base/output.h"
#include "base/size.h"
#include "cli/named_file.h"
#include "cli/presets.h"
#include "cli/values.h"
#include "cli/verbs.h"
#include "model/torch/device.h"
#include "report/table.h"
#include "report/units.h"

namespace whit {
namespace {

struct CompressOptions {
  CompressRequest request;
  std::string preset, recipe, data, prefix, tokens, device = "cpu";
  int context = -1;
  int64_t seed = -1;
  bool thorough = false, json = false, explain = false, no_verify = false, no_check = false;
};

// Four times the default. What more tokens are worth has not been measured yet.
constexpr int kThoroughTokens = 32768;

void add_calibration_options(CLI::App& app, CompressOptions& o) {
  app.add_option("model", o.request.model, "GGUF file or Hugging Face folder")->required();
  app.add_option("--data", o.data,
                 "calibrate on: a plain text file (- is standard input), novels (those that set-up installed; the quick "
                 "choice), self (the original writes it), self+FILE, or auto (default): self+novels for a model with a "
                 "chat template, else novels");
  app.add_option("--calibration-tokens", o.tokens, "tokens to calibrate on: 32k, 1000000 (default 8192)");
  app.add_option("--context", o.context, "tokens of a calibration window (default 512)")->transform(whole_number(2, 1 << 20));
  app.add_option("--seed", o.seed, "draws the windows (default 0)")->transform(whole_number(0));
  app.add_flag("--thorough", o.thorough, fmt::format("calibrate on {} tokens: slower", kThoroughTokens));
  app.add_option("--recipe", o.recipe, "a recipe file (TOML)");
  app.add_option("--cache", o.request.cache,
                 "folder of the cache (default: $WHIT_CACHE, or whit in your cache folder)");
  app.add_option("--threads", o.request.threads, "threads (default: all cores)")->transform(whole_number(0, 1024));
  app.add_flag("--no-verify", o.no_verify, "skip the checksums of the source");
  app.add_flag("--json", o.json, "result as JSON on stdout");
}

Recipe named_recipe(const std::string& name) {
  Recipe recipe;
  std::string absent;
  for (const Preset& preset : presets())
    if (preset.name == name) absent = "this is a preset: --preset " + name;
  reading_file("--recipe", name, "a recipe (TOML, docs/recipes.md)", absent, [&] { recipe = read_recipe(name); });
  return recipe;
}

Recipe named_preset(const std::string& name) {
  std::error_code none;
  if (std::filesystem::is_regular_file(name, none))
    throw Error(ErrorKind::usage, "a preset is a name, and this is a file", "--preset", name, "--recipe " + name);
  return preset_recipe(name);
}

Recipe recipe_of(CompressOptions& o) {
  o.data = named_data(o.data);
  if (!o.preset.empty() && !o.recipe.empty())
    throw Error(ErrorKind::usage, "a preset and a recipe were both asked for", "--preset, --recipe", {}, "choose one");
  if (o.preset.empty() && o.recipe.empty() && o.request.budget.empty())
    throw Error(ErrorKind::usage, "what shall be made of the model?", "whit compress", "no --fit, --preset or --recipe",
                "--fit 60MB");
  Recipe recipe = o.recipe.empty() ? named_preset(o.preset.empty() ? "fit" : o.preset) : named_recipe(o.recipe);
  if (!o.data.empty()) {
    // A recipe out of a manifest says what kind of text it was made with, whose name was not kept.
    const auto name = [&](std::string& data) {
      if (data == "text") data = o.data;
      if (data == "self+text") data = "self+" + o.data;
    };
    name(recipe.tune.data);
    std::string& calibrated = recipe.calibrate.data;
    if (!recipe.calibrate.data_hash.empty() && (calibrated == "text" || calibrated == "self+text"))
      name(calibrated);
    else
      calibrated = o.data;
  }
  if (o.thorough) recipe.calibrate.tokens = kThoroughTokens;
  if (!o.tokens.empty()) read_options(recipe.calibrate, Json{{"tokens", parse_count(o.tokens, "--calibration-tokens")}}, "--calibration-tokens");
  if (o.context > 0) recipe.calibrate.context = o.context;
  if (o.seed >= 0) recipe.calibrate.seed = o.seed;
  if (!o.prefix.empty()) read_options(recipe.calibrate, Json{{"prefix", o.prefix}}, "whit compress");
  return recipe;
}

// Whether anything in the recipe looks at the calibration text.
bool reads_text(const Recipe& recipe) {
  for (const Step& step : recipe.steps) {
    if (const auto layerwise = step.options.find("layerwise");
        layerwise != step.options.end() && *layerwise != Json("uniform"))
      return true;
    switch (method_row(step.method).stage) {
      case Stage::importance:
        if (make_importance(step.method, step.options)->needs_statistics()) return true;
        break;
      case Stage::prune:
        if (make_pruner(step.method, step.options)->needs_statistics()) return true;
        break;
      case Stage::quantize:
        if (make_quantizer(step.method, step.options)->needs_statistics()) return true;
        break;
      case Stage::basis:
      case Stage::transform:
        break;
      default:
        return true;
    }
  }
  return false;
}

// What was asked for twice, or is read for nothing. Scripts give the same options to every recipe: one that reads no
// text is told so, and the text is looked at all the same.
void check(const CLI::App& app, CompressOptions& o, const Recipe& recipe, Terminal& terminal) {
  o.request.context_given = given(app, "--context");
  if (o.thorough) refuse_without_effect(app, {"--calibration-tokens"}, "--thorough says how many tokens");
  if (o.json) refuse_without_effect(app, {"--explain"}, "--json prints all of it");
  if (const std::string file = data_file(o.data); !file.empty()) read_text_of("--data", file, terminal);
  if (reads_text(recipe)) return;
  std::string unused;
  for (const char* option : {"--data", "--calibration-tokens", "--context", "--seed", "--thorough", "--prefix", "--cache"})
    if (given(app, option)) unused += std::string(unused.empty() ? "" : ", ") + option;
  if (!unused.empty()) terminal.note("this recipe reads no text: without effect are " + unused);
}

// Units of one kind in one format are one line: "ffn_down  grid3-g32  x 12".
std::string plan_table(const Json& result, bool every_unit) {
  Table table{{{"tensor", false}, {"format", false}, {"by", false}, {"bytes"}, {"predicted loss"}}, {}};
  struct Line {
    std::string tensor, format, method;
    uint64_t count = 0, bytes = 0;
    double loss = 0;
    bool predicted = true;
  };
  std::vector<Line> lines;
  for (const Json& row : result.at("plan")) {
    std::string name = row.at("tensor").get<std::string>();
    if (!every_unit && name.starts_with("blk.")) name = "blk.*" + name.substr(name.find('.', 4));
    const std::string format = row.at("format"), method = row.at("method");
    auto line = std::find_if(lines.begin(), lines.end(), [&](const Line& l) {
      return !every_unit && l.tensor == name && l.format == format && l.method == method;
    });
    if (line == lines.end()) line = lines.insert(lines.end(), {name, format, method});
    ++line->count;
    line->bytes += row.at("bytes").get<uint64_t>();
    if (row.at("predicted_loss").is_null())
      line->predicted = false;
    else
      line->loss += row.at("predicted_loss").get<double>();
  }
  if (!every_unit)
    std::stable_sort(lines.begin(), lines.end(), [](const Line& a, const Line& b) {
      return a.tensor != b.tensor ? a.tensor < b.tensor : a.bytes > b.bytes;
    });
  for (const Line& line : lines)
    table.add({line.count > 1 ? fmt::format("{} x {}", line.tensor, line.count) : line.tensor, line.format, line.method,
               format_count(line.bytes), line.predicted ? fmt::format("{:.5f}", line.loss) : "-"});
  return text_table(table);
}

std::string summary(const Json& result, bool every_unit) {
  const bool planned = !result.at("plan").is_null();
  std::string out = planned ? plan_table(result, every_unit) + "\n" : "";
  const auto line = [&](const char* name, const std::string& value) { out += fmt::format("{:<16}{}\n", name, value); };
  const auto number = [](const Json& table, const char* key) { return table.at(key).get<double>(); };
  const auto bytes = [](const Json& value) { return format_bytes(value.get<uint64_t>()); };
  if (!planned) {
    line("plan", "not yet: whit calibrate measures once what it needs, and keeps it");
    if (result.contains("least_bytes"))
      line("least size", fmt::format("{} bytes", format_count(result.at("least_bytes").get<uint64_t>())));
  } else if (result.at("file_bytes").is_null())
    line("would write", fmt::format("{} bytes", format_count(result.at("predicted_bytes").get<uint64_t>())));
  else
    line("wrote", fmt::format("{}, {} bytes", result.at("output").get<std::string>(),
                              format_count(result.at("file_bytes").get<uint64_t>())));
  if (!result.at("predicted_loss").is_null())
    line("layers' losses",
         fmt::format("{:.4f} nats, each predicted alone and added: not the file's KL, which is often several "
                     "times as large",
                     result.at("sum_of_layer_losses").get<double>()));
  if (const Json& check = result.at("check"); !check.is_null())
    line("KL",
         fmt::format("{:.4f} ± {:.4f} nats to the original on {} windows of the Jargon File; perplexity {:.2f}, the "
                     "original's {:.2f}{}",
                     number(check, "kl_mean"), number(check, "kl_mean_error"), check.at("windows").get<uint64_t>(),
                     number(check, "perplexity_half"), number(check, "base_perplexity_half"),
                     check.at("speaks").get<bool>() ? "" : ": it will hardly speak"));
  if (const auto blocks = result.find("reconstruct"); blocks != result.end()) {
    double before = 0, after = 0;
    for (const Json& block : *blocks)
      before += block.at("held_out_start").get<double>(), after += block.at("held_out").get<double>();
    const auto count = static_cast<double>(blocks->size());
    line("blocks learned", fmt::format("held-out error {:.3g} -> {:.3g}, mean of {}", before / count, after / count,
                                       blocks->size()));
  }
  const std::string kind =
      "anonymous and shared memory; a system's own figure also counts pages of mapped files and libraries";
  line("memory", result.at("peak_bytes").is_null()
                     ? fmt::format("up to {} ({})", bytes(result.at("predicted_peak_bytes")), kind)
                     : fmt::format("{} at most, {} were promised ({})", bytes(result.at("peak_bytes")),
                                   bytes(result.at("predicted_peak_bytes")), kind));
  if (!result.at("seconds").is_null()) {
    const Json& check = result.at("check");
    line("time",
         fmt::format("{:.1f} s{}", result.at("seconds").get<double>(),
                     check.is_null() ? "" : fmt::format(", and {:.1f} s to check it", number(check, "seconds"))));
  } else if (const Json& in_all = result.at("predicted_seconds").at("in_all"); !in_all.is_null()) {
    line("time", fmt::format("about {}", format_seconds(in_all.get<double>())));
  }
  return out;
}

std::string family_table(const Json& families) {
  Table table{{{"family", false}, {"KL there"}, {"", false}, {"verdict", false}}, {}};
  for (const Json& row : families)
    table.add({row.at("family").get<std::string>(), fmt::format("{:.3f}", row.at("expected_kl").get<double>()),
               row.at("measured").get<bool>() ? "between what was measured" : "beyond what was measured",
               row.at("verdict").get<std::string>()});
  return fmt::format(
             "\nFamilies at {:.3f} bits a weight (units alone). The numbers are those of SmolLM2-135M-Instruct on "
             "WikiText-2 after minutes of an H100, not of this model and time; grids untrained:\n",
             families.at(0).at("rate").get<double>()) +
         text_table(table);
}

std::string explanation(const Json& result) {
  const std::string families = result.contains("families") ? family_table(result.at("families")) : "";
  if (!result.contains("probes")) return families;
  Table table{{{"kind", false}, {"probed at", false}, {"measured KL"}, {"predicted"}, {"scale"}}, {}};
  for (const auto& [kind, probe] : result.at("probes").items())
    table.add({kind, probe.at("format").get<std::string>(), fmt::format("{:.4f}", probe.at("kl").get<double>()),
               fmt::format("{:.4f}", probe.at("predicted").get<double>()),
               fmt::format("{:.3f}", probe.at("scale").get<double>())});
  return families + "\nEach kind of tensor was rounded once in the whole model; the measured KL sets the scale of its "
         "predictions.\n" +
         text_table(table);
}

VerbBody declare_compress(CLI::App& app) {
  auto o = std::make_shared<CompressOptions>();
  add_calibration_options(app, *o);
  app.add_option("-o,--output", o->request.output, "the file to write")->required();
  app.add_option("--fit", o->request.budget, "the whole file's size: 60MiB, 45MB, 1.5G, 61900000 or 3.1bpw");
  app.add_option(
      "--preset", o->preset, "a recipe by name (whit methods presets says what each makes)" + [] {
        std::string text, group;
        for (const PresetCard& card : preset_cards()) {
          if (card.group != group) text += fmt::format("{} {}:", group.empty() ? "." : ";", group = card.group);
          text += " " + card.name;
        }
        return text;
      }());
  app.add_option("--prefix", o->prefix, "whose activations a block sees: compressed (default) or original");
  auto* time_limit =
      app.add_option("--minutes", o->request.minutes,
                     "train for so long; what comes before (text, sensitivities, factors) is not counted, but said")
          ->transform(real_number(0.01, 1e6));
  app.add_option("--device", o->device, "where to factorize and train: cpu or cuda");
  app.add_flag("--allow-short", o->request.allow_short, "train even if --minutes are too few steps for a schedule")
      ->needs(time_limit);
  app.add_flag("--dry-run", o->request.dry_run,
               "memory, time and least size; plan and exact bytes where what they need was measured (whit calibrate)");
  app.add_flag("--no-check", o->no_check, "do not measure the file on ten windows of the Jargon File");
  app.add_flag("--force", o->request.force, "overwrite the output");
  app.add_flag("--explain", o->explain, "every tensor, and how the choice was made");
  return [&app, o](Terminal& terminal) {
    const std::filesystem::path inputs[] = {o->request.model, o->recipe, data_file(o->data)};
    check_gguf_output(o->request.output, o->request.force || o->request.dry_run, inputs);
    set_learning_device(o->device);
    o->request.recipe = recipe_of(*o);
    check(app, *o, o->request.recipe, terminal);
    o->request.verify = !o->no_verify;
    o->request.check = !o->no_check;
    const bool tokens = o->request.recipe.tune.tokens > 0, minutes = o->request.minutes > 0;
    if (const Step* tuning = tune_step(o->request.recipe);
        tuning && tokens == minutes && (tokens || !o->request.dry_run))  // a plan needs no time
      throw Error(ErrorKind::usage, tokens ? "both a time and a number of tokens to train" : "how long shall it train?",
                  "whit compress", tokens ? "--minutes, and tokens in the recipe's [tune]" : "",
                  tokens ? "leave --minutes out, or tokens = 0" : "--minutes 30, or tokens in the recipe's [tune]");
    else if (!tuning && o->request.minutes > 0 && !allocate_step(o->request.recipe))
      throw Error(ErrorKind::usage, "this recipe has no step that trains for a given time", "--minutes", {},
                  "a distill step, or --fit; blocks learn until their held-out error no longer falls");
    else if (!tuning && o->request.recipe.tune_given && o->request.minutes == 0)
      throw Error(ErrorKind::usage, "this recipe trains only in a time that is given, and its [tune] would do nothing",
                  o->recipe, "no --minutes", "--minutes 30, or leave the table out");
    Json result;
    try {
      result = compress(o->request, terminal);
    } catch (const Error& error) {
      const std::string journal = o->request.output.string() + ".journal";
      if (error.kind() == ErrorKind::interrupted && std::filesystem::exists(journal))
        throw Error(ErrorKind::interrupted, "stopped; nothing that was finished is lost", journal, {},
                    "the same command goes on, at most a block or a step before where this one stopped");
      throw;
    }
    if (o->json)
      write_json(result);
    else
      write_result(std::string_view(summary(result, o->explain) + (o->explain ? explanation(result) : "")));
  };
}

VerbBody declare_calibrate(CLI::App& app) {
  auto o = std::make_shared<CompressOptions>();
  add_calibration_options(app, *o);
  app.add_option("--preset", o->preset, "what this recipe needs (default: fit)");
  return [&app, o](Terminal& terminal) {
    if (o->preset.empty() && o->recipe.empty()) o->preset = "fit";
    o->request.recipe = recipe_of(*o);
    check(app, *o, o->request.recipe, terminal);
    o->request.verify = !o->no_verify;
    const Json result = calibrate(o->request, terminal);
    if (o->json)
      write_json(result);
    else
      write_result(std::string_view(fmt::format("kept in {} after {:.1f} s\n{}", result.at("cache").get<std::string>(),
                                                result.at("seconds").get<double>(), explanation(result))));
  };
}

}  // namespace

Verb compress_verb() {
  return {
      "compress", "make a model fit a number of bytes",
      "whit compress tests/data/models/stories260K.gguf --preset gptq-4 --data docs/cli.md --calibration-tokens 512 "
      "--context 64 -o small.gguf",
      true, declare_compress};
}

Verb calibrate_verb() {
  return {"calibrate", "measure once what every size of a model needs to know",
          "whit calibrate tests/data/models/stories260K.gguf --data docs/cli.md --calibration-tokens 512 --context 64",
          true, declare_calibrate};
}

}  // namespace whit
