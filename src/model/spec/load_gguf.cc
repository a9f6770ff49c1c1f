#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <map>
#include <set>

#include "base/checked.h"
#include "base/hash.h"
#include "format/container.h"
#include "format/gguf.h"
#include "model/spec/load.h"
#include "model/spec/settle.h"

namespace whit {
namespace {

[[noreturn]] void refuse(const Model& model, const std::string& what, const std::string& place,
                         const std::string& found, const std::string& hint = {}) {
  throw Error(ErrorKind::input, what, model.path.string() + (place.empty() ? "" : ": " + place), found, hint);
}

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
                fmt::format("file {} of {}", number + 1, count),
                fmt::format("give the file ...-00001-of-{:05}.gguf", count));
  if (count > 99999 || !name.ends_with(ending))
    throw Error(ErrorKind::input, "a model in shards has another file name than its header says", path.string(), name,
                "a name that ends in " + ending);
  std::vector<std::filesystem::path> others;
  for (uint64_t i = 2; i <= count; ++i)
    others.push_back(path.parent_path() /
                     (name.substr(0, name.size() - ending.size()) + fmt::format("-{:05}-of-{:05}.gguf", i, count)));
  std::vector<std::string> absent;
  for (const std::filesystem::path& other : others)
    if (!std::filesystem::exists(other)) absent.push_back(other.filename().string());
  if (!absent.empty())
    throw Error(
        ErrorKind::io, "files of the model in shards are missing", path.string(),
        fmt::format("{} of {}: {}", absent.size(), count,
                    fmt::join(absent.begin(), absent.begin() + std::min<ptrdiff_t>(4, std::ssize(absent)), ", ")),
        "fetch them into the same folder");
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

// A stack and a tensor beside it can both claim a name.
void check_names(const Model& model) {
  std::set<std::string_view> seen;
  const auto claim = [&](const std::string& name) {
    if (!seen.insert(name).second)
      refuse(model, "a tensor is there twice", "tensor " + name, "in a stack and beside it, or in two stacks");
  };
  for (const StoredTensor& tensor : model.tensors) {
    if (tensor.members.empty()) claim(tensor.name);
    for (const Member& member : tensor.members) claim(member.name);
  }
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
    check_names(*model);
    settle_output(*model, std::nullopt);
    describe(*model);
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
