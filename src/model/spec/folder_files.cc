#include "model/spec/folder_files.h"

#include <algorithm>
#include <iterator>
#include <map>
#include <set>

#include "base/error.h"
#include "base/file.h"
#include "base/json.h"
#include "model/spec/folder_checksums.h"
#include "model/spec/load.h"

namespace whit {
namespace {

constexpr uint64_t kLargestIndex = 256 << 20;

constexpr std::string_view kTexts[] = {
    "config.json",           "generation_config.json",  "tokenizer.json",
    "tokenizer_config.json", "special_tokens_map.json", "added_tokens.json",
    "chat_template.jinja",   "chat_template.json",
};

// Of weights and vocabularies in other forms, packers, adapters and processors. A tokenizer that transformers builds
// from these outdoes or joins tokenizer.json; an adapter is applied without a word.
constexpr std::string_view kOthers[] = {
    "model.safetensors.index.json",
    kFolderChecksums,
    "quantize_config.json",
    "quant_config.json",
    "quantization_config.json",
    "hf_quant_config.json",
    "adapter_config.json",
    "adapter_model.safetensors",
    "adapter_model.bin",
    "vocab.json",
    "vocab.txt",
    "merges.txt",
    "spiece.model",
    "sentencepiece.bpe.model",
    "tekken.json",
    "processor_config.json",
    "preprocessor_config.json",
};

struct Pattern {
  std::string_view begin, end;
};
constexpr Pattern kPatterns[] = {{"model", ".safetensors"},
                                 {"consolidated", ".safetensors"},
                                 {"tokenizer.model", ""},  // .v3 and the like
                                 {"", ".tiktoken"}};

}  // namespace

std::span<const std::string_view> folder_texts() noexcept { return kTexts; }

namespace {

bool is_model_file(std::string_view name) noexcept {
  const auto has = [&](const auto& list) {
    return std::find(std::begin(list), std::end(list), name) != std::end(list);
  };
  return has(kTexts) || has(kOthers) ||
         std::any_of(std::begin(kPatterns), std::end(kPatterns),
                     [&](const Pattern& each) { return name.starts_with(each.begin) && name.ends_with(each.end); });
}

// Shards of any name, as the index there says.
std::map<std::string, std::set<std::string>> shards_of(const std::filesystem::path& folder) {
  const std::filesystem::path index = folder / "model.safetensors.index.json";
  try {
    if (!std::filesystem::is_regular_file(index)) return {};
    return index_files(parse_json(read_file(index, kLargestIndex), index.string()), index.string());
  } catch (const Error&) {  // it names none that can be found
    return {};
  }
}

}  // namespace

std::vector<std::string> model_files(const std::filesystem::path& folder) {
  namespace fs = std::filesystem;
  if (!fs::is_directory(folder)) return {};
  const auto shards = shards_of(folder);
  std::vector<std::string> files;
  for (const auto& entry : fs::directory_iterator(folder)) {
    const std::string name = entry.path().filename().string();
    const bool templates = name == kTemplatesFolder;
    if (!templates && !is_model_file(name) && !(shards.contains(name) && name.ends_with(".safetensors"))) continue;
    if (templates != entry.is_directory())
      throw Error(ErrorKind::io, "something else is where a file of the model would be", entry.path().string(),
                  templates ? "no folder" : "a folder", "another name for the output, or move it away");
    if (!templates) {
      files.push_back(name);
      continue;
    }
    for (const auto& each : fs::directory_iterator(entry.path()))
      if (each.path().extension() == ".jinja") files.push_back(name + "/" + each.path().filename().string());
  }
  std::sort(files.begin(), files.end());
  std::stable_partition(files.begin(), files.end(), [](const std::string& file) { return file == "config.json"; });
  return files;
}

}  // namespace whit
