#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <map>
#include <set>

#include "base/checked.h"
#include "base/hash.h"
#include "format/container.h"
#include "format/gguf.h"
#include "model/spec/load.h"

namespace whit {
namespace {

[[noreturn]] void refuse(const Model& model, const std::string& what, const std::string& place,
                         const std::string& found, const std::string& hint = {}) {
  throw Error(ErrorKind::input, what, model.path.string() + (place.empty() ? "" : ": " + place), found, hint);
}

// A number, or an array with the same number for every layer.
uint64_t per_layer(const Model& model, const std::string& key, uint64_t fallback) {
  const Value* value = model.metadata.find(key);
  const auto same = [&](const auto& items) -> uint64_t {
    if (items.empty() ||
        std::any_of(items.begin(), items.end(), [&](auto item) { return item != items[0] || item < 0; }))
      refuse(model, "layers of different sizes are not supported", key, "an array");
    return static_cast<uint64_t>(items[0]);
  };
  if (!value) return fallback;
  if (const auto* items = std::get_if<std::vector<uint32_t>>(value)) return same(*items);
  if (const auto* items = std::get_if<std::vector<int32_t>>(value)) return same(*items);
  return model.metadata.unsigned_integer(key);
}

uint64_t positive(const Model& model, const std::string& key, uint64_t value, uint64_t limit = uint64_t{1} << 32) {
  if (value == 0 || value > limit)
    refuse(model, "a size of the model is not usable", key, fmt::format("{}", value),
           fmt::format("1 to {} is read", limit));
  return value;
}

double finite_positive(const Model& model, const std::string& key, double value) {
  if (!std::isfinite(value) || value <= 0)
    refuse(model, "a number of the model is not usable", key, fmt::format("{}", value));
  return value;
}

RotarySpec rotary_spec(const Model& model, const std::string& prefix, uint64_t head_size) {
  const KeyValues& keys = model.metadata;
  RotarySpec rotary;
  rotary.theta = finite_positive(model, prefix + "rope.freq_base", keys.number(prefix + "rope.freq_base", 10000.0));
  rotary.dimensions = keys.unsigned_integer(prefix + "rope.dimension_count", head_size);
  if (rotary.dimensions != head_size || head_size % 2 != 0)
    refuse(model, "only heads that are rotated as a whole are supported", prefix + "rope.dimension_count",
           fmt::format("{} of {}", rotary.dimensions, head_size));
  double factor = 1;
  const std::string kind = keys.string(prefix + "rope.scaling.type", "none");
  if (kind == "linear")
    factor = finite_positive(model, prefix + "rope.scaling.factor", keys.number(prefix + "rope.scaling.factor"));
  else if (kind != "none" && !kind.empty())
    refuse(model, "this kind of rotary scaling is not supported", prefix + "rope.scaling.type", kind,
           "none, linear and the divisors of rope_freqs.weight are");
  else if (keys.has(prefix + "rope.scale_linear"))  // the older spelling
    factor = finite_positive(model, prefix + "rope.scale_linear", keys.number(prefix + "rope.scale_linear"));
  if (model.find("rope_freqs.weight")) rotary.frequency_divisors = model.vector("rope_freqs.weight", head_size / 2);
  for (const float divisor : rotary.frequency_divisors) finite_positive(model, "rope_freqs.weight", divisor);
  if (factor != 1) {
    rotary.frequency_divisors.resize(head_size / 2, 1.0f);
    for (float& divisor : rotary.frequency_divisors) divisor = static_cast<float>(divisor * factor);
  }
  rotary.attention_factor = finite_positive(model, prefix + "rope.scaling.attn_factor",
                                            keys.number(prefix + "rope.scaling.attn_factor", 1.0));
  return rotary;
}

}  // namespace

ModelSpec llama_spec(const Model& model) {
  const KeyValues& keys = model.metadata;
  ModelSpec spec;
  spec.family = keys.string("general.architecture");
  if (spec.family != "llama")
    refuse(model, "this family of models is not supported", "general.architecture", spec.family, "llama is");
  spec.name = keys.string("general.name", "");
  const std::string prefix = spec.family + ".";
  const auto size = [&](const char* key) { return positive(model, prefix + key, keys.unsigned_integer(prefix + key)); };
  spec.layers = positive(model, prefix + "block_count", keys.unsigned_integer(prefix + "block_count"), 100000);
  spec.width = size("embedding_length");
  spec.context = size("context_length");
  spec.norm_epsilon = finite_positive(model, prefix + "attention.layer_norm_rms_epsilon",
                                      keys.number(prefix + "attention.layer_norm_rms_epsilon"));
  spec.feed_forward =
      positive(model, prefix + "feed_forward_length", per_layer(model, prefix + "feed_forward_length", 0));
  spec.heads = positive(model, prefix + "attention.head_count", per_layer(model, prefix + "attention.head_count", 0));
  spec.kv_heads = positive(model, prefix + "attention.head_count_kv",
                           per_layer(model, prefix + "attention.head_count_kv", spec.heads));
  if (spec.heads % spec.kv_heads != 0)
    refuse(model, "the query heads cannot be shared out among the key heads", prefix + "attention.head_count_kv",
           fmt::format("{} of {}", spec.kv_heads, spec.heads));
  if (!keys.has(prefix + "attention.key_length") && spec.width % spec.heads != 0)
    refuse(model, "the width is no multiple of the number of heads", prefix + "attention.head_count",
           fmt::format("{} of {}", spec.heads, spec.width));
  spec.head_size = positive(model, prefix + "attention.key_length",
                            keys.unsigned_integer(prefix + "attention.key_length", spec.width / spec.heads));
  if (const uint64_t length = keys.unsigned_integer(prefix + "attention.value_length", spec.head_size);
      length != spec.head_size)
    refuse(model, "value heads of another size than key heads are not supported", prefix + "attention.value_length",
           fmt::format("{} and {}", length, spec.head_size));
  if (const uint64_t experts = keys.unsigned_integer(prefix + "expert_count", 0); experts != 0)
    refuse(model, "mixtures of experts are not supported", prefix + "expert_count", fmt::format("{}", experts));
  if (const uint64_t window = keys.unsigned_integer(prefix + "attention.sliding_window", 0);
      window != 0 && window < spec.context)
    refuse(model, "sliding windows are not supported", prefix + "attention.sliding_window", fmt::format("{}", window));
  spec.rotary = rotary_spec(model, prefix, spec.head_size);

  const TensorView embedding = model.find("token_embd.weight");
  if (!embedding) refuse(model, "the model lacks a tensor", "tensor token_embd.weight", "");
  spec.vocabulary = positive(model, "token_embd.weight", embedding.rows, uint64_t{1} << 31);
  spec.tied_output = !model.find("output.weight");
  return spec;
}

void check_tensors(const Model& model) {
  const ModelSpec& spec = model.spec;
  std::map<std::string, Shape> wanted = {{"output_norm.weight", {1, spec.width}}};
  // Sizes come from a file: a block takes some ten tensors, so a count beyond what is there is found before the loop.
  if (spec.layers > model.tensors.size())
    refuse(model, "the model lacks tensors", spec.family + ".block_count",
           fmt::format("{} layers, {} tensors", spec.layers, model.tensors.size()));
  for (uint64_t n = 0; n < spec.layers; ++n)
    for (const char* norm : {"attn_norm", "ffn_norm"})
      wanted[fmt::format("blk.{}.{}.weight", n, norm)] = {1, spec.width};
  for (const UnitSpec& unit : units_of(spec))
    for (size_t m = 0; m < unit.members.size(); ++m) wanted[unit.members[m]] = {unit.member_rows[m], unit.cols};

  std::map<std::string, Shape> found;
  for (const StoredTensor& tensor : model.tensors) {
    if (tensor.members.empty()) found[tensor.name] = tensor.shape;
    for (const Member& member : tensor.members) found[member.name] = {member.count, tensor.shape.cols};
  }
  found.erase("rope_freqs.weight");
  for (const auto& [name, shape] : wanted) {
    const auto it = found.find(name);
    if (it == found.end()) refuse(model, "the model lacks a tensor", "tensor " + name, "");
    if (it->second != shape)
      refuse(model, "a tensor has another shape than the model's description says", "tensor " + name,
             fmt::format("{} x {}, wanted {} x {}", it->second.rows, it->second.cols, shape.rows, shape.cols));
  }
  for (const auto& [name, shape] : found)
    if (!wanted.contains(name))
      refuse(model, "the model has a tensor that is not supported", "tensor " + name,
             fmt::format("{} x {}", shape.rows, shape.cols), "leaving it out would change what the model says");
}

namespace {

std::string weights_kind(const Model& model) {
  std::map<std::string, uint64_t> bytes;  // the format that most bytes are in
  for (const StoredTensor& tensor : model.tensors) bytes[tensor.format->name()] += tensor.bytes();
  const auto most =
      std::max_element(bytes.begin(), bytes.end(), [](const auto& a, const auto& b) { return a.second < b.second; });
  std::string name = most == bytes.end() ? "" : most->first;
  for (char& c : name) c = static_cast<char>(std::toupper(static_cast<unsigned char>(c)));
  return name;
}

// A structure that cannot be read in a file that has our checksums is damage of the header, as a wrong checksum is.
GgufFile open_gguf(const std::filesystem::path& path, bool verify) {
  try {
    return GgufFile::open(path);
  } catch (const Error& error) {
    if (error.kind() != ErrorKind::input || !verify) throw;
    const auto file = MappedFile::open(path);
    const auto bytes = file->bytes().first(std::min<size_t>(file->bytes().size(), 64 << 20));
    const std::string_view text(reinterpret_cast<const char*>(bytes.data()), bytes.size());
    if (!text.starts_with("GGUF") || text.find("whit.checksum.header") == std::string_view::npos) throw;
    throw Error(ErrorKind::integrity, error.message(), error.where(), error.found(),
                "the file is damaged: make or fetch it again");
  }
}

// NAME-00001-of-00003.gguf: the other files of a model in shards, in order. `first` says how many there are.
std::vector<std::filesystem::path> other_shards(const GgufFile& first, const std::filesystem::path& path) {
  const uint64_t count = first.metadata.unsigned_integer("split.count", 1);
  if (count <= 1) return {};
  const std::string name = path.filename().string(), ending = fmt::format("-00001-of-{:05}.gguf", count);
  const std::string where = path.string() + ": split.";
  if (const uint64_t number = first.metadata.unsigned_integer("split.no"); number != 0)
    throw Error(ErrorKind::input, "this is not the first file of a model in shards", where + "no",
                fmt::format("file {} of {}", number + 1, count), "give the file ...-00001-of-...");
  if (count > 99999 || !name.ends_with(ending))
    throw Error(ErrorKind::input, "a model in shards has another file name than its header says", path.string(), name,
                "a name that ends in " + ending);
  std::vector<std::filesystem::path> others;
  for (uint64_t i = 2; i <= count; ++i)
    others.push_back(path.parent_path() /
                     (name.substr(0, name.size() - ending.size()) + fmt::format("-{:05}-of-{:05}.gguf", i, count)));
  return others;
}

// Of a file that is whole by itself or a shard: checked, hashed, its tensors taken over.
void take_file(Model& model, const GgufFile& gguf, const LoadOptions& options, Hasher& hasher) {
  const std::span<const std::byte> bytes = gguf.file->bytes();
  model.file_bytes += bytes.size();
  const bool checksums = gguf.header_checksum_at != 0;
  std::string integrity = checksums ? "not verified" : "absent";
  // Before any whit. key is believed.
  if (options.verify) integrity = verify_checksums(gguf) == Integrity::ok ? "ok" : "absent";
  if (model.integrity.empty() || integrity != "ok") model.integrity = integrity;
  // A header with checksums stands for the data too; without, the data itself is read.
  hasher.add(checksums ? bytes.first(gguf.header_bytes) : bytes);
}

}  // namespace

ModelPtr load_gguf_model(const std::filesystem::path& path, const LoadOptions& options) {
  const GgufFile gguf = open_gguf(path, options.verify);
  auto model = std::make_shared<Model>();
  model->path = path;
  Hasher hasher;
  take_file(*model, gguf, options, hasher);
  std::vector<GgufFile> shards;
  const std::vector<std::filesystem::path> others = other_shards(gguf, path);
  for (const std::filesystem::path& other : others) {
    shards.push_back(open_gguf(other, options.verify));
    take_file(*model, shards.back(), options, hasher);
    const KeyValues& keys = shards.back().metadata;
    const uint64_t number = keys.unsigned_integer("split.no"), count = keys.unsigned_integer("split.count");
    if (number != shards.size() || count != others.size() + 1)
      throw Error(ErrorKind::input, "a shard has another number than its name says", other.string() + ": split.no",
                  fmt::format("{} of {}", number + 1, count),
                  fmt::format("{} of {} is wanted", shards.size() + 1, others.size() + 1));
  }
  model->content_hash = hasher.hex();
  try {
    model->metadata = model_metadata(gguf);
    model->tensors = stored_tensors(gguf);
    for (const GgufFile& shard : shards)
      for (StoredTensor& tensor : stored_tensors(shard)) {
        if (model->find(tensor.name))
          refuse(*model, "a tensor is there twice", "tensor " + tensor.name, "in two shards");
        model->tensors.push_back(std::move(tensor));
      }
    if (!shards.empty()) {
      const uint64_t told = model->metadata.unsigned_integer("split.tensors.count", model->tensors.size());
      if (told != model->tensors.size())
        refuse(*model, "the shards lack tensors", "split.tensors.count",
               fmt::format("{} of {}", model->tensors.size(), told));
    }
    for (const char* key : {"split.no", "split.count", "split.tensors.count"}) model->metadata.erase(key);
    model->spec = llama_spec(*model);
    check_tensors(*model);
    model->spec.stream_rotation = stored_stream(gguf);
    if (const RotationPtr& stream = model->spec.stream_rotation; stream && stream->size() != model->spec.width)
      refuse(*model, "the rotation of the residual stream has another size", "whit.rotations",
             fmt::format("{}, wanted {}", stream->size(), model->spec.width));
  } catch (const Error& error) {  // rooms below know keys and tensors, not the file
    if (error.where().starts_with(path.string())) throw;
    throw Error(error.kind(), error.message(), path.string() + ": " + error.where(), error.found(), error.hint());
  }
  model->weights = is_whit_file(gguf) ? "whit" : "gguf " + weights_kind(*model);
  return model;
}

}  // namespace whit
