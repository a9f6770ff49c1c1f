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
#include "model/spec/load.h"
#include "model/spec/load_quantized.h"
#include "model/spec/tensor_names.h"

namespace whit {
namespace {

constexpr uint64_t kLargestConfig = 16 << 20, kLargestTokenizer = 256 << 20;

// The matrix under its GGUF name, as the executors read it.
StoredTensor stored_tensor(const FolderMatrix& matrix, const std::string& name, uint64_t head_size) {
  StoredTensor tensor = matrix.tensor;
  tensor.name = name;
  const bool rotated = name.ends_with(".attn_q.weight") || name.ends_with(".attn_k.weight");
  if (rotated) {
    if (tensor.shape.rows % head_size != 0)
      throw Error(ErrorKind::input, "a tensor has another shape than the model's description says", matrix.where,
                  fmt::format("{} rows, heads of {}", tensor.shape.rows, head_size));
    tensor.half_split_head = head_size;
  }
  return tensor;
}

StoredTensor rope_freqs_tensor(const std::vector<float>& divisors) {
  auto packed = std::make_shared<Packed>(pack_dense(make_format("f32"), {1, divisors.size()}, divisors));
  StoredTensor tensor = make_stored("rope_freqs.weight", std::move(packed));
  tensor.dimensions = 1;
  return tensor;
}

// The folder's weight files in the order of their names, each with the tensors that the index says it has; the one
// file has no index, and is told to have none.
std::map<std::string, std::set<std::string>> weight_files(const std::filesystem::path& folder) {
  if (std::filesystem::exists(folder / "model.safetensors")) return {{"model.safetensors", {}}};
  const std::filesystem::path index = folder / "model.safetensors.index.json";
  if (!std::filesystem::exists(index))
    throw Error(ErrorKind::io, "the folder has no weights that are read here", folder.string(), {},
                "a file model.safetensors or model.safetensors.index.json is wanted");
  return index_files(parse_json(read_file(index, kLargestTokenizer), index.string()), index.string());
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

// Buffers that older writers left in the file and that nobody reads.
bool is_ignored(std::string_view name) { return name.ends_with("rotary_emb.inv_freq"); }

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

ModelPtr load_folder_model(const std::filesystem::path& path) {
  auto model = std::make_shared<Model>();
  model->path = path;
  model->integrity = "absent";
  const std::filesystem::path config_path = path / "config.json";
  const std::string config_text = read_file(config_path, kLargestConfig);
  const std::filesystem::path named = path.filename().empty() ? path.parent_path() : path;
  nlohmann::json config_json = parse_json(config_text, config_path.string());
  const FolderConfig config = read_config(config_json, config_path.string(), named.filename().string());
  model->metadata = config.metadata;

  Hasher hasher;
  hasher.add(config_text);
  add_old_quantization(path, config_json, hasher);
  std::vector<FolderTensor> entries;
  for (auto& [file_name, listed] : weight_files(path)) {
    const SafetensorsFile file = SafetensorsFile::open(path / file_name);
    hasher.add(file.file->bytes());
    model->file_bytes += file.file->bytes().size();
    for (const SafetensorsEntry& entry : file.tensors) {
      listed.erase(entry.name);
      if (!is_ignored(entry.name)) entries.push_back({entry, file.file});
    }
    if (!listed.empty())
      throw Error(ErrorKind::input, "a shard lacks a tensor that the index says it has", (path / file_name).string(),
                  *listed.begin(), "the folder is incomplete: fetch it again");
  }
  std::set<std::string> dtypes, seen;
  for (const FolderMatrix& matrix : folder_matrices(entries, config_json, config_path.string())) {
    const std::string name = folder_to_gguf_name(matrix.name);
    if (name.empty())
      throw Error(ErrorKind::input, "the model has a tensor that is not supported", matrix.where, {},
                  "leaving it out would change what the model says");
    if (!seen.insert(name).second) throw Error(ErrorKind::input, "a tensor is there twice", matrix.where);
    model->tensors.push_back(stored_tensor(matrix, name, config.head_size));
    dtypes.insert(matrix.kind);
  }
  if (!config.rope_freqs.empty()) model->tensors.push_back(rope_freqs_tensor(config.rope_freqs));
  if (const TensorView embedding = model->find("token_embd.weight"))
    model->metadata.set("llama.vocab_size", static_cast<uint32_t>(embedding.rows));
  model->content_hash = hasher.hex();
  model->weights = fmt::format("safetensors {}", fmt::join(dtypes, "+"));
  for (const char* name :
       {"tokenizer.json", "tokenizer_config.json", "generation_config.json", "chat_template.jinja", "config.json"})
    if (std::filesystem::exists(path / name)) model->tokenizer_files[name] = read_file(path / name, kLargestTokenizer);
  model->spec = llama_spec(*model);
  check_tensors(*model);
  return model;
}

}  // namespace whit
