// What a report is made of: plain records, to and from JSON. A number that was not measured is NaN here and null there.
#pragma once

#include <cstdint>
#include <limits>
#include <string>
#include <utility>
#include <vector>

#include "base/options.h"
#include "report/table.h"

namespace whit {

constexpr double not_measured = std::numeric_limits<double>::quiet_NaN();

// A row of `whit eval --json`.
struct EvalRow {
  std::string model;  // path as it was given
  double file_bytes = not_measured, file_bits_per_weight = not_measured;
  std::string executor, activations;
  double context = not_measured, windows = not_measured;
  // On what and beside what it was judged; empty in files that do not say so. Only equal windows can be compared.
  std::string model_hash, text, text_hash, windows_hash;  // text: a name; windows_hash: of all ids, BOS included
  std::string original, original_hash;                    // empty: none
  double perplexity_half = not_measured, perplexity_half_error = not_measured, perplexity_all = not_measured;
  double kl_mean = not_measured, kl_mean_error = not_measured, kl_median = not_measured, kl_p99 = not_measured;
  double same_top = not_measured;  // share, 0 to 1
  double tokens_per_second = not_measured, peak_bytes = not_measured;
  // Against the row before, on the same positions; `paired_with` is empty for the first row.
  std::string paired_with;
  double paired_kl = not_measured, paired_kl_error = not_measured;
  double paired_log_perplexity = not_measured, paired_log_perplexity_error = not_measured;
};
Json to_json(const EvalRow& row);
EvalRow eval_row_from(const Json& json, const std::string& where);

// A tensor of `whit inspect --json`.
struct TensorRecord {
  std::string name, format;
  std::vector<uint64_t> shape;
  uint64_t bytes = 0;
  double bits_per_weight = not_measured;
  double paper_bits = not_measured;  // where the method's paper counts less than is stored
  std::vector<std::pair<std::string, uint64_t>> parts;  // bytes of each part of a format of ours
};
struct ModelRecord {
  std::string model, architecture, integrity;
  double weights = not_measured, file_bytes = not_measured, file_bits_per_weight = not_measured;
  std::vector<TensorRecord> tensors;
  std::vector<std::string> notes;
};
// With `model` first, else exactly the keys of `whit inspect --json`.
Json to_json(const ModelRecord& record, bool with_model);
ModelRecord model_record_from(const Json& json, const std::string& where);

struct AnswerRecord {
  std::string model, text;
};

// A file of somebody else, to compare with.
struct ReferencePoint {
  std::string name;
  double file_bytes = not_measured, kl_mean = not_measured, perplexity_half = not_measured;
  std::string text, text_hash, original;  // what it was judged on (name or hash) and beside
  double context = not_measured, windows = not_measured;
};

// results.json.
struct Results {
  std::string title;  // of the page
  std::string note;   // one paragraph under it: the text judged on, the machine
  std::string base;   // the model that the others are compared with
  std::string prompt;
  std::string reference_name;  // "llama.cpp"
  std::vector<EvalRow> rows;
  std::vector<ModelRecord> models;
  std::vector<AnswerRecord> answers;
  std::vector<ReferencePoint> references;
};
Json to_json(const Results& results);
// Unknown keys are kept out, missing ones stay unmeasured; a wrong type is ErrorKind::input that names the key.
Results results_from(const Json& json, const std::string& where);

// The table of `whit eval` and of the page.
Table eval_table(const std::vector<EvalRow>& rows);
// A name short enough for a picture: the file name without its ending, and without `.gguf`.
std::string short_name(const std::string& model);

// Bits per weight by block and kind of unit, for the picture.
struct LayerBits {
  std::vector<std::string> kinds;         // rows
  uint64_t blocks = 0;                    // columns
  std::vector<std::vector<double>> bits;  // [kind][block], NaN where there is no such tensor
  std::vector<std::vector<std::string>> formats;
  double embedding = not_measured, output = not_measured;
  std::string embedding_format, output_format;
};
LayerBits layer_bits(const ModelRecord& model);

}  // namespace whit
