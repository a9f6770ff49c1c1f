// whit inspect: what is in a model file, tensor by tensor; token ids of a text; the recipe that made the file.
#include "cli/inspect.h"

#include <fmt/format.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <map>
#include <memory>

#include "base/error.h"
#include "base/file.h"
#include "base/output.h"
#include "base/toml.h"
#include "cli/open.h"
#include "cli/verbs.h"
#include "data/chat.h"
#include "format/format.h"
#include "report/table.h"
#include "report/units.h"

namespace whit {
namespace {

struct InspectOptions {
  std::string model, text, recipe;
  bool tokenize = false, json = false, no_verify = false, force = false;
};

double bits_per_weight(const StoredTensor& tensor) {
  return tensor.shape.count() ? 8.0 * static_cast<double>(tensor.bytes()) / static_cast<double>(tensor.shape.count())
                              : 0;
}

std::string format_text(const StoredTensor& tensor) {
  return tensor.format->label() + (tensor.rotation ? " rotated" : "");
}

std::string shape_text(const StoredTensor& tensor) {
  return tensor.dimensions == 1 ? std::to_string(tensor.shape.cols)
                                : fmt::format("{} x {}", tensor.shape.rows, tensor.shape.cols);
}

// "header", or the name of the damaged tensor, from where a checksum's error says it is: "FILE: header..." or
// "FILE: tensor NAME".
std::string damaged_part(const Error& error, const std::string& path) {
  std::string part = error.where();
  if (part.rfind(path + ": ", 0) == 0) part.erase(0, path.size() + 2);
  if (part.rfind("header", 0) == 0) return "header";
  if (part.rfind("tensor ", 0) == 0) part.erase(0, 7);
  return part;
}

// The same keys where nothing of the file can be believed.
Json damaged_json(const std::string& damaged) {
  ModelRecord record;
  record.integrity = damaged;
  return to_json(record, false);
}

struct Sum {
  uint64_t tensors = 0, weights = 0, bytes = 0;
  std::map<std::string, uint64_t> formats;  // label -> tensors
};

// Stored bits by part beside what the methods' papers count, over the tensors where these differ. Empty: none does.
std::string paper_table(const Model& model) {
  Table table{{{"stored part", false}, {"bytes"}, {"bits/weight"}}, {}};
  std::vector<std::pair<std::string, uint64_t>> parts;
  double weights = 0, paper = 0;
  uint64_t bytes = 0;
  for (const StoredTensor& tensor : model.tensors) {
    const double counted = tensor.format->paper_bits(tensor.shape, tensor.parts);
    if (counted <= 0) continue;
    weights += static_cast<double>(tensor.shape.count());
    paper += counted * static_cast<double>(tensor.shape.count());
    bytes += tensor.bytes();
    for (const PartSpec& part : tensor.format->parts(tensor.shape)) {
      auto found = std::find_if(parts.begin(), parts.end(), [&](const auto& p) { return p.first == part.suffix; });
      if (found == parts.end()) found = parts.insert(found, {part.suffix, 0});
      found->second += part.bytes;
    }
  }
  if (weights == 0) return {};
  const auto line = [&](const std::string& name, uint64_t size) {
    table.add({name, format_count(size), fmt::format("{:.3f}", 8.0 * static_cast<double>(size) / weights)});
  };
  for (const auto& [part, size] : parts) line(part, size);
  line("all that is stored", bytes);
  table.add({"as the paper counts", "", fmt::format("{:.3f}", paper / weights)});
  return "\n" + text_table(table);
}

// Whether a chat template can be read, and what is wrong with it.
std::string chat_text(const std::string& name, const std::string& jinja) {
  const std::string named = name == "default" ? "template" : "template " + name;
  try {
    const ChatTemplate chat(jinja);
    return fmt::format("{}, {} bytes{}{}", named, format_count(jinja.size()), chat.reads("tools") ? ", tools" : "",
                       chat.thinking_switches().empty() ? "" : ", a switch for thinking");
  } catch (const Error& error) {
    return fmt::format("{} not usable: {} ({}: {})", named, error.message(), error.where(), error.found());
  }
}

std::string inspect_text(const Model& model) {
  const ModelSpec& spec = model.spec;
  std::string out;
  const auto line = [&](const char* name, const std::string& value) { out += fmt::format("{:<13} {}\n", name, value); };
  line("model", model.path.string());
  if (!spec.name.empty()) line("name", spec.name);
  line("architecture",
       fmt::format("{}: {} layers, width {}, {} heads ({} of keys and values) of {}, feed-forward {}, "
                   "vocabulary {}, context {}{}",
                   spec.family, spec.layers, spec.width, spec.heads, spec.kv_heads, spec.head_size, spec.feed_forward,
                   spec.vocabulary, spec.context, spec.tied_output ? ", output tied to the embedding" : ""));
  line("stored as", model.weights);
  line("weights", format_count(spec.weights()));
  line("file", fmt::format("{} bytes ({}), {:.3f} bits per weight over the whole file", format_count(model.file_bytes),
                           format_bytes(model.file_bytes), file_bits_per_weight(model)));
  line("integrity", model.integrity);
  try {
    SilentProgress silent;
    const auto tokenizer = load_tokenizer(model, silent);
    line("tokenizer", tokenizer->kind());
    for (const std::string& note : tokenizer->notes()) line("", note);
    const auto templates = tokenizer->chat_templates();
    if (templates.empty()) line("chat", "no template");
    for (const auto& [name, jinja] : templates) line("chat", chat_text(name, jinja));
  } catch (const Error& error) {
    line("tokenizer", "not usable: " + error.message());
  }

  const auto kinds = unit_kinds(spec);
  std::map<std::string, Sum> sums;
  std::vector<std::string> order;
  uint64_t tensor_bytes = 0;
  Table tensors{{{"tensor", false}, {"shape"}, {"format", false}, {"bytes"}, {"bits/weight"}}, {}};
  for (const StoredTensor& tensor : model.tensors) {
    const auto found = kinds.find(tensor.name);
    const std::string kind = found == kinds.end() ? "norms and others" : found->second;
    if (!sums.contains(kind)) order.push_back(kind);
    Sum& sum = sums[kind];
    ++sum.tensors;
    sum.weights += tensor.shape.count();
    sum.bytes += tensor.bytes();
    ++sum.formats[format_text(tensor)];
    tensor_bytes += tensor.bytes();
    tensors.add({tensor.name, shape_text(tensor), format_text(tensor), format_count(tensor.bytes()),
                 fmt::format("{:.3f}", bits_per_weight(tensor))});
  }
  Table table{{{"kind", false}, {"tensors"}, {"weights"}, {"bytes"}, {"bits/weight"}, {"share"}, {"formats", false}},
              {}};
  const double whole = static_cast<double>(std::max<uint64_t>(model.file_bytes, 1));
  for (const std::string& kind : order) {
    const Sum& sum = sums[kind];
    std::string formats;
    for (const auto& [label, count] : sum.formats)
      formats +=
          (formats.empty() ? "" : ", ") + (sum.formats.size() == 1 ? label : fmt::format("{} x{}", label, count));
    table.add({kind, std::to_string(sum.tensors), format_count(sum.weights), format_count(sum.bytes),
               fmt::format("{:.3f}", 8.0 * static_cast<double>(sum.bytes) /
                                         static_cast<double>(std::max<uint64_t>(sum.weights, 1))),
               fmt::format("{:.1f} %", 100 * static_cast<double>(sum.bytes) / whole), formats});
  }
  if (model.file_bytes >= tensor_bytes) {
    const uint64_t rest = model.file_bytes - tensor_bytes;
    table.add({"header, padding, unread", "", "", format_count(rest), "",
               fmt::format("{:.1f} %", 100 * static_cast<double>(rest) / whole), ""});
  }
  return out + "\n" + text_table(table) + paper_table(model) + "\n" + text_table(tensors);
}

// The record with what is to be said of the tokenizer too.
ModelRecord whole_record(const Model& model, const std::string& path) {
  ModelRecord record = model_record(model, path);
  try {
    SilentProgress silent;
    for (std::string& note : load_tokenizer(model, silent)->notes()) record.notes.push_back(std::move(note));
  } catch (const Error& error) {
    record.notes.push_back("tokenizer not usable: " + error.message());
  }
  return record;
}

void print_tokens(const Model& model, const InspectOptions& options, Terminal& terminal) {
  const auto tokenizer = load_tokenizer(model, terminal);
  const std::string text = options.text == "-" ? read_standard_input() : options.text;
  const std::vector<int32_t> ids = tokenizer->encode(text, true, true);
  const std::vector<int32_t> bare = tokenizer->encode(text, false, true);
  if (options.json) {
    write_json(Json{{"ids", ids}, {"ids_no_special", bare}, {"decoded", tokenizer->decode(bare, false)}});
    return;
  }
  Table table{{{"position"}, {"id"}, {"piece", false}}, {}};
  for (size_t i = 0; i < ids.size(); ++i)
    table.add({std::to_string(i), std::to_string(ids[i]),
               Json(tokenizer->piece(ids[i])).dump(-1, ' ', false, Json::error_handler_t::replace)});
  write_result(text_table(table) + fmt::format("{} tokens\n", ids.size()));
}

void write_recipe(const Model& model, const InspectOptions& options, Terminal& terminal) {
  const Value* value = model.metadata.find("whit.manifest");
  const auto* text = value ? std::get_if<std::string>(value) : nullptr;
  const Json manifest = text ? Json::parse(*text, nullptr, false) : Json();
  if (!manifest.is_object() || !manifest.contains("recipe"))
    throw Error(ErrorKind::input, "the file holds no recipe", options.model,
                text ? "a manifest without one" : "no manifest", "only files that `whit compress` wrote have one");
  const std::string toml = json_to_toml(manifest["recipe"]);
  if (options.recipe == "-") {
    write_result(toml);
    return;
  }
  write_file(options.recipe, toml, options.force);
  terminal.note("recipe written to " + options.recipe);
}

void check(const CLI::App& app, const InspectOptions& options) {
  const bool to_file = !options.recipe.empty() && options.recipe != "-";
  if (!to_file) refuse_without_effect(app, {"--force"}, "no file is written");
  if (!options.recipe.empty() && !options.tokenize)
    refuse_without_effect(app, {"--json"}, "a recipe is written as TOML");
  if (options.recipe == "-") refuse_without_effect(app, {"--tokenize"}, "--recipe - has stdout for itself");
  const std::filesystem::path model = options.model;
  if (to_file) check_output(options.recipe, options.force, std::span(&model, 1));
}

void inspect(const InspectOptions& options, Terminal& terminal) {
  ModelPtr model;
  try {
    LoadOptions load;
    load.verify = !options.no_verify;
    model = load_model(options.model, load, terminal);
  } catch (const Error& error) {
    if (error.kind() == ErrorKind::integrity && options.json && !options.tokenize) {
      write_json(damaged_json(damaged_part(error, options.model)));
      finish_results();
    }
    throw;
  }
  if (!options.recipe.empty()) write_recipe(*model, options, terminal);
  if (options.tokenize)
    print_tokens(*model, options, terminal);
  else if (options.recipe.empty() && options.json)
    write_json(to_json(whole_record(*model, options.model), false));
  else if (options.recipe.empty())
    write_result(inspect_text(*model));
}

}  // namespace

ModelRecord model_record(const Model& model, const std::string& path) {
  ModelRecord record;
  record.model = path;
  record.architecture = model.spec.family;
  record.integrity = model.integrity;
  record.notes = model.notes;
  record.weights = static_cast<double>(model.spec.weights());
  record.file_bytes = static_cast<double>(model.file_bytes);
  record.file_bits_per_weight = file_bits_per_weight(model);
  for (const StoredTensor& tensor : model.tensors) {
    TensorRecord row;
    row.name = tensor.name;
    row.format = format_text(tensor);
    if (tensor.dimensions != 1) row.shape.push_back(tensor.shape.rows);
    row.shape.push_back(tensor.shape.cols);
    row.bytes = tensor.bytes();
    row.bits_per_weight = bits_per_weight(tensor);
    if (const double paper = tensor.format->paper_bits(tensor.shape, tensor.parts); paper > 0) row.paper_bits = paper;
    if (!tensor.format->is_ggml())
      for (const PartSpec& part : tensor.format->parts(tensor.shape)) row.parts.emplace_back(part.suffix, part.bytes);
    record.tensors.push_back(std::move(row));
  }
  return record;
}

Verb inspect_verb() {
  return {"inspect", "what is in a model: tensors, formats, bytes, integrity, token ids",
          "whit inspect tests/data/models/stories260K.gguf", false, [](CLI::App& app) -> VerbBody {
            auto options = std::make_shared<InspectOptions>();
            app.add_option("MODEL", options->model, "a GGUF file or a Hugging Face folder")->required();
            app.add_option("--tokenize", options->text, "show the token ids of this text; - reads standard input");
            app.add_option("--recipe", options->recipe, "write the recipe that made the file, as TOML; - is stdout");
            app.add_flag("--force", options->force, "overwrite an existing recipe file");
            app.add_flag("--json", options->json, "print JSON (docs/cli.md)");
            app.add_flag("--no-verify", options->no_verify, "do not verify the checksums of the file");
            return [&app, options](Terminal& terminal) {
              options->tokenize = given(app, "--tokenize");
              check(app, *options);
              inspect(*options, terminal);
            };
          }};
}

}  // namespace whit
