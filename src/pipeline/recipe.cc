#include "pipeline/recipe.h"

#include <fmt/format.h>

#include <algorithm>
#include <charconv>
#include <cmath>

#include "base/file.h"
#include "base/names.h"
#include "base/size.h"
#include "base/toml.h"

namespace whit {
namespace {

[[noreturn]] void fail_recipe(const std::string& what, const std::string& where, const std::string& found = {},
                              const std::string& hint = {}) {
  throw Error(ErrorKind::usage, what, where, found, hint);
}

std::vector<std::string> read_globs(const Json& json, const std::string& where) {
  std::vector<std::string> globs;
  if (json.is_string()) {
    globs.push_back(json.get<std::string>());
  } else if (json.is_array()) {
    for (const Json& item : json) {
      if (!item.is_string()) fail_recipe("tensors takes a glob or an array of globs", where, item.dump());
      globs.push_back(item.get<std::string>());
    }
  } else {
    fail_recipe("tensors takes a glob or an array of globs", where, json.dump());
  }
  if (globs.empty()) fail_recipe("tensors is empty", where, {}, "tensors = \"blk.*\"");
  return globs;
}

std::vector<FormatPtr> read_formats(const Json& json, const std::string& where) {
  if (!json.is_array() || json.empty()) fail_recipe("an array of formats is wanted here", where, json.dump());
  std::vector<FormatPtr> formats;
  for (const Json& item : json) formats.push_back(make_format_from(item, where));
  return formats;
}

// Numbers of tokens may be texts such as "5M".
Json with_counts(Json table, const std::string& where) {
  for (const char* key : {"tokens", "text_tokens"})
    if (const auto found = table.find(key); found != table.end() && found->is_string())
      *found = parse_count(found->get<std::string>(), where + ": " + key);
  return table;
}

// Removes `key` from the step's table and returns its value; null when it is absent.
Json take(Json& table, const char* key) {
  const auto found = table.find(key);
  if (found == table.end()) return {};
  Json value = *found;
  table.erase(key);
  return value;
}

Step read_step(Json table, const std::string& where) {
  if (!table.is_object()) fail_recipe("a step is a table", where, table.dump());
  const Json method = take(table, "method");
  if (!method.is_string())
    fail_recipe("a step needs a method", where, method.is_null() ? "none" : method.dump(), "method = \"rtn\"");
  Step step;
  step.method = method.get<std::string>();
  const MethodRow& row = method_row(step.method);
  const std::string place = fmt::format("{} ({})", where, step.method);
  if (const Json tensors = take(table, "tensors"); !tensors.is_null()) step.tensors = read_globs(tensors, place);
  switch (row.stage) {
    case Stage::quantize: {
      if (step.tensors.empty()) fail_recipe("a step needs tensors", place, {}, "tensors = \"blk.*\"");
      const Json format = take(table, "format");
      if (format.is_null())
        fail_recipe("a quantize step needs a format", place, {}, "format = { name = \"grid\", bits = 3, group = 64 }");
      step.format = make_format_from(format, place + ": format");
      step.options = make_quantizer(step.method, table)->options();
      break;
    }
    case Stage::allocate: {
      if (!step.tensors.empty()) fail_recipe("an allocate step works on the whole model", place, "tensors");
      step.formats = read_formats(take(table, "formats"), place + ": formats");
      step.embedding_formats = read_formats(take(table, "embedding_formats"), place + ": embedding_formats");
      const Json quantizer = take(table, "quantizer"), budget = take(table, "budget");
      if (!quantizer.is_string())
        fail_recipe("an allocate step needs a quantizer", place, quantizer.dump(), "quantizer = \"gptq\"");
      step.quantizer = quantizer.get<std::string>();
      if (method_row(step.quantizer).stage != Stage::quantize)
        fail_recipe("this method does not quantize", place + ": quantizer", step.quantizer);
      if (!budget.is_null()) {
        const auto size = budget.is_string() ? parse_size(budget.get<std::string>()) : std::nullopt;
        if (!size && !budget.is_number_unsigned()) fail_recipe("not a size", place + ": budget", budget.dump(), kSizeHint);
        step.budget = size ? *size : budget.get<uint64_t>();
      }
      step.options = make_allocator(step.method, table)->options();
      break;
    }
    case Stage::basis: {
      if (!step.tensors.empty()) fail_recipe("a basis step works on the whole model", place, "tensors", "leave tensors out");
      step.options = make_basis(step.method, table)->options();
      break;
    }
    case Stage::reconstruct: {
      if (!step.tensors.empty())
        fail_recipe("a reconstruct step works on whole blocks", place, "tensors", "leave tensors out");
      step.options = make_reconstructor(step.method, table)->options();
      break;
    }
    case Stage::tune: {
      if (!step.tensors.empty()) fail_recipe("a tune step works on the whole model", place, "tensors");
      step.options = make_tuner(step.method, table)->options();
      break;
    }
    case Stage::transform:
    case Stage::importance:
    case Stage::prune: {
      if (step.tensors.empty()) fail_recipe("a step needs tensors", place, {}, "tensors = \"blk.*\"");
      step.options = row.stage == Stage::prune       ? make_pruner(step.method, table)->options()
                     : row.stage == Stage::transform ? make_transform(step.method, table)->options()
                                                     : make_importance(step.method, table)->options();
      break;
    }
    default:
      fail_recipe("this method cannot stand in a recipe yet", place);
  }
  return step;
}

Json formats_to_json(const std::vector<FormatPtr>& formats) {
  Json json = Json::array();
  for (const FormatPtr& format : formats) json.push_back(format_to_json(*format));
  return json;
}

Stage stage_of(const Step& step) { return method_row(step.method).stage; }

bool on_units(Stage stage) {
  return stage == Stage::quantize || stage == Stage::prune || stage == Stage::importance || stage == Stage::transform;
}

// The only step of a stage that works on more than a unit.
const Step* step_of(const Recipe& recipe, Stage stage, const std::string& where = "recipe") {
  const Step* found = nullptr;
  for (const Step& step : recipe.steps) {
    if (stage_of(step) != stage) continue;
    if (found)
      fail_recipe("of two steps that work on the whole model one would do nothing", where,
                  found->method + " and " + step.method, "leave one of them out");
    found = &step;
  }
  return found;
}

// Steps and tables that would have no effect beside the others.
void check_all_have_effect(const Recipe& recipe, bool tune_table, const std::string& where) {
  for (const Stage stage : {Stage::basis, Stage::allocate, Stage::reconstruct, Stage::tune})
    step_of(recipe, stage, where);
  const Step* allocate = step_of(recipe, Stage::allocate);
  if (!allocate && tune_table && !step_of(recipe, Stage::tune))
    fail_recipe("no step of this recipe trains the whole model", where + ": tune", "a [tune] table",
                "a distill step, or leave the table out");
  for (const Step& step : recipe.steps)
    if (allocate && on_units(stage_of(step)))
      fail_recipe("an allocate step gives every tensor its format, and this step would do nothing", where, step.method,
                  "leave one of them out");
}

}  // namespace

Recipe recipe_from_json(const Json& json, const std::string& where) {
  if (!json.is_object()) fail_recipe("a recipe is a table", where, json.dump());
  static const std::vector<std::string> known = {"whit", "calibrate", "tune", "step"};
  options_detail::check_known(json, where, known);
  const auto version = json.find("whit");
  if (version == json.end() || !version->is_number_integer() || version->get<int64_t>() != 1)
    fail_recipe("not a recipe of this program's language", where + ": whit",
                version == json.end() ? "no version" : version->dump(), "the first line of a recipe is whit = 1");
  Recipe recipe;
  if (const auto calibrate = json.find("calibrate"); calibrate != json.end())
    read_options(recipe.calibrate, with_counts(*calibrate, where + ": calibrate"), where + ": calibrate");
  recipe.tune_given = json.contains("tune");
  if (const auto tune = json.find("tune"); tune != json.end())
    read_options(recipe.tune, with_counts(*tune, where + ": tune"), where + ": tune");
  const auto steps = json.find("step");
  if (steps == json.end() || !steps->is_array() || steps->empty())
    fail_recipe("a recipe needs at least one step", where, {}, "[[step]]");
  size_t number = 0;
  for (const Json& step : *steps) recipe.steps.push_back(read_step(step, fmt::format("{}: step {}", where, ++number)));
  check_all_have_effect(recipe, json.contains("tune"), where);
  return recipe;
}

Recipe parse_recipe(std::string_view toml, const std::string& where) {
  return recipe_from_json(toml_to_json(toml, where), where);
}

Recipe read_recipe(const std::filesystem::path& path) {
  return parse_recipe(read_file(path, uint64_t{16} << 20), path.string());
}

const Step* allocate_step(const Recipe& recipe) { return step_of(recipe, Stage::allocate); }
const Step* basis_step(const Recipe& recipe) { return step_of(recipe, Stage::basis); }
const Step* reconstruct_step(const Recipe& recipe) { return step_of(recipe, Stage::reconstruct); }
const Step* tune_step(const Recipe& recipe) { return step_of(recipe, Stage::tune); }

Json recipe_to_json(const Recipe& recipe) {
  Json json;
  json["whit"] = 1;
  json["calibrate"] = write_options(recipe.calibrate);
  if (tune_step(recipe)) json["tune"] = write_options(recipe.tune);
  Json steps = Json::array();
  for (const Step& step : recipe.steps) {
    Json table;
    table["method"] = step.method;
    if (step.tensors.size() == 1) table["tensors"] = step.tensors[0];
    if (step.tensors.size() > 1) table["tensors"] = step.tensors;
    if (step.format) table["format"] = format_to_json(*step.format);
    if (!step.quantizer.empty()) {
      table["budget"] = step.budget;
      table["quantizer"] = step.quantizer;
      table["formats"] = formats_to_json(step.formats);
      table["embedding_formats"] = formats_to_json(step.embedding_formats);
    }
    for (const auto& [key, value] : step.options.items()) table[key] = value;
    steps.push_back(std::move(table));
  }
  json["step"] = std::move(steps);
  return json;
}

std::string recipe_to_toml(const Recipe& recipe) { return json_to_toml(recipe_to_json(recipe)); }

Recipe preset_recipe(const std::string& asked) {
  // "stbllm-4:8", as the papers write N:M; names of files have no colon.
  std::string name = asked;
  std::replace(name.begin(), name.end(), ':', '-');
  std::vector<std::string> known;
  for (const Preset& preset : presets()) {
    if (preset.name == name) return parse_recipe(preset.text, "preset " + name);
    known.push_back(preset.name);
  }
  fail_recipe("unknown preset", "--preset", asked, suggest_name(name, known));
}

bool step_matches(const Step& step, const UnitSpec& unit) {
  for (const std::string& glob : step.tensors) {
    size_t members = 0;
    for (const std::string& member : unit.members) members += glob_match(glob, member);
    if (glob_match(glob, unit.name) || members == unit.members.size()) return true;
    if (members > 0)
      fail_recipe("tensors that read the same input are one unit and share a format", step.method + ": tensors", glob,
                  "name the unit: " + unit.name);
  }
  return false;
}

std::vector<const Step*> steps_for(const Recipe& recipe, const UnitSpec& unit) {
  std::vector<const Step*> steps;
  for (const Step& step : recipe.steps) {
    if (!step_matches(step, unit)) continue;
    const Stage stage = method_row(step.method).stage;
    std::erase_if(steps, [&](const Step* earlier) { return method_row(earlier->method).stage == stage; });
    steps.push_back(&step);
  }
  for (size_t i = 0; i < steps.size(); ++i)
    if ((steps[i]->format != nullptr) != (i + 1 == steps.size()))
      fail_recipe("a tensor's last step quantizes, and only the last", unit.name, steps[i]->method,
                  "put the quantize step behind the others");
  return steps;
}

uint64_t parse_budget(const std::string& text, uint64_t weights) {
  if (const auto bytes = parse_size(text)) return *bytes;
  double number = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), number);
  const double bytes = std::floor(number * static_cast<double>(weights) / 8);
  const std::string_view unit(end, text.data() + text.size());
  if (error != std::errc() || (unit != "bpw" && unit != "BPW") || !(bytes >= 1) || bytes > 9e15)
    fail_recipe("not a size", "--fit", text, std::string(kSizeHint) + ", or 3.1bpw");
  return static_cast<uint64_t>(bytes);
}

}  // namespace whit
