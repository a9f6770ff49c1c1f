// whit compress: a model in, a file of a given size out. whit calibrate: only what depends on the original, into the
// cache.
#include "pipeline/compress.h"

#include <fmt/format.h>

#include <CLI/CLI.hpp>
#include <map>
#include <memory>

#include "base/size.h"
#include "cli/presets.h"
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
  bool thorough = false, json = false, explain = false, no_verify = false;
};

// Four times the default. What more tokens are worth has not been measured yet.
constexpr int kThoroughTokens = 32768;

void add_calibration_options(CLI::App& app, CompressOptions& o) {
  app.add_option("model", o.request.model, "GGUF file or Hugging Face folder")->required();
  app.add_option("--data", o.data, "calibrate on: plain text, self (the original writes it) or self+FILE (default: the novels that set-up installed)");
  app.add_option("--calibration-tokens", o.tokens, "tokens to calibrate on: 32k, 1000000 (default 8192)");
  app.add_option("--context", o.context, "tokens of a calibration window (default 512)")->check(CLI::Range(2, 1 << 20));
  app.add_option("--seed", o.seed, "draws the windows (default 0)")->check(CLI::NonNegativeNumber);
  app.add_flag("--thorough", o.thorough, fmt::format("calibrate on {} tokens: slower", kThoroughTokens));
  app.add_option("--recipe", o.recipe, "a recipe file (TOML)");
  app.add_option("--cache", o.request.cache,
                 "folder of the cache (default: $WHIT_CACHE, or whit in your cache folder)");
  app.add_option("--threads", o.request.threads, "threads (default: all cores)")->check(CLI::Range(0, 1024));
  app.add_flag("--no-verify", o.no_verify, "skip the checksums of the source");
  app.add_flag("--json", o.json, "result as JSON on stdout");
}

Recipe recipe_of(const CompressOptions& o) {
  if (!o.preset.empty() && !o.recipe.empty())
    throw Error(ErrorKind::usage, "a preset and a recipe were both asked for", "--preset, --recipe", {}, "choose one");
  if (o.preset.empty() && o.recipe.empty() && o.request.budget.empty())
    throw Error(ErrorKind::usage, "what shall be made of the model?", "whit compress", "no --fit, --preset or --recipe",
                "--fit 60MB");
  Recipe recipe = !o.recipe.empty() ? read_recipe(o.recipe) : preset_recipe(o.preset.empty() ? "fit" : o.preset);
  if (!o.data.empty()) {
    // A recipe out of a manifest says what kind of text it was made with, whose name was not kept.
    const auto name = [&](std::string& data) {
      if (data == "text") data = o.data;
      if (data == "self+text") data = "self+" + o.data;
    };
    name(recipe.tune.data);
    if (recipe.calibrate.data_hash.empty() || recipe.calibrate.data == "novels")
      recipe.calibrate.data = o.data;
    else
      name(recipe.calibrate.data);
  }
  if (o.thorough) recipe.calibrate.tokens = kThoroughTokens;
  if (!o.tokens.empty()) read_options(recipe.calibrate, Json{{"tokens", parse_count(o.tokens, "--calibration-tokens")}}, "--calibration-tokens");
  if (o.context > 0) recipe.calibrate.context = o.context;
  if (o.seed >= 0) recipe.calibrate.seed = o.seed;
  if (!o.prefix.empty()) read_options(recipe.calibrate, Json{{"prefix", o.prefix}}, "whit compress");
  return recipe;
}

// Units of one kind in one format are one line: "ffn_down  grid3-g32  x 12".
std::string plan_table(const Json& result, bool every_unit) {
  Table table{{{"tensor", false}, {"format", false}, {"by", false}, {"bytes"}, {"predicted KL"}}, {}};
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
  std::string out = plan_table(result, every_unit) + "\n";
  const auto line = [&](const char* name, const std::string& value) { out += fmt::format("{:<16}{}\n", name, value); };
  const auto bytes = [](const Json& value) { return format_bytes(value.get<uint64_t>()); };
  if (result.at("file_bytes").is_null())
    line("would write", fmt::format("{} bytes", format_count(result.at("predicted_bytes").get<uint64_t>())));
  else
    line("wrote", fmt::format("{}, {} bytes", result.at("output").get<std::string>(),
                              format_count(result.at("file_bytes").get<uint64_t>())));
  if (!result.at("predicted_loss").is_null())
    line("predicted KL", fmt::format("{:.4f} nats", result.at("predicted_loss").get<double>()));
  if (const auto blocks = result.find("reconstruct"); blocks != result.end()) {
    double before = 0, after = 0;
    for (const Json& block : *blocks)
      before += block.at("held_out_start").get<double>(), after += block.at("held_out").get<double>();
    const auto count = static_cast<double>(blocks->size());
    line("blocks learned", fmt::format("held-out error {:.3g} -> {:.3g}, mean of {}", before / count, after / count,
                                       blocks->size()));
  }
  line("memory", result.at("peak_bytes").is_null()
                     ? "up to " + bytes(result.at("predicted_peak_bytes"))
                     : fmt::format("{} at most ({} were promised)", bytes(result.at("peak_bytes")),
                                   bytes(result.at("predicted_peak_bytes"))));
  if (!result.at("seconds").is_null()) line("time", fmt::format("{:.1f} s", result.at("seconds").get<double>()));
  return out;
}

std::string family_table(const Json& families) {
  Table table{{{"family", false}, {"expected KL"}, {"", false}, {"verdict", false}}, {}};
  for (const Json& row : families)
    table.add({row.at("family").get<std::string>(), fmt::format("{:.3f}", row.at("expected_kl").get<double>()),
               row.at("measured").get<bool>() ? "measured" : "beyond what was measured",
               row.at("verdict").get<std::string>()});
  return fmt::format("\nWhat training makes of each family at {:.3f} bits a weight (units alone), measured on "
                     "SmolLM2-135M-Instruct and WikiText-2:\n",
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
  app.add_option("--minutes", o->request.minutes, "for recipes that train: all of it, compressing included")
      ->check(CLI::Range(0.01, 1e6));
  app.add_option("--device", o->device, "where to factorize and train: cpu or cuda");
  app.add_flag("--dry-run", o->request.dry_run, "plan, exact bytes and memory only");
  app.add_flag("--force", o->request.force, "overwrite the output");
  app.add_flag("--explain", o->explain, "every tensor, and how the choice was made");
  return [o](Terminal& terminal) {
    set_learning_device(o->device);
    o->request.recipe = recipe_of(*o);
    o->request.verify = !o->no_verify;
    const bool tokens = o->request.recipe.tune.tokens > 0, minutes = o->request.minutes > 0;
    if (const Step* tuning = tune_step(o->request.recipe);
        tuning && tokens == minutes && (tokens || !o->request.dry_run))  // a plan needs no time
      throw Error(ErrorKind::usage, tokens ? "both a time and a number of tokens to train" : "how long shall it train?",
                  "whit compress", tokens ? "--minutes, and tokens in the recipe's [tune]" : "",
                  tokens ? "leave --minutes out, or tokens = 0" : "--minutes 30, or tokens in the recipe's [tune]");
    else if (!tuning && o->request.minutes > 0 && o->request.budget.empty())
      throw Error(ErrorKind::usage, "this recipe has no step that trains for a given time", "--minutes", {},
                  "a distill step, or --fit; blocks learn until their held-out error no longer falls");
    Json result;
    try {
      result = compress(o->request, terminal);
    } catch (const Error& error) {
      if (error.kind() == ErrorKind::interrupted && !o->request.dry_run)
        throw Error(ErrorKind::interrupted, "stopped; nothing that was finished is lost",
                    o->request.output.string() + ".journal", {}, "the same command goes on where this one stopped");
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
  return [o](Terminal& terminal) {
    o->preset = o->recipe.empty() ? "fit" : "";
    o->request.recipe = recipe_of(*o);
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
