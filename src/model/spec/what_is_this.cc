#include "model/spec/what_is_this.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <cstring>
#include <fstream>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <vector>

#include "base/error.h"
#include "base/lfs.h"
#include "base/magic.h"
#include "base/names.h"

namespace whit {
namespace {

namespace fs = std::filesystem;

constexpr size_t kHead = 4096, kMostEntries = 10000;
constexpr const char* kHuggingFace =
    "with transformers: AutoModelForCausalLM.from_pretrained(...).save_pretrained(FOLDER)";

struct Finding {
  std::string what, found, hint;
};

std::string head_of(const fs::path& path) {
  std::ifstream file(path, std::ios::binary);
  std::string head(kHead, '\0');
  file.read(head.data(), static_cast<std::streamsize>(head.size()));
  head.resize(static_cast<size_t>(std::max<std::streamsize>(file.gcount(), 0)));
  return head;
}

bool is_text(std::string_view head) {
  return std::none_of(head.begin(), head.end(), [](char c) {
    const auto byte = static_cast<unsigned char>(c);
    return byte < 0x20 && c != '\n' && c != '\r' && c != '\t';
  });
}

std::string first_words(std::string_view head) {
  std::string words(head.substr(0, 80));
  std::replace_if(
      words.begin(), words.end(), [](char c) { return static_cast<unsigned char>(c) < 0x20; }, ' ');
  return "\"" + words + (head.size() > 80 ? "..." : "") + "\"";
}

bool is_unfinished(const fs::path& path) {
  const std::string name = small_letters(path.filename().string());
  for (const char* ending : {".incomplete", ".part", ".partial", ".crdownload", ".download", ".aria2", ".!qb"})
    if (name.ends_with(ending)) return true;
  return false;
}

// By the first bytes: nullopt for what none of these rows knows. A file of JSON is right for some files of a folder.
std::optional<Finding> foreign_bytes(std::string_view head) {
  if (head.empty()) return Finding{"the file is empty", "0 bytes", "fetch it again"};
  if (begins_as_safetensors(head)) return std::nullopt;
  const auto starts = [&](std::string_view magic) { return head.starts_with(magic); };
  const std::string text = small_letters(std::string(head.substr(0, 256)));
  const size_t word = text.find_first_not_of(" \t\r\n\xef\xbb\xbf");
  if (word != std::string::npos && text[word] == '<' &&
      (text.find("<html", word) != std::string::npos || text.find("<!doctype", word) == word ||
       text.find("<head", word) != std::string::npos))
    return Finding{"the file is a web page (HTML), not a model", first_words(head),
                   "the download ended on a page of a login, a licence or an error: fetch the file itself"};
  const char* pickle_hint = "a pickle can run code and is not read: save the model as safetensors";
  const std::string_view packed = packed_as(head);
  if (packed == "zip") {
    if (head.find("/data.pkl") != std::string_view::npos || head.find("/data/") != std::string_view::npos)
      return Finding{"the file is a PyTorch checkpoint (pickle)", "a zip archive with data.pkl", pickle_hint};
    return Finding{"the file is a zip archive", {}, "unpack it and give what is in it"};
  }
  if (begins_as_pickle(head)) return Finding{"the file is a PyTorch checkpoint (pickle)", {}, pickle_hint};
  if (head.size() > 262 && head.substr(257, 5) == "ustar")
    return Finding{"the file is a tar archive", {}, "unpack it and give what is in it"};
  if (!packed.empty())
    return Finding{fmt::format("the file is compressed with {}", packed), {}, "unpack it and give what is in it"};
  for (const char* magic : {"lmgg", "fmgg", "tjgg", "algg"})
    if (starts(magic))
      return Finding{"the file is of llama.cpp from before GGUF", first_words(head.substr(0, 4)),
                     "fetch the model as GGUF, or convert its original again"};
  const std::string_view kind = starts("MZ") ? "a program (Windows)" : starts("<?xml") ? "XML" : foreign_kind(head);
  if (!kind.empty()) return Finding{fmt::format("the file is {}", kind), {}, "fetch the model as safetensors or GGUF"};
  if (starts("\xef\xbb\xbf"))
    return Finding{"the file begins with a byte order mark (EF BB BF)", first_words(head.substr(3)),
                   "a program that saves texts put it there: fetch the file again, or take the three bytes away"};
  if (head.size() >= 16 && head.find_first_not_of('\0') == std::string_view::npos)
    return Finding{"the file begins with zeros alone", fmt::format("{} of them", head.size()),
                   "a download or a disk left a hole: fetch it again"};
  // ModelProto: field 1 (ir_version), then field 2 (producer_name), a text.
  if (head.size() > 4 && head[0] == '\x08' && head[1] > 0 && head[1] < 32 && head[2] == '\x12' && head[3] > 0 &&
      is_text(head.substr(4, static_cast<size_t>(head[3]))))
    return Finding{"the file is ONNX", {}, "fetch the model as safetensors or GGUF"};
  if (head.size() > 8 && head.substr(4, 4) == "TFL3")
    return Finding{"the file is TensorFlow Lite", {}, "fetch the model as safetensors or GGUF"};
  return std::nullopt;
}

bool is_safetensors(std::string_view head, uint64_t size) {
  uint64_t header = 0;
  if (head.size() < 10) return false;
  std::memcpy(&header, head.data(), sizeof(header));
  return header > 1 && header <= size - 8 && head[8] == '{' && (head[9] == '"' || head[9] == '}' || head[9] == ' ');
}

[[noreturn]] void refuse(ErrorKind kind, const fs::path& path, const Finding& finding) {
  throw Error(kind, finding.what, path.string(), finding.found, finding.hint);
}

// ---- a file in place of a model ----

void check_file(const fs::path& path) {
  std::error_code error;
  const uint64_t size = fs::file_size(path, error);
  if (error) return;  // no ordinary file: the reader says so
  const std::string head = head_of(path);
  if (head.starts_with("GGUF") && !is_unfinished(path)) return;
  if (is_unfinished(path))
    refuse(ErrorKind::input, path,
           {"the file is a download that is not finished", fmt::format("{} bytes", size), "finish it"});
  if (is_lfs_pointer(head)) return;  // said where files are opened
  const fs::path folder = path.has_parent_path() ? path.parent_path() : fs::path(".");
  if (is_safetensors(head, size))
    refuse(ErrorKind::input, path,
           {"the file is weights alone (safetensors)",
            {},
            fs::exists(folder / "config.json") ? "give its folder: " + folder.string()
                                               : "give a folder that has config.json and tokenizer.json beside them"});
  if (const auto finding = foreign_bytes(head)) refuse(ErrorKind::input, path, *finding);
  const std::string name = small_letters(path.filename().string());
  if (name.ends_with(".onnx"))
    refuse(ErrorKind::input, path, {"the file is ONNX", {}, "fetch the model as safetensors or GGUF"});
  const size_t word = head.find_first_not_of(" \t\r\n");
  if (word != std::string::npos && (head[word] == '{' || head[word] == '[') && is_text(head)) {
    const bool error_page = head.find("\"error\"") != std::string::npos && size < 4096;
    const bool of_folder = name.ends_with(".json") && fs::exists(folder / "config.json");
    refuse(
        ErrorKind::input, path,
        {error_page ? "the file is an error message of a server (JSON), not a model" : "the file is JSON, not a model",
         first_words(head), of_folder ? "give its folder: " + folder.string() : "fetch the model itself"});
  }
  if (is_text(head))
    refuse(ErrorKind::input, path,
           {"the file is a text, not a model", first_words(head), "a GGUF file or a folder is wanted"});
}

// ---- a path that is not there ----

// ORGANIZATION/MODEL
bool is_hub_name(const std::string& text) {
  const size_t slash = text.find('/');
  return text.size() < 200 && slash != std::string::npos && slash > 0 && slash + 1 < text.size() &&
         std::isalnum(static_cast<unsigned char>(text[0])) &&
         std::isalnum(static_cast<unsigned char>(text[slash + 1])) &&
         std::all_of(text.begin(), text.end(), [&](const char& c) {
           return std::isalnum(static_cast<unsigned char>(c)) || c == '.' || c == '_' || c == '-' || &c == &text[slash];
         });
}

void check_absent(const fs::path& path) {
  const std::string text = path.string();
  std::string hint = "a GGUF file or a Hugging Face folder is wanted";
  std::error_code error;
  if (text.starts_with("http://") || text.starts_with("https://") || text.starts_with("hf://")) {
    hint = "this is an address: fetch the model first and give the file or folder";
  } else if (fs::exists(text + ".gguf", error)) {
    hint = "do you mean " + text + ".gguf?";
  } else if (is_hub_name(text) && !text.ends_with(".gguf") && !fs::exists(path.parent_path(), error)) {
    hint = fmt::format(
        "if this is a name on the Hugging Face hub: `hf download {} --local-dir FOLDER`, then give FOLDER", text);
  }
  throw Error(ErrorKind::io, "there is no such file or folder", text, {}, hint);
}

// ---- a folder in place of a model ----

class Folder {
 public:
  explicit Folder(const fs::path& path) : path_(path) {
    std::error_code error;
    for (fs::directory_iterator it(path, error), end; !error && it != end && names_.size() < kMostEntries;
         it.increment(error))
      (it->is_directory(error) ? folders_ : names_).push_back(it->path().filename().string());
    std::sort(names_.begin(), names_.end());
    std::sort(folders_.begin(), folders_.end());
  }

  void check() const {
    const bool config = has("config.json");
    if (config && (has("model.safetensors") || has("model.safetensors.index.json"))) return;
    refuse(ErrorKind::io, path_, finding(config));
  }

 private:
  bool has(std::string_view name) const { return std::binary_search(names_.begin(), names_.end(), name); }
  std::vector<std::string> ending(std::initializer_list<std::string_view> endings) const {
    std::vector<std::string> found;
    for (const std::string& name : names_)
      if (std::any_of(endings.begin(), endings.end(),
                      [&](std::string_view end) { return small_letters(name).ends_with(end); }))
        found.push_back(name);
    return found;
  }
  static std::string list(const std::vector<std::string>& names) {
    constexpr size_t kShown = 4;
    return fmt::format(
        "{}{}", fmt::join(names.begin(), names.begin() + static_cast<ptrdiff_t>(std::min(names.size(), kShown)), ", "),
        names.size() > kShown ? fmt::format(" and {} more", names.size() - kShown) : "");
  }

  std::string base_of_adapter() const {
    const auto json = nlohmann::json::parse(head_of(path_ / "adapter_config.json"), nullptr, false);
    const auto base = json.is_object() ? json.find("base_model_name_or_path") : json.end();
    return json.is_object() && base != json.end() && base->is_string() ? "of " + base->get<std::string>().substr(0, 100)
                                                                       : "";
  }

  Finding finding(bool config) const {
    const std::string lacks = config ? "the folder has no weights that are read here" : "the folder has no config.json";
    const std::vector<std::string> gguf = ending({".gguf"}), safetensors = ending({".safetensors"}),
                                   pickles = ending({".bin", ".pt", ".pth", ".ckpt", ".bin.index.json"}),
                                   foreign = ending(
                                       {".h5", ".msgpack", ".onnx", ".tflite", ".npz", ".nemo", ".mlmodel", ".ot"}),
                                   unfinished = unfinished_files();
    if (has("adapter_config.json") || has("adapter_model.safetensors") || has("adapter_model.bin"))
      return {
          "the folder holds an adapter (LoRA or the like), not a model", base_of_adapter(),
          "merge it into its model first (peft: merge_and_unload, then save_pretrained) and give the merged folder"};
    if (has("model_index.json")) return {"the folder is a pipeline of diffusers, not a language model", {}, {}};
    if (gguf.size() == 1)
      return {lacks + ", but a GGUF file", gguf[0], "give the file itself: " + (path_ / gguf[0]).string()};
    if (!gguf.empty()) {
      const auto first = std::find_if(gguf.begin(), gguf.end(), [](const std::string& name) {
        return name.find("-00001-of-") != std::string::npos;
      });
      return {lacks + fmt::format(", but {} GGUF files", gguf.size()), list(gguf),
              "give one of them: " + (path_ / (first == gguf.end() ? gguf[0] : *first)).string()};
    }
    if (!unfinished.empty()) return {lacks + "; a download is not finished", list(unfinished), "finish the download"};
    if (has("params.json") && (has("consolidated.00.pth") || has("consolidated.safetensors")))
      return {"the folder has the layout of the model's makers (consolidated), not that of Hugging Face", list(names_),
              "fetch the Hugging Face version: config.json and model.safetensors"};
    if (config && !safetensors.empty())
      return {lacks, list(safetensors),
              safetensors.size() == 1 ? "if this is the whole model, call it model.safetensors"
                                      : "shards need their index: model.safetensors.index.json"};
    if (!pickles.empty())
      return {lacks + ", but a PyTorch checkpoint (pickle)", list(pickles),
              fmt::format("a pickle can run code and is not read: save the model as safetensors, {}", kHuggingFace)};
    if (!foreign.empty())
      return {lacks + ", but files of other programs", list(foreign), "fetch the model as safetensors or GGUF"};
    if (!config && !safetensors.empty())
      return {lacks, list(safetensors), "fetch config.json and tokenizer.json of the model too"};
    if (const std::vector<std::string> models = models_below(); !models.empty())
      return {lacks + ", but folders below it look like models", list(models), "give one of them: " + models[0]};
    for (const char* tokenizer : {"tokenizer.json", "tokenizer.model", "vocab.json", "tokenizer_config.json"})
      if (!config && has(tokenizer))
        return {"the folder holds a tokenizer alone, no model", tokenizer, "fetch config.json and the weights too"};
    if (names_.empty() && folders_.empty())
      return {"the folder is empty", {}, "a GGUF file or a Hugging Face folder is wanted"};
    std::vector<std::string> all = names_;
    for (const std::string& folder : folders_) all.push_back(folder + "/");
    return {lacks, list(all),
            config ? "a file model.safetensors or model.safetensors.index.json is wanted"
                   : "a GGUF file, or a folder with config.json and model.safetensors, is wanted"};
  }

  std::vector<std::string> unfinished_files() const {
    std::vector<std::string> found;
    for (const std::string& name : names_)
      if (is_unfinished(name)) found.push_back(name);
    std::error_code error;
    const fs::path cache = path_ / ".cache/huggingface/download";
    size_t seen = 0;
    for (fs::directory_iterator it(cache, error), end; !error && it != end && ++seen < kMostEntries;
         it.increment(error))
      if (is_unfinished(it->path())) found.push_back(".cache/huggingface/download/" + it->path().filename().string());
    return found;
  }

  // Also those of the hub's cache: models--ORG--NAME/snapshots/HASH.
  std::vector<std::string> models_below() const {
    std::vector<std::string> found;
    std::error_code error;
    size_t seen = 0;
    for (fs::recursive_directory_iterator it(path_, fs::directory_options::skip_permission_denied, error), end;
         !error && it != end && ++seen < kMostEntries && found.size() < 20; it.increment(error)) {
      if (it.depth() >= 3) it.disable_recursion_pending();
      const fs::path& entry = it->path();
      if (entry.filename() == "config.json") found.push_back(entry.parent_path().string());
      if (entry.extension() == ".gguf") found.push_back(entry.string());
    }
    std::sort(found.begin(), found.end());
    return found;
  }

  fs::path path_;
  std::vector<std::string> names_, folders_;
};

}  // namespace

void refuse_what_is_no_model(const fs::path& path) {
  std::error_code error;
  const fs::file_status status = fs::status(path, error);
  if (status.type() == fs::file_type::not_found) check_absent(path);
  if (status.type() == fs::file_type::directory) Folder(path).check();
  if (status.type() == fs::file_type::regular) check_file(path);
}

void refuse_foreign_file(const fs::path& path) {
  std::error_code error;
  if (fs::status(path, error).type() != fs::file_type::regular) return;
  const std::string head = head_of(path);
  if (is_lfs_pointer(head)) return;
  if (const auto finding = foreign_bytes(head)) refuse(ErrorKind::input, path, *finding);
  if (head.starts_with("{\"error\""))
    refuse(ErrorKind::input, path,
           {"the file is an error message of a server (JSON)", first_words(head), "fetch the file itself"});
}

}  // namespace whit
