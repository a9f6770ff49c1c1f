// A Hugging Face folder: config.json and model.safetensors (or shards with their index). Tensors keep their mapped
// bytes and get their GGUF names; the rows of query and key stay where they are (StoredTensor::half_split_head).
#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <cstring>
#include <set>

#include "base/hash.h"
#include "base/json.h"
#include "format/format.h"
#include "format/safetensors.h"
#include "model/spec/config.h"
#include "model/spec/load.h"

namespace whit {
namespace {

constexpr uint64_t kLargestConfig = 16 << 20, kLargestTokenizer = 256 << 20;

// The GGUF name, or "" for a name that is not known.
std::string gguf_name(std::string_view name) {
  if (name == "model.embed_tokens.weight") return "token_embd.weight";
  if (name == "model.norm.weight") return "output_norm.weight";
  if (name == "lm_head.weight") return "output.weight";
  constexpr std::string_view kLayers = "model.layers.";
  if (!name.starts_with(kLayers)) return "";
  name.remove_prefix(kLayers.size());
  const size_t dot = name.find('.');
  if (dot == 0 || dot == std::string_view::npos || dot > 6) return "";
  const std::string_view layer = name.substr(0, dot), rest = name.substr(dot + 1);
  if (!std::all_of(layer.begin(), layer.end(), [](char c) { return c >= '0' && c <= '9'; })) return "";
  if (layer.size() > 1 && layer[0] == '0') return "";
  static constexpr std::pair<std::string_view, std::string_view> kNames[] = {
      {"input_layernorm", "attn_norm"}, {"self_attn.q_proj", "attn_q"},      {"self_attn.k_proj", "attn_k"},
      {"self_attn.v_proj", "attn_v"},   {"self_attn.o_proj", "attn_output"}, {"post_attention_layernorm", "ffn_norm"},
      {"mlp.gate_proj", "ffn_gate"},    {"mlp.up_proj", "ffn_up"},           {"mlp.down_proj", "ffn_down"},
  };
  for (const auto& [theirs, ours] : kNames)
    if (rest == fmt::format("{}.weight", theirs)) return fmt::format("blk.{}.{}.weight", layer, ours);
  return "";
}

StoredTensor stored_tensor(const SafetensorsEntry& entry, const SafetensorsFile& file, const std::string& name,
                           uint64_t head_size) {
  const std::string where = fmt::format("{}: tensor {}", file.file->path().string(), entry.name);
  StoredTensor tensor;
  tensor.name = name;
  if (entry.dtype == "F32") tensor.format = make_format("f32");
  if (entry.dtype == "F16") tensor.format = make_format("f16");
  if (entry.dtype == "BF16") tensor.format = make_format("bf16");
  if (!tensor.format)
    throw Error(ErrorKind::input, "a tensor has a dtype that is not read here", where, entry.dtype,
                "F32, F16 and BF16 are");
  if (entry.shape.empty() || entry.shape.size() > 2)
    throw Error(ErrorKind::input, "a tensor is no vector or matrix", where,
                fmt::format("{} dimensions", entry.shape.size()));
  tensor.dimensions = static_cast<int>(entry.shape.size());
  tensor.shape = {entry.shape.size() == 2 ? entry.shape[0] : 1, entry.shape.back()};
  if (tensor.shape.rows == 0 || tensor.shape.cols == 0) throw Error(ErrorKind::input, "a tensor is empty", where);
  tensor.parts = {entry.data};
  tensor.owner = file.file;
  const bool rotated = name.ends_with(".attn_q.weight") || name.ends_with(".attn_k.weight");
  if (rotated) {
    if (tensor.shape.rows % head_size != 0)
      throw Error(ErrorKind::input, "a tensor has another shape than the model's description says", where,
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

std::vector<std::filesystem::path> weight_files(const std::filesystem::path& folder) {
  if (std::filesystem::exists(folder / "model.safetensors")) return {folder / "model.safetensors"};
  const std::filesystem::path index = folder / "model.safetensors.index.json";
  if (!std::filesystem::exists(index))
    throw Error(ErrorKind::io, "the folder has no weights that are read here", folder.string(), {},
                "a file model.safetensors or model.safetensors.index.json is wanted");
  const nlohmann::json json = parse_json(read_file(index, kLargestTokenizer), index.string());
  const auto map = json.is_object() ? json.find("weight_map") : json.end();
  if (map == json.end() || !map->is_object())
    throw Error(ErrorKind::input, "the index has no weight_map", index.string());
  std::set<std::string> names;
  for (const auto& [tensor, file] : map->items()) {
    if (!file.is_string() || file.get_ref<const std::string&>().empty() ||
        file.get_ref<const std::string&>().find_first_of("/\\") != std::string::npos)
      throw Error(ErrorKind::input, "the index names a file that cannot be",
                  fmt::format("{}: {}", index.string(), tensor),
                  file.dump(-1, ' ', false, nlohmann::json::error_handler_t::replace).substr(0, 200));
    names.insert(file.get<std::string>());
  }
  std::vector<std::filesystem::path> files;
  for (const std::string& name : names) files.push_back(folder / name);
  return files;
}

// Buffers that older writers left in the file and that nobody reads.
bool is_ignored(std::string_view name) { return name.ends_with("rotary_emb.inv_freq"); }

}  // namespace

ModelPtr load_folder_model(const std::filesystem::path& path) {
  auto model = std::make_shared<Model>();
  model->path = path;
  model->integrity = "absent";
  const std::filesystem::path config_path = path / "config.json";
  const std::string config_text = read_file(config_path, kLargestConfig);
  const std::filesystem::path named = path.filename().empty() ? path.parent_path() : path;
  const FolderConfig config =
      read_config(parse_json(config_text, config_path.string()), config_path.string(), named.filename().string());
  model->metadata = config.metadata;

  Hasher hasher;
  hasher.add(config_text);
  std::set<std::string> dtypes, seen;
  for (const std::filesystem::path& file_path : weight_files(path)) {
    const SafetensorsFile file = SafetensorsFile::open(file_path);
    hasher.add(file.file->bytes());
    model->file_bytes += file.file->bytes().size();
    for (const SafetensorsEntry& entry : file.tensors) {
      if (is_ignored(entry.name)) continue;
      const std::string where = fmt::format("{}: tensor {}", file_path.string(), entry.name);
      const std::string name = gguf_name(entry.name);
      if (name.empty())
        throw Error(ErrorKind::input, "the model has a tensor that is not supported", where, {},
                    "leaving it out would change what the model says");
      if (!seen.insert(name).second) throw Error(ErrorKind::input, "a tensor is there twice", where);
      model->tensors.push_back(stored_tensor(entry, file, name, config.head_size));
      dtypes.insert(entry.dtype);
    }
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
