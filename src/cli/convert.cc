// whit convert: a model from one kind of file to another.
#include "cli/convert.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <chrono>
#include <map>
#include <memory>

#include "base/error.h"
#include "base/output.h"
#include "base/size.h"
#include "cli/open.h"
#include "cli/values.h"
#include "cli/verbs.h"
#include "model/spec/basis.h"
#include "report/units.h"

namespace whit {
namespace {

struct ConvertVerb {
  std::filesystem::path model;
  ConvertOptions options;
  std::string shard_size;
  int threads = 0;
  bool json = false, no_verify = false;
};

// A folder where nothing says that a file is meant.
bool writes_gguf(const std::filesystem::path& output) {
  refuse_foreign_name(output, "NAME.gguf for a GGUF, the name of a folder for safetensors and config.json");
  return is_gguf_name(output);
}

void convert(const CLI::App& app, ConvertVerb& verb, Terminal& terminal) {
  ConvertOptions& options = verb.options;
  const bool gguf = writes_gguf(options.output);
  check_not_an_input(options.output, std::span(&verb.model, 1), !gguf);
  if (gguf && options.shards == 1 && verb.shard_size.empty()) output_target(options.output, options.force);
  if (!verb.shard_size.empty()) {
    if (given(app, "--shards"))
      throw Error(ErrorKind::usage, "a number of shards and a size of shards were both asked for",
                  "--shards, --max-shard-size", {}, "choose one");
    const auto bytes = parse_size(verb.shard_size);
    if (!bytes) throw Error(ErrorKind::usage, "not a size", "--max-shard-size", verb.shard_size, kSizeHint);
    options.shard_bytes = *bytes;
  }
  const auto start = std::chrono::steady_clock::now();
  LoadOptions load;
  load.verify = !verb.no_verify;
  // An ordinary file has no place for a rotation.
  const ModelPtr model = turn_back_stream(load_model(verb.model, load, terminal));
  ThreadPool pool(verb.threads);
  const Converted converted =
      gguf ? write_gguf_model(*model, options, pool, terminal) : write_folder(*model, options, pool, terminal);
  const double seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();

  const double bits = 8.0 * static_cast<double>(converted.bytes) / static_cast<double>(model->spec.weights());
  std::map<std::string, uint64_t> types;
  for (const std::string& type : converted.types) ++types[type];
  if (verb.json) {
    Json files = Json::array();
    for (const std::filesystem::path& file : converted.files) files.push_back(file.string());
    write_json({{"output", options.output.string()},
                {"kind", gguf ? "gguf" : "folder"},
                {"files", files},
                {"file_bytes", converted.bytes},
                {"file_bits_per_weight", bits},
                {"types", types},
                {"seconds", seconds}});
    return;
  }
  std::string text;
  for (const auto& [type, count] : types) text += fmt::format("{}{} {}", text.empty() ? "" : ", ", count, type);
  write_result(
      std::string_view(fmt::format("wrote {}, {} bytes in {} file{}, {:.3f} bits per weight\nmatrices: {}; {:.1f} s\n",
                                   options.output.string(), format_count(converted.bytes), converted.files.size(),
                                   converted.files.size() == 1 ? "" : "s", bits, text, seconds)));
}

VerbBody declare_convert(CLI::App& app) {
  auto o = std::make_shared<ConvertVerb>();
  app.add_option("model", o->model, "GGUF file (the first one of shards) or Hugging Face folder")->required();
  app.add_option("output", o->options.output, "NAME.gguf, or a folder for any other name")->required();
  app.add_option("--type", o->options.type,
                 "of the matrices: F32 F16 BF16 Q8_0 Q6_K Q5_K Q5_1 Q5_0 Q4_K Q4_1 Q4_0 Q3_K Q2_K; several, as in "
                 "Q4_K,Q5_0: the first whose blocks divide a row; a folder takes F32 F16 BF16 (default: as stored, F16 "
                 "where the output cannot hold that)");
  app.add_option("--shards", o->options.shards, "files of weights")->transform(whole_number(1, 99999));
  app.add_option("--max-shard-size", o->shard_size, "weights of a file at most: 2GB, 500MiB");
  app.add_option("--threads", o->threads, "threads (default: all cores)")->transform(whole_number(0, 1024));
  app.add_flag("--force", o->options.force, "overwrite the output");
  app.add_flag("--no-verify", o->no_verify, "skip the checksums of the source");
  app.add_flag("--json", o->json, "result as JSON on stdout");
  return [&app, o](Terminal& terminal) { convert(app, *o, terminal); };
}

}  // namespace

// In a file of ours a vector may stand as a matrix of one row.
bool ModelTensor::is_vector() const {
  return parts[0].tensor->dimensions == 1 || name.ends_with("norm.weight") || name.ends_with(".bias");
}

Shape ModelTensor::shape() const {
  Shape shape{0, parts[0].shape().cols};
  if (is_vector()) {
    shape = {1, 0};
    for (const TensorView& part : parts) shape.cols += part.shape().cols;
  } else {
    for (const TensorView& part : parts) shape.rows += part.rows;
  }
  return shape;
}

std::vector<ModelTensor> model_tensors(const Model& model, const std::vector<JoinedTensor>& joined) {
  std::map<std::string, const JoinedTensor*> by_part;
  for (const JoinedTensor& one : joined)
    for (const std::string& part : one.parts) by_part[part] = &one;
  std::vector<ModelTensor> tensors;
  const auto add = [&](const std::string& name, const TensorView& view) {
    const auto found = by_part.find(name);
    if (found == by_part.end()) return tensors.push_back({name, {view}});
    if (name != found->second->parts[0]) return;  // comes with the first one
    ModelTensor whole{found->second->name, {}};
    for (const std::string& part : found->second->parts) whole.parts.push_back(model.find(part));
    tensors.push_back(std::move(whole));
  };
  for (const StoredTensor& tensor : model.tensors) {
    if (tensor.members.empty()) add(tensor.name, {&tensor, 0, tensor.shape.rows});
    for (const Member& member : tensor.members) add(member.name, {&tensor, member.begin, member.count});
  }
  return tensors;
}

std::vector<size_t> shard_starts(const std::vector<uint64_t>& bytes, const ConvertOptions& options) {
  std::vector<size_t> starts = {0};
  if (options.shards > bytes.size())
    throw Error(ErrorKind::usage, "there are more shards than tensors", "--shards", std::to_string(options.shards),
                std::to_string(bytes.size()) + " tensors");
  uint64_t total = 0, done = 0, in_shard = 0;
  for (const uint64_t size : bytes) total += size;
  for (size_t i = 0; i < bytes.size(); ++i) {
    bool full = false;
    if (options.shard_bytes > 0) {
      if (bytes[i] > options.shard_bytes)
        throw Error(ErrorKind::usage, "a tensor is larger than a shard may be", "--max-shard-size",
                    format_bytes(options.shard_bytes), "at least " + format_bytes(bytes[i]));
      full = in_shard + bytes[i] > options.shard_bytes;
    } else {
      // Where a share of the bytes is reached, and in time for every later shard to get a tensor.
      const size_t made = starts.size(), later = options.shards - made;
      full = later > 0 && (static_cast<double>(done) * static_cast<double>(options.shards) >=
                               static_cast<double>(total) * static_cast<double>(made) ||
                           bytes.size() - i <= later);
    }
    if (full && in_shard > 0) {
      starts.push_back(i);
      in_shard = 0;
    }
    in_shard += bytes[i];
    done += bytes[i];
  }
  return starts;
}

std::vector<float> unpack_by_all(const TensorView& view, uint64_t begin, uint64_t count, ThreadPool& pool) {
  const uint64_t cols = view.shape().cols;
  std::vector<float> rows(count * cols);
  if (view.tensor->rotation) {  // a part would unpack whole ranges of outputs
    unpack_rows(view, begin, count, rows);
    return rows;
  }
  pool.parallel_for(count, 1, [&](size_t first, size_t last, int) {
    unpack_rows(view, begin + first, last - first, std::span(rows).subspan(first * cols, (last - first) * cols));
  });
  return rows;
}

uint64_t rows_at_a_time(const TensorView& view, uint64_t multiple) {
  if (view.tensor->rotation) return view.rows;
  constexpr uint64_t kFloats = 8 << 20;
  const uint64_t rows = std::max<uint64_t>(1, kFloats / view.shape().cols);
  return std::min(view.rows, std::max(multiple, rows / multiple * multiple));
}

Verb convert_verb() {
  return {"convert", "write a model as GGUF or as a Hugging Face folder",
          "whit convert tests/data/llama_gqa model.gguf --type Q8_0", false, declare_convert};
}

}  // namespace whit
