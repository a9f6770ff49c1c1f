// whit formats: the table of formats.def, as people and machines read it.
#include <fmt/format.h>

#include <CLI/CLI.hpp>
#include <charconv>
#include <memory>

#include "base/error.h"
#include "cli/values.h"
#include "cli/verbs.h"
#include "format/format.h"
#include "format/format_options.h"
#include "format/ggml_types.h"
#include "report/table.h"
#include "runtime/stored_matrix.h"
#ifdef WHIT_LEARN
#include "methods/parametrize/parametrizations.h"
#include "methods/stages.h"
#endif

namespace whit {
namespace {

struct FormatsOptions {
  std::string action = "list", name, shape = "4096x4096";
  std::vector<std::string> set;
  bool json = false;
};

Shape parse_shape(const std::string& text) {
  Shape shape{0, 0};
  const char *begin = text.data(), *end = begin + text.size();
  const auto rows = std::from_chars(begin, end, shape.rows);
  if (rows.ec == std::errc() && rows.ptr != end && *rows.ptr == 'x') {
    const auto cols = std::from_chars(rows.ptr + 1, end, shape.cols);
    constexpr uint64_t kMost = 1 << 24;
    if (cols.ec == std::errc() && cols.ptr == end && shape.rows >= 1 && shape.cols >= 1 && shape.rows <= kMost &&
        shape.cols <= kMost)
      return shape;
  }
  throw Error(ErrorKind::usage, "not the shape of a matrix", "--shape", text, "ROWSxCOLUMNS: 4096x4096");
}

std::string summary_of(const std::string& name) {
  for (const FormatRow& row : format_rows())
    if (row.name == name) return row.summary;
  return {};
}

Json format_json(const std::string& name, const Json& set, Shape shape) {
  const FormatPtr format = make_format(name, set);
  format->check_shape(shape, "of --shape");
  Json parts = Json::array();
  for (const PartSpec& part : format->parts(shape))
    parts.push_back(Json{{"part", part.suffix.empty() ? "blocks" : part.suffix},
                         {"type", ggml_type_row(static_cast<int32_t>(part.type))->name},
                         {"bytes", part.bytes}});
  Json options = Json::array();
  const Json values = format->options();
  for (const OptionDescription& option : format_options(name))
    options.push_back(Json{{"name", option.name},
                           {"text", option.text},
                           {"default", option.fallback},
                           {"limits", option.limits},
                           {"value", values.contains(option.name) ? values.at(option.name) : Json()}});
  Json json = {{"name", name},
               {"summary", summary_of(name)},
               {"label", format->label()},
               {"shape", {shape.rows, shape.cols}},
               {"bits_per_weight", format->bits_per_weight(shape)},
               {"bytes", format->bytes(shape)},
               {"parts", std::move(parts)},
               {"options", std::move(options)},
               {"runs_by", has_kernels(*format) ? "kernels" : "plain decoder"}};
#ifdef WHIT_LEARN
  Json quantizers = Json::array();
  for (const MethodRow& method : method_rows())
    if (method.stage == Stage::quantize && make_quantizer(method.name, Json::object())->accepts(*format))
      quantizers.push_back(method.name);
  bool learned = false;
  for (const ParametrizationRow& known : parametrization_rows()) learned |= known.format == name;
  json["quantizers"] = std::move(quantizers);
  json["learned"] = learned;
#endif
  return json;
}

// "gptq, rtn"; what no method writes can still be read and converted.
std::string quantizers_text(const Json& json) {
  std::string names;
  for (const Json& name : json.at("quantizers")) names += (names.empty() ? "" : ", ") + name.get<std::string>();
  return names.empty() ? "-" : names;
}

std::string describe(const Json& json) {
  const auto text = [&](const char* key) { return json.at(key).get<std::string>(); };
  std::string out = fmt::format("{}\n{}\n\n", text("name"), text("summary"));
  const auto line = [&](const char* name, const std::string& value) { out += fmt::format("{:<10}{}\n", name, value); };
  const auto shape = json.at("shape").get<std::vector<uint64_t>>();
  line("stored",
       fmt::format("{:.4f} bits per weight of a {} x {} matrix, {} bytes", json.at("bits_per_weight").get<double>(),
                   shape[0], shape[1], json.at("bytes").get<uint64_t>()));
  line("runs by", text("runs_by") == "kernels" ? "kernels, as it is stored" : "its plain decoder, row by row: slowly");
  if (json.contains("quantizers")) {
    line("methods", quantizers_text(json));
    line("learns", json.at("learned").get<bool>() ? "yes: distill and blockwise train it as it is stored" : "no");
  }
  Table parts{{{"part", false}, {"type", false}, {"bytes"}}, {}};
  for (const Json& part : json.at("parts"))
    parts.add({part.at("part"), part.at("type"), std::to_string(part.at("bytes").get<uint64_t>())});
  out += "\n" + text_table(parts);
  if (json.at("options").empty()) return out;
  Table options{{{"option", false}, {"here", false}, {"default", false}, {"allowed", false}, {"meaning", false}}, {}};
  for (const Json& option : json.at("options"))
    options.add({option.at("name"), option.at("value").is_null() ? "-" : option.at("value").dump(),
                 option.at("default"), option.at("limits"), option.at("text")});
  return out + "\n" + text_table(options);
}

std::string list(const Json& rows) {
  Table table{{{"format", false}, {"bits per weight"}, {"runs by", false}}, {}};
  const bool learning = rows.at(0).contains("quantizers");
  if (learning) table.columns.insert(table.columns.end(), {{"methods", false}, {"learns", false}});
  table.columns.push_back({"what it is", false});
  for (const Json& row : rows) {
    std::vector<std::string> cells = {row.at("name"), fmt::format("{:.3f}", row.at("bits_per_weight").get<double>()),
                                      row.at("runs_by")};
    if (learning) cells.insert(cells.end(), {quantizers_text(row), row.at("learned").get<bool>() ? "yes" : "no"});
    cells.push_back(row.at("summary"));
    table.add(std::move(cells));
  }
  return text_table(table);
}

void formats(const FormatsOptions& options) {
  const Shape shape = parse_shape(options.shape);
  if (options.action == "describe") {
    if (options.name.empty())
      throw Error(ErrorKind::usage, "which format?", "whit formats describe", {}, "whit formats describe grid");
#ifdef WHIT_LEARN
    for (const MethodRow& method : method_rows())
      if (method.name == options.name)
        throw Error(ErrorKind::usage, "this is a method, not a format", "whit formats describe", options.name,
                    "whit methods describe " + options.name);
#endif
    const Json json = format_json(options.name, named_values(options.set), shape);
    return options.json ? write_json(json) : write_result(describe(json));
  }
  if (options.action != "list") {
    const std::vector<std::string> known = {"list", "describe"};
    throw Error(ErrorKind::usage, "unknown action", "whit formats", options.action, suggest_name(options.action, known));
  }
  if (!options.name.empty())
    throw Error(ErrorKind::usage, "an argument too many", "whit formats list", options.name,
                "whit formats describe " + options.name);
  if (!options.set.empty())
    throw Error(ErrorKind::usage, "options belong to one format", "whit formats list --set", options.set.front(),
                "whit formats describe grid --set " + options.set.front());
  Json rows = Json::array();
  for (const FormatRow& row : format_rows()) rows.push_back(format_json(row.name, Json::object(), shape));
  options.json ? write_json(Json{{"formats", std::move(rows)}}) : write_result(list(rows));
}

}  // namespace

Verb formats_verb() {
  return {"formats", "list and describe the storage formats", "whit formats describe grid --set bits=3 --set group=64",
          false, [](CLI::App& app) -> VerbBody {
            auto options = std::make_shared<FormatsOptions>();
            app.add_option("ACTION", options->action, "list or describe")->capture_default_str();
            app.add_option("NAME", options->name, "the format to describe");
            repeatable(app.add_option("--set", options->set, "an option of the format, NAME=VALUE"));
            app.add_option("--shape", options->shape, "the matrix whose bits are counted")->capture_default_str();
            app.add_flag("--json", options->json, "print JSON");
            return [options](Terminal&) { formats(*options); };
          }};
}

}  // namespace whit
