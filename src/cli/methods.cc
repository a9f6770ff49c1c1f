// whit methods: the table of methods.def, as people, machines and docs/methods.md read it.
#include <fmt/format.h>

#include <CLI/CLI.hpp>
#include <memory>

#include "base/error.h"
#include "cli/presets.h"
#include "cli/verbs.h"
#include "format/format.h"
#include "methods/stages.h"
#include "report/table.h"

namespace whit {
namespace {

struct MethodsOptions {
  std::string action = "list", name;
  bool json = false, markdown = false;
};

const StageRow& stage_row(Stage stage) {
  for (const StageRow& row : stage_rows())
    if (row.stage == stage) return row;
  throw Error(ErrorKind::internal, "a method belongs to no stage", "methods.def",
              std::to_string(static_cast<int>(stage)), "this is a bug: please report it");
}

Json method_json(const MethodRow& row) {
  Json options = Json::array();
  for (const OptionDescription& option : row.options)
    options.push_back(
        Json{{"name", option.name}, {"text", option.text}, {"default", option.fallback}, {"limits", option.limits}});
  return {{"name", row.name},
          {"stage", stage_row(row.stage).name},
          {"paper", row.paper},
          {"needs", row.needs},
          {"summary", row.summary},
          {"status", row.status},
          {"options", std::move(options)}};
}

Table options_table(const MethodRow& row) {
  Table table{{{"option", false}, {"default", false}, {"allowed", false}, {"meaning", false}}, {}};
  for (const OptionDescription& option : row.options)
    table.add({option.name, option.fallback, option.limits, option.text});
  return table;
}

std::string describe(const MethodRow& row) {
  const StageRow& stage = stage_row(row.stage);
  std::string out = fmt::format("{}\n{}\n\nstage    {} ({})\npaper    {}\nneeds    {}\nstatus   {}\n", row.name,
                                row.summary, stage.name, stage.interface, row.paper, row.needs, row.status);
  if (!row.options.empty()) out += "\n" + text_table(options_table(row));
  return out;
}

Table methods_table() {
  Table table{{{"stage", false},
               {"method", false},
               {"paper", false},
               {"needs", false},
               {"status", false},
               {"what it does", false}},
              {}};
  for (const MethodRow& row : method_rows())
    table.add({stage_row(row.stage).name, row.name, row.paper, row.needs, row.status, row.summary});
  return table;
}

Table presets_table() {
  Table table{{{"group", false}, {"preset", false}, {"what it makes", false}}, {}};
  for (const PresetCard& card : preset_cards()) table.add({card.group, card.name, card.text});
  return table;
}

Json presets_json() {
  Json rows = Json::array();
  for (const PresetCard& card : preset_cards())
    rows.push_back(Json{{"name", card.name}, {"group", card.group}, {"summary", card.text}});
  return {{"presets", std::move(rows)}};
}

// docs/methods.md, whole: a test compares it.
std::string markdown_page() {
  std::string out =
      "# Methods\n\nMade by `whit methods list --markdown > docs/methods.md` from src/methods/methods.def; a test "
      "compares.\n\n" +
      markdown_table(methods_table());
  for (const MethodRow& row : method_rows()) {
    out += fmt::format("\n## {}\n\n{}\n", row.name, row.summary);
    if (!row.options.empty()) out += "\n" + markdown_table(options_table(row));
  }
  return out;
}

void methods(const CLI::App& app, const MethodsOptions& options) {
  if (options.json) refuse_without_effect(app, {"--markdown"}, "--json prints no page");
  if (options.action != "list")
    refuse_without_effect(app, {"--markdown"}, "the page is that of all methods: whit methods list --markdown");
  if (options.action == "describe") {
    if (options.name.empty())
      throw Error(ErrorKind::usage, "which method?", "whit methods describe", {}, "whit methods describe gptq");
    for (const FormatRow& format : format_rows())
      if (format.name == options.name)
        throw Error(ErrorKind::usage, "this is a format, not a method", "whit methods describe", options.name,
                    "whit formats describe " + options.name);
    for (const PresetCard& card : preset_cards())
      if (card.name == options.name)
        throw Error(ErrorKind::usage, "this is a preset, not a method", "whit methods describe", options.name,
                    "whit methods presets says what each makes");
    const MethodRow& row = method_row(options.name);
    return options.json ? write_json(method_json(row)) : write_result(describe(row));
  }
  if (options.action == "presets") {
    if (!options.name.empty())
      throw Error(ErrorKind::usage, "an argument too many", "whit methods presets", options.name, "whit methods presets");
    return options.json ? write_json(presets_json()) : write_result(text_table(presets_table()));
  }
  if (options.action != "list") {
    const std::vector<std::string> known = {"list", "describe", "presets"};
    throw Error(ErrorKind::usage, "unknown action", "whit methods", options.action,
                suggest_name(options.action, known));
  }
  if (!options.name.empty())
    throw Error(ErrorKind::usage, "an argument too many", "whit methods list", options.name,
                "whit methods describe " + options.name);
  if (options.markdown) return write_result(markdown_page());
  if (!options.json) return write_result(text_table(methods_table()));
  Json rows = Json::array();
  for (const MethodRow& row : method_rows()) rows.push_back(method_json(row));
  write_json(Json{{"methods", std::move(rows)}});
}

}  // namespace

Verb methods_verb() {
  return {"methods", "list and describe the methods, and the presets", "whit methods describe gptq", true,
          [](CLI::App& app) -> VerbBody {
            auto options = std::make_shared<MethodsOptions>();
            app.add_option("ACTION", options->action, "list, describe or presets")->capture_default_str();
            app.add_option("NAME", options->name, "the method to describe");
            app.add_flag("--json", options->json, "print JSON");
            app.add_flag("--markdown", options->markdown, "print docs/methods.md");
            return [&app, options](Terminal&) { methods(app, *options); };
          }};
}

}  // namespace whit
