// A Hugging Face folder: config.json and model.safetensors (or shards with their index). Tensors keep their mapped
// bytes and get their GGUF names; the rows of query and key stay where they are (StoredTensor::half_split_head).
#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <map>
#include <set>

#include "base/hash.h"
#include "base/json.h"
#include "format/format.h"
#include "format/safetensors.h"
#include "model/spec/config.h"
#include "model/spec/folder_checksums.h"
#include "model/spec/folder_files.h"
#include "model/spec/load.h"
#include "model/spec/load_quantized.h"
#include "model/spec/settle.h"
#include "model/spec/what_is_this.h"

namespace whit {
namespace {

constexpr uint64_t kLargestConfig = 16 << 20, kLargestTokenizer = 256 << 20;

StoredTensor made_tensor(const std::string& name, int dimensions, Packed packed) {
  StoredTensor tensor = make_stored(name, std::make_shared<Packed>(std::move(packed)));
  tensor.dimensions = dimensions;
  return tensor;
}

// The values of a vector, or of a whole matrix.
std::vector<float> values_of(const StoredTensor& tensor) {
  std::vector<float> values(tensor.shape.count());
  unpack_rows({&tensor, 0, tensor.shape.rows}, 0, tensor.shape.rows, values);
  return values;
}

// [inputs, outputs] -> [outputs, inputs], in the same type.
StoredTensor transposed(const StoredTensor& tensor, const std::string& where) {
  const std::string type = tensor.format->name();
  if (type != "f32" && type != "f16" && type != "bf16")
    throw Error(ErrorKind::input, "a matrix of this type is not turned around", where, type, "F32, F16 and BF16 are");
  const uint64_t rows = tensor.shape.rows, cols = tensor.shape.cols;
  const std::vector<float> from = values_of(tensor);
  std::vector<float> to(from.size());
  for (uint64_t r = 0; r < rows; ++r)
    for (uint64_t c = 0; c < cols; ++c) to[c * rows + r] = from[r * cols + c];
  return made_tensor(tensor.name, 2, pack_dense(tensor.format, {cols, rows}, to));
}

// The tensor under its GGUF name, as the executors read it.
StoredTensor stored_tensor(const FolderMatrix& matrix, const std::string& name, const FolderConfig& config) {
  const Family& family = *config.family;
  StoredTensor tensor = matrix.tensor;
  tensor.name = name;
  const bool vector = tensor.dimensions == 1;
  const auto is = [&](std::string_view part) { return name.find(part) != std::string::npos; };
  if (family.norms_less_one && vector && name.ends_with("norm.weight")) {
    std::vector<float> gains = values_of(tensor);
    for (float& gain : gains) gain += 1;
    return made_tensor(name, 1, pack_dense(make_format("f32"), tensor.shape, gains));
  }
  if (family.transposed && !vector && name.starts_with("blk.")) return transposed(tensor, matrix.where);
  if (family.pairs == RotaryPairs::neighbours && family.positions == PositionKind::rotary &&
      (is(".attn_q.") || is(".attn_k."))) {
    const uint64_t head = config.head_size;
    if ((vector ? tensor.shape.cols : tensor.shape.rows) % head != 0)
      throw Error(ErrorKind::input, "a tensor has another shape than the model's description says", matrix.where,
                  fmt::format("{} rows, heads of {}", vector ? tensor.shape.cols : tensor.shape.rows, head));
    tensor.half_split_head = head;
    if (!vector) return tensor;
    const std::vector<float> halves = values_of(matrix.tensor);  // a bias: nothing reads it row by row
    std::vector<float> pairs(halves.size());
    for (uint64_t i = 0; i < pairs.size(); ++i) pairs[i] = halves[tensor.stored_row(i)];
    return made_tensor(name, 1, pack_dense(make_format("f32"), tensor.shape, pairs));
  }
  return tensor;
}

// The folder's weight files in the order of their names, each with the tensors that the index says it has; the one
// file has no index, and is told to have none. All are there.
std::map<std::string, std::set<std::string>> weight_files(const std::filesystem::path& folder,
                                                          std::vector<std::string>& notes) {
  const std::filesystem::path index = folder / "model.safetensors.index.json";
  if (std::filesystem::exists(folder / "model.safetensors")) {
    if (std::filesystem::exists(index))
      notes.push_back("model.safetensors is read; model.safetensors.index.json, which is there too, is not");
    return {{"model.safetensors", {}}};
  }
  refuse_foreign_file(index);
  auto files = index_files(parse_json(read_file(index, kLargestTokenizer), index.string()), index.string());
  std::vector<std::string> absent;
  for (const auto& [name, tensors] : files)
    if (!std::filesystem::exists(folder / name)) absent.push_back(name);
  if (!absent.empty())
    throw Error(
        ErrorKind::io, "the folder lacks files of weights that its index names", index.string(),
        fmt::format("{} of {}: {}{}", absent.size(), files.size(),
                    fmt::join(absent.begin(), absent.begin() + std::min<ptrdiff_t>(4, std::ssize(absent)), ", "),
                    absent.size() > 4 ? ", ..." : ""),
        "fetch them too");
  return files;
}

// Tensors that take no part in what a model of floats computes: tables that follow from config.json, and scales for a
// cache of 8 bits.
enum class Buffer { none, table, cache_scale };
Buffer buffer_kind(const Family& family, std::string_view name) {
  const auto ends = [&](std::string_view ending) { return name.ends_with(ending); };
  if (std::any_of(family.ignored.begin(), family.ignored.end(), ends)) return Buffer::table;
  if (family.positions == PositionKind::rotary && ends("rotary_emb.inv_freq")) return Buffer::table;
  for (const char* ending :
       {"attn.k_scale", "attn.v_scale", "attn.q_scale", "attn.prob_scale", "attn.kv_scale", "attn.k_zero_point",
        "attn.v_zero_point", "k_proj.k_scale", "v_proj.v_scale", "q_proj.q_scale", "k_proj.output_scale",
        "v_proj.output_scale", "qkv_proj.output_scale", "qkv_proj.k_scale", "qkv_proj.v_scale"})
    if (ends(ending)) return Buffer::cache_scale;
  return Buffer::none;
}

// The index may say how many bytes the tensors are in all; transformers only hands the number on.
void note_total_size(const std::filesystem::path& index, uint64_t bytes, std::vector<std::string>& notes) {
  const nlohmann::json json = parse_json(read_file(index, kLargestTokenizer), index.string());
  const auto metadata = json.find("metadata");
  if (metadata == json.end() || !metadata->is_object()) return;
  const auto said = metadata->find("total_size");
  if (said == metadata->end() || (said->is_number() && said->get<double>() == static_cast<double>(bytes))) return;
  notes.push_back(fmt::format("the index says {} bytes of tensors (total_size), the shards have {}",
                              said->dump(-1, ' ', false, nlohmann::json::error_handler_t::replace).substr(0, 50),
                              bytes));
}

// Before config.json had a quantization_config, packers wrote a file of their own beside it.
void add_old_quantization(const std::filesystem::path& folder, nlohmann::json& config, Hasher& hasher) {
  if (config.contains("quantization_config")) return;
  for (const auto& [name, method] : {std::pair("quantize_config.json", "gptq"), {"quant_config.json", "awq"}}) {
    if (!std::filesystem::exists(folder / name)) continue;
    const std::string text = read_file(folder / name, kLargestConfig);
    hasher.add(text);
    config["quantization_config"] = parse_json(text, (folder / name).string());
    if (!config["quantization_config"].is_object())
      throw Error(ErrorKind::input, "the file is no JSON object", (folder / name).string());
    config["quantization_config"].emplace("quant_method", method);
    return;
  }
}

}  // namespace

std::map<std::string, std::set<std::string>> index_files(const nlohmann::json& json, const std::string& where) {
  const auto map = json.is_object() ? json.find("weight_map") : json.end();
  if (map == json.end() || !map->is_object()) throw Error(ErrorKind::input, "the index has no weight_map", where);
  std::map<std::string, std::set<std::string>> files;
  for (const auto& [tensor, file] : map->items()) {
    if (!file.is_string() || file.get_ref<const std::string&>().empty() ||
        file.get_ref<const std::string&>().find_first_of(std::string_view("/\\\0", 3)) != std::string::npos)
      throw Error(ErrorKind::input, "the index names a file that cannot be", fmt::format("{}: {}", where, tensor),
                  file.dump(-1, ' ', false, nlohmann::json::error_handler_t::replace).substr(0, 200));
    files[file.get<std::string>()].insert(tensor);
  }
  return files;
}

ModelPtr load_folder_model(const std::filesystem::path& path, const LoadOptions& options) {
  auto model = std::make_shared<Model>();
  model->path = path;
  const bool checksums = std::filesystem::exists(path / kFolderChecksums);
  model->integrity = checksums ? "not verified" : "absent";
  if (options.verify && verify_folder(path)) model->integrity = "ok";
  const std::filesystem::path config_path = path / "config.json";
  refuse_foreign_file(config_path);
  const std::string config_text = read_file(config_path, kLargestConfig);
  const std::filesystem::path named = path.filename().empty() ? path.parent_path() : path;
  nlohmann::json config_json = parse_json(config_text, config_path.string());
  const FolderConfig config = read_config(config_json, config_path.string(), named.filename().string());
  model->metadata = config.metadata;
  model->notes = config.notes;

  if (const auto mlx = config_json.find("quantization"); mlx != config_json.end() && mlx->is_object())
    throw Error(ErrorKind::input, "the folder is of MLX, whose packed matrices are not read",
                config_path.string() + ": quantization", mlx->dump().substr(0, 100),
                "fetch the original folder, or a GGUF file");

  Hasher hasher;
  hasher.add(config_text);
  add_old_quantization(path, config_json, hasher);
  std::vector<FolderTensor> entries;
  size_t cache_scales = 0;
  uint64_t tensor_bytes = 0;
  std::vector<std::string> unlisted;
  for (auto& [file_name, listed] : weight_files(path, model->notes)) {
    refuse_foreign_file(path / file_name);
    const SafetensorsFile file = SafetensorsFile::open(path / file_name);
    hasher.add(file.file->bytes());
    model->file_bytes += file.file->bytes().size();
    const bool indexed = !listed.empty();
    for (const SafetensorsEntry& entry : file.tensors) {
      tensor_bytes += entry.data.size();
      if (listed.erase(entry.name) == 0 && indexed) unlisted.push_back(entry.name);
      const Buffer kind = buffer_kind(*config.family, entry.name);
      cache_scales += kind == Buffer::cache_scale;
      if (kind == Buffer::none) entries.push_back({entry, file.file});
    }
    if (!listed.empty())
      throw Error(ErrorKind::input, "a shard lacks a tensor that the index says it has", (path / file_name).string(),
                  *listed.begin(), "the folder is incomplete: fetch it again");
  }
  if (!unlisted.empty())
    model->notes.push_back(fmt::format(
        "the index does not name {} of the tensors in its shards, {} the first: read, as transformers does it",
        unlisted.size(), unlisted[0]));
  if (!std::filesystem::exists(path / "model.safetensors"))
    note_total_size(path / "model.safetensors.index.json", tensor_bytes, model->notes);
  if (cache_scales != 0)
    model->notes.push_back(fmt::format(
        "{} scales of a key-value cache of 8 bits are not read: the cache here holds floats", cache_scales));
  std::set<std::string> dtypes, seen;
  for (const FolderMatrix& matrix : folder_matrices(entries, config_json, config_path.string())) {
    const std::string name = folder_to_gguf_name(*config.family, matrix.name);
    if (name.empty())
      throw Error(ErrorKind::input, "the model has a tensor that is not supported", matrix.where, {},
                  "leaving it out would change what the model says");
    if (!seen.insert(name).second) throw Error(ErrorKind::input, "a tensor is there twice", matrix.where);
    model->tensors.push_back(stored_tensor(matrix, name, config));
    dtypes.insert(matrix.kind);
  }
  if (const auto packed = config_json.find("quantization_config"); packed != config_json.end() && packed->is_object())
    if (const auto by = packed->find("quant_method");
        by != packed->end() && by->dump().find("auto") != std::string::npos)
      model->notes.push_back(
          fmt::format("auto-round packed matrices as GPTQ and AWQ do: they are read as {}", fmt::join(dtypes, ", ")));
  settle_output(*model, config.tied);
  settle_vectors(*model, config);
  for (const auto& [name, divisors] : config.divisors)
    model->tensors.push_back(made_tensor(name, 1, pack_dense(make_format("f32"), {1, divisors.size()}, divisors)));
  if (const TensorView embedding = model->find("token_embd.weight")) {
    if (config.vocabulary != 0 && config.vocabulary != embedding.rows)
      throw Error(ErrorKind::input, "the embedding has another number of rows than config.json says",
                  config_path.string() + ": vocab_size", fmt::format("{}, {} rows", config.vocabulary, embedding.rows));
    model->metadata.set(fmt::format("{}.vocab_size", config.family->gguf), static_cast<uint32_t>(embedding.rows));
  }
  model->content_hash = hasher.hex();
  model->weights = fmt::format("safetensors {}", fmt::join(dtypes, "+"));
  for (const std::string_view name : folder_texts())
    if (std::filesystem::exists(path / name)) {
      refuse_foreign_file(path / name);
      model->tokenizer_files[std::string(name)] = read_file(path / name, kLargestTokenizer);
    }
  if (std::filesystem::exists(path / "adapter_config.json"))
    model->notes.push_back("the folder also holds an adapter (adapter_config.json): it is not applied");
  if (const auto more = path / kTemplatesFolder; std::filesystem::is_directory(more))
    for (const auto& entry : std::filesystem::directory_iterator(more))
      if (entry.path().extension() == ".jinja")
        model->tokenizer_files[std::string(kTemplatesFolder) + "/" + entry.path().filename().string()] =
            read_file(entry.path(), kLargestTokenizer);
  describe(*model);
  return model;
}

}  // namespace whit
