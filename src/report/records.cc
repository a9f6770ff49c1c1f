#include "report/records.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <map>

#include "base/error.h"
#include "base/output.h"
#include "report/comparisons.h"
#include "report/units.h"

namespace whit {
namespace {

Json number(double value) { return std::isfinite(value) ? Json(value) : Json(nullptr); }

// Counts are integers in JSON.
Json count(double value) { return value >= 0 && value < 1e18 ? Json(static_cast<uint64_t>(value)) : Json(nullptr); }

[[noreturn]] void wrong(const std::string& where, const std::string& key, const Json& found, const char* wanted) {
  throw Error(ErrorKind::input, "results cannot be read", where + ": " + key, found.type_name(),
              fmt::format("{} is wanted here", wanted));
}

void read(const Json& json, const std::string& where, const char* key, double& field) {
  const auto found = json.find(key);
  if (found == json.end() || found->is_null()) return;
  if (!found->is_number()) wrong(where, key, *found, "a number or null");
  field = found->get<double>();
}

void read(const Json& json, const std::string& where, const char* key, std::string& field) {
  const auto found = json.find(key);
  if (found == json.end() || found->is_null()) return;
  if (!found->is_string()) wrong(where, key, *found, "a string");
  field = found->get<std::string>();
}

template <class Item, class Parse>
void read_array(const Json& json, const std::string& where, const char* key, std::vector<Item>& items, Parse parse) {
  const auto found = json.find(key);
  if (found == json.end() || found->is_null()) return;
  if (!found->is_array()) wrong(where, key, *found, "an array");
  for (size_t i = 0; i < found->size(); ++i)
    items.push_back(parse((*found)[i], fmt::format("{}: {}[{}]", where, key, i)));
}

void need_object(const Json& json, const std::string& where) {
  if (!json.is_object()) wrong(where, "value", json, "an object");
}

Json text_or_null(const std::string& value) { return value.empty() ? Json(nullptr) : Json(value); }

// Which strings a row has under which keys, apart from its first three.
template <class Row>
auto text_fields(Row& row) {
  return std::array{std::pair{"model_hash", &row.model_hash}, std::pair{"text", &row.text},
                    std::pair{"text_hash", &row.text_hash},   std::pair{"windows_hash", &row.windows_hash},
                    std::pair{"original", &row.original},     std::pair{"original_hash", &row.original_hash}};
}

}  // namespace

Json to_json(const EvalRow& row) {
  Json json = {{"model", row.model},
               {"file_bytes", count(row.file_bytes)},
               {"file_bits_per_weight", number(row.file_bits_per_weight)},
               {"executor", row.executor},
               {"activations", row.activations},
               {"context", count(row.context)},
               {"windows", count(row.windows)},
               {"perplexity_half", number(row.perplexity_half)},
               {"perplexity_half_error", number(row.perplexity_half_error)},
               {"perplexity_all", number(row.perplexity_all)},
               {"kl_mean", number(row.kl_mean)},
               {"kl_mean_error", number(row.kl_mean_error)},
               {"kl_median", number(row.kl_median)},
               {"kl_p99", number(row.kl_p99)},
               {"same_top", number(row.same_top)},
               {"tokens_per_second", number(row.tokens_per_second)},
               {"peak_bytes", count(row.peak_bytes)}};
  for (const auto& [key, field] : text_fields(row)) json[key] = text_or_null(*field);
  if (row.paired_with.empty())
    json["paired"] = nullptr;
  else
    json["paired"] = {{"with", row.paired_with},
                      {"kl_difference", number(row.paired_kl)},
                      {"kl_difference_error", number(row.paired_kl_error)},
                      {"log_perplexity_difference", number(row.paired_log_perplexity)},
                      {"log_perplexity_difference_error", number(row.paired_log_perplexity_error)}};
  return json;
}

EvalRow eval_row_from(const Json& json, const std::string& where) {
  need_object(json, where);
  EvalRow row;
  read(json, where, "model", row.model);
  read(json, where, "executor", row.executor);
  read(json, where, "activations", row.activations);
  for (const auto& [key, field] : text_fields(row)) read(json, where, key, *field);
  const std::pair<const char*, double*> numbers[] = {{"file_bytes", &row.file_bytes},
                                                     {"file_bits_per_weight", &row.file_bits_per_weight},
                                                     {"context", &row.context},
                                                     {"windows", &row.windows},
                                                     {"perplexity_half", &row.perplexity_half},
                                                     {"perplexity_half_error", &row.perplexity_half_error},
                                                     {"perplexity_all", &row.perplexity_all},
                                                     {"kl_mean", &row.kl_mean},
                                                     {"kl_mean_error", &row.kl_mean_error},
                                                     {"kl_median", &row.kl_median},
                                                     {"kl_p99", &row.kl_p99},
                                                     {"same_top", &row.same_top},
                                                     {"tokens_per_second", &row.tokens_per_second},
                                                     {"peak_bytes", &row.peak_bytes}};
  for (const auto& [key, field] : numbers) read(json, where, key, *field);
  if (const auto paired = json.find("paired"); paired != json.end() && !paired->is_null()) {
    need_object(*paired, where + ": paired");
    read(*paired, where, "with", row.paired_with);
    read(*paired, where, "kl_difference", row.paired_kl);
    read(*paired, where, "kl_difference_error", row.paired_kl_error);
    read(*paired, where, "log_perplexity_difference", row.paired_log_perplexity);
    read(*paired, where, "log_perplexity_difference_error", row.paired_log_perplexity_error);
  }
  return row;
}

Json to_json(const ModelRecord& record, bool with_model) {
  Json tensors = Json::array();
  for (const TensorRecord& tensor : record.tensors) {
    Json row = {{"name", tensor.name},
                {"shape", tensor.shape},
                {"format", tensor.format},
                {"bytes", tensor.bytes},
                {"bits_per_weight", number(tensor.bits_per_weight)}};
    if (!std::isnan(tensor.paper_bits)) row["paper_bits"] = tensor.paper_bits;
    for (const auto& [part, bytes] : tensor.parts) row["parts"][part] = bytes;
    tensors.push_back(std::move(row));
  }
  Json json = Json::object();
  if (with_model) json["model"] = record.model;
  json["architecture"] = text_or_null(record.architecture);
  json["weights"] = count(record.weights);
  json["file_bytes"] = count(record.file_bytes);
  json["file_bits_per_weight"] = number(record.file_bits_per_weight);
  json["integrity"] = text_or_null(record.integrity);
  json["notes"] = record.notes;
  json["tensors"] = std::move(tensors);
  return json;
}

ModelRecord model_record_from(const Json& json, const std::string& where) {
  need_object(json, where);
  ModelRecord record;
  read(json, where, "model", record.model);
  read(json, where, "architecture", record.architecture);
  read(json, where, "integrity", record.integrity);
  read(json, where, "weights", record.weights);
  read(json, where, "file_bytes", record.file_bytes);
  read(json, where, "file_bits_per_weight", record.file_bits_per_weight);
  read_array(json, where, "notes", record.notes, [](const Json& item, const std::string& at) {
    if (!item.is_string()) wrong(at, "value", item, "a string");
    return item.get<std::string>();
  });
  read_array(json, where, "tensors", record.tensors, [](const Json& item, const std::string& at) {
    need_object(item, at);
    TensorRecord tensor;
    double bytes = 0;
    read(item, at, "name", tensor.name);
    read(item, at, "format", tensor.format);
    read(item, at, "bytes", bytes);
    read(item, at, "bits_per_weight", tensor.bits_per_weight);
    read(item, at, "paper_bits", tensor.paper_bits);
    if (const auto parts = item.find("parts"); parts != item.end()) {
      need_object(*parts, at + ": parts");
      for (const auto& [part, size] : parts->items()) {
        if (!size.is_number_unsigned()) wrong(at, "parts", size, "a count of bytes");
        tensor.parts.emplace_back(part, size.get<uint64_t>());
      }
    }
    read_array(item, at, "shape", tensor.shape, [](const Json& size, const std::string& size_at) {
      if (!size.is_number_unsigned()) wrong(size_at, "size", size, "a size");
      return size.get<uint64_t>();
    });
    if (!(bytes >= 0 && bytes < 1e18)) wrong(at, "bytes", item, "a count of bytes");
    tensor.bytes = static_cast<uint64_t>(bytes);
    return tensor;
  });
  return record;
}

Json to_json(const Results& results) {
  Json rows = Json::array(), models = Json::array(), answers = Json::array(), references = Json::array();
  for (const EvalRow& row : results.rows) rows.push_back(to_json(row));
  for (const ModelRecord& model : results.models) models.push_back(to_json(model, true));
  for (const AnswerRecord& answer : results.answers)
    answers.push_back(Json{{"model", answer.model}, {"text", answer.text}});
  for (const ReferencePoint& point : results.references)
    references.push_back(Json{{"name", point.name},
                              {"file_bytes", count(point.file_bytes)},
                              {"kl_mean", number(point.kl_mean)},
                              {"perplexity_half", number(point.perplexity_half)},
                              {"text", text_or_null(point.text)},
                              {"text_hash", text_or_null(point.text_hash)},
                              {"original", text_or_null(point.original)},
                              {"context", count(point.context)},
                              {"windows", count(point.windows)}});
  return {{"title", results.title},
          {"note", results.note},
          {"base", results.base},
          {"prompt", results.prompt},
          {"rows", std::move(rows)},
          {"models", std::move(models)},
          {"answers", std::move(answers)},
          {"reference_name", results.reference_name},
          {"references", std::move(references)}};
}

Results results_from(const Json& json, const std::string& where) {
  need_object(json, where);
  Results results;
  read(json, where, "title", results.title);
  read(json, where, "note", results.note);
  read(json, where, "base", results.base);
  read(json, where, "prompt", results.prompt);
  read(json, where, "reference_name", results.reference_name);
  read_array(json, where, "rows", results.rows, eval_row_from);
  read_array(json, where, "models", results.models, model_record_from);
  read_array(json, where, "answers", results.answers, [](const Json& item, const std::string& at) {
    need_object(item, at);
    AnswerRecord answer;
    read(item, at, "model", answer.model);
    read(item, at, "text", answer.text);
    return answer;
  });
  read_array(json, where, "references", results.references, [](const Json& item, const std::string& at) {
    need_object(item, at);
    ReferencePoint point;
    read(item, at, "name", point.name);
    read(item, at, "file_bytes", point.file_bytes);
    read(item, at, "kl_mean", point.kl_mean);
    read(item, at, "perplexity_half", point.perplexity_half);
    read(item, at, "text", point.text);
    read(item, at, "text_hash", point.text_hash);
    read(item, at, "original", point.original);
    read(item, at, "context", point.context);
    read(item, at, "windows", point.windows);
    return point;
  });
  return results;
}

Table eval_table(const std::vector<EvalRow>& rows) {
  const auto any = [&](double EvalRow::*field) {
    return std::any_of(rows.begin(), rows.end(), [&](const EvalRow& row) { return std::isfinite(row.*field); });
  };
  const bool kl = any(&EvalRow::kl_mean);
  Table table{{{"model", false}, {"bytes"}, {"bits/weight"}, {"perplexity"}, {"±"}, {"all"}}, {}};
  if (kl)
    for (const char* title : {"KL", "±", "median", "99 %", "same top"}) table.columns.push_back({title});
  for (const char* title : {"tokens/s", "memory"}) table.columns.push_back({title});
  table.columns.push_back({"activations", false});
  for (const EvalRow& row : rows) {
    const auto bytes = [](double value, bool exact) {
      if (!std::isfinite(value)) return std::string("-");
      return exact ? format_count(static_cast<uint64_t>(value)) : format_bytes(static_cast<uint64_t>(value));
    };
    // Perplexities of broken models reach 10^8.
    const auto perplexity = [](double value, int decimals) {
      return value >= 1e6 ? fmt::format("{:.2e}", value) : format_number(value, decimals);
    };
    std::vector<std::string> cells = {short_name(row.model) + (is_original(row) ? " (original)" : ""),
                                      bytes(row.file_bytes, true),
                                      format_number(row.file_bits_per_weight, 3),
                                      perplexity(row.perplexity_half, 4),
                                      perplexity(row.perplexity_half_error, 4),
                                      perplexity(row.perplexity_all, 4)};
    if (kl) {
      cells.push_back(format_number(row.kl_mean, 5));
      cells.push_back(format_number(row.kl_mean_error, 5));
      cells.push_back(format_number(row.kl_median, 5));
      cells.push_back(format_number(row.kl_p99, 4));
      cells.push_back(std::isfinite(row.same_top) ? fmt::format("{:.2f} %", 100 * row.same_top) : "-");
    }
    cells.push_back(format_number(row.tokens_per_second, 1));
    cells.push_back(bytes(row.peak_bytes, false));
    cells.push_back(row.activations);
    table.add(std::move(cells));
  }
  return table;
}

std::string short_name(const std::string& model) {
  std::string name = model;
  while (name.size() > 1 && name.back() == '/') name.pop_back();
  name = name.substr(name.find_last_of('/') + 1);
  if (name.size() > 5 && is_gguf_name(name)) name.resize(name.size() - 5);
  return name;
}

LayerBits layer_bits(const ModelRecord& model) {
  static const std::vector<std::pair<std::string, std::string>> kinds = {
      {"attn_q", "attn_qkv"},    {"attn_k", "attn_qkv"},         {"attn_v", "attn_qkv"},
      {"attn_qkv", "attn_qkv"},  {"attn_output", "attn_output"}, {"ffn_gate", "ffn_gate_up"},
      {"ffn_up", "ffn_gate_up"}, {"ffn_gate_up", "ffn_gate_up"}, {"ffn_down", "ffn_down"}};
  struct Cell {
    double bits = 0, weights = 0;
    std::string formats;
  };
  std::map<std::pair<std::string, uint64_t>, Cell> cells;
  LayerBits result;
  for (const TensorRecord& tensor : model.tensors) {
    if (tensor.shape.size() != 2) continue;
    const double weights = static_cast<double>(tensor.shape[0]) * static_cast<double>(tensor.shape[1]);
    if (tensor.name == "token_embd.weight" || tensor.name == "output.weight") {
      (tensor.name == "output.weight" ? result.output : result.embedding) = tensor.bits_per_weight;
      (tensor.name == "output.weight" ? result.output_format : result.embedding_format) = tensor.format;
      continue;
    }
    // blk.N.KIND.weight
    unsigned block = 0;
    int end = 0;
    if (std::sscanf(tensor.name.c_str(), "blk.%6u.%n", &block, &end) != 1 || end == 0) continue;
    const std::string rest = tensor.name.substr(static_cast<size_t>(end));
    const std::string member = rest.substr(0, rest.find('.'));
    const auto known = std::find_if(kinds.begin(), kinds.end(), [&](const auto& kind) { return kind.first == member; });
    if (known == kinds.end() || block > 10000) continue;
    Cell& cell = cells[{known->second, block}];
    cell.bits += tensor.bits_per_weight * weights;
    cell.weights += weights;
    if (cell.formats.find(tensor.format) == std::string::npos)
      cell.formats += (cell.formats.empty() ? "" : ", ") + tensor.format;
    result.blocks = std::max<uint64_t>(result.blocks, block + 1);
  }
  for (const char* kind : {"attn_qkv", "attn_output", "ffn_gate_up", "ffn_down"}) {
    std::vector<double> bits(result.blocks, not_measured);
    std::vector<std::string> formats(result.blocks);
    bool any = false;
    for (uint64_t block = 0; block < result.blocks; ++block)
      if (const auto found = cells.find({kind, block}); found != cells.end() && found->second.weights > 0) {
        bits[block] = found->second.bits / found->second.weights;
        formats[block] = found->second.formats;
        any = true;
      }
    if (!any) continue;
    result.kinds.push_back(kind);
    result.bits.push_back(std::move(bits));
    result.formats.push_back(std::move(formats));
  }
  return result;
}

}  // namespace whit
