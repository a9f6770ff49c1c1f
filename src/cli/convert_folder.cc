// A folder that transformers reads: config.json, the tokenizer's files, weights as safetensors in its order of rows.
#include <fcntl.h>
#include <fmt/format.h>
#include <fmt/ranges.h>
#include <sys/file.h>
#include <unistd.h>

#include <algorithm>
#include <deque>
#include <map>
#include <set>
#include <system_error>

#include "base/error.h"
#include "base/file.h"
#include "base/last_words.h"
#include "base/output.h"
#include "cli/convert.h"
#include "data/tokenizer.h"
#include "format/safetensors.h"
#include "model/spec/export.h"
#include "model/spec/folder_checksums.h"
#include "model/spec/folder_files.h"

namespace whit {
namespace {

struct DtypeRow {
  const char *type, *name;  // of safetensors, of config.json
};
constexpr DtypeRow kDtypes[] = {{"F32", "float32"}, {"F16", "float16"}, {"BF16", "bfloat16"}};

// The one that was asked for; else what most weights are stored in, F16 where that is no float.
const DtypeRow& choose_dtype(const Model& model, const std::string& asked) {
  std::string type = asked;
  if (type.empty()) {
    std::map<std::string, uint64_t> weights;
    for (const StoredTensor& tensor : model.tensors) weights[tensor.format->name()] += tensor.shape.count();
    type = std::max_element(weights.begin(), weights.end(), [](const auto& a, const auto& b) {
             return a.second < b.second;
           })->first;
  }
  std::transform(type.begin(), type.end(), type.begin(), [](unsigned char c) { return std::toupper(c); });
  for (const DtypeRow& row : kDtypes)
    if (type == row.type) return row;
  if (asked.empty()) return kDtypes[1];
  throw Error(ErrorKind::usage, "a folder cannot hold this type", "--type", asked,
              "F32, F16 or BF16; a name that ends in .gguf makes a GGUF");
}

std::map<std::string, std::string> text_files(const Model& model, const DtypeRow& dtype, Progress& progress) {
  const auto text = [](const nlohmann::json& json) {
    return json.dump(2, ' ', false, nlohmann::json::error_handler_t::replace) + "\n";
  };
  std::map<std::string, std::string> files = model.tokenizer_files;
  if (files.empty() && model.metadata.has("tokenizer.ggml.model")) {
    files = tokenizer_files(model.metadata);
  } else if (!files.contains("tokenizer.json")) {
    progress.note("the model has no tokenizer that is read here: the folder gets none");
  }
  const nlohmann::json config = folder_config(model, dtype.name);
  check_read_back(model, config);
  files["config.json"] = text(config);
  return files;
}

// Names of all files, those in a folder with its name; config.json first.
std::vector<std::string> files_below(const std::filesystem::path& folder) {
  std::vector<std::string> files;
  for (const auto& entry : std::filesystem::recursive_directory_iterator(folder))
    if (!entry.is_directory()) files.push_back(entry.path().lexically_relative(folder).string());
  std::sort(files.begin(), files.end());
  std::stable_partition(files.begin(), files.end(), [](const std::string& file) { return file == "config.json"; });
  return files;
}

// A folder that is written under another name and then takes its place; what is left of it goes away, by a signal too.
class NewFolder {
 public:
  NewFolder(const std::filesystem::path& path, bool overwrite) {
    namespace fs = std::filesystem;
    std::error_code error;
    path_ = fs::is_symlink(fs::symlink_status(path, error)) ? fs::weakly_canonical(path, error) : path;
    if (fs::exists(path_, error) && !fs::is_directory(path_, error))
      throw Error(ErrorKind::io, "the output is no folder", path.string(), {}, "another name, or NAME.gguf for a GGUF");
    if (!overwrite && fs::exists(fs::symlink_status(path, error)))
      throw Error(ErrorKind::io, "the output exists already", path.string(), {}, "another name, or --force");
    if (overwrite) model_files(path_);  // refuses what is in the way before there is any work done
    remove_abandoned(path_);
    temporary_ = path_.string() + fmt::format(".tmp-{}", getpid());
    output_target(temporary_, true);  // whether there can be one
    remembered_.emplace_back(temporary_);
    if (!fs::create_directory(temporary_, error))
      throw Error(ErrorKind::io, "the folder cannot be made", temporary_.string(), error.message(),
                  "another name for the output");
    lock_ = ::open(temporary_.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (lock_ >= 0) ::flock(lock_, LOCK_EX | LOCK_NB);
    overwrite_ = overwrite;
  }
  ~NewFolder() {
    std::error_code ignored;
    std::filesystem::remove_all(temporary_, ignored);
    if (ignored) remove_temporaries();  // to look into a folder takes a descriptor, and none may be left
    if (lock_ >= 0) ::close(lock_);
  }
  NewFolder(const NewFolder&) = delete;
  NewFolder& operator=(const NewFolder&) = delete;

  const std::filesystem::path& temporary() const { return temporary_; }
  // Where a file of that name is written now, in a folder of its own if the name has one.
  std::filesystem::path file(const std::string& name) {
    std::filesystem::path path = temporary_ / name;
    if (std::filesystem::create_directories(path.parent_path())) remembered_.emplace_back(path.parent_path());
    remembered_.emplace_back(path);
    return path;
  }

  // Of an older folder what is not the model's stays. What is goes, config.json first, and comes anew, config.json
  // last: halfway there is no model. `note` says which files go and have no successor.
  void commit(Progress& progress) {
    std::error_code error;
    if (!overwrite_ || !std::filesystem::exists(path_)) {  // onto one that another process made meanwhile, this fails
      std::filesystem::rename(temporary_, path_, error);
    } else {
      // Of two processes one is through before the other begins: a folder has the files of one of them.
      const int whole = ::open(path_.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
      ::flock(whole, LOCK_EX);
      const std::vector<std::string> files = files_below(temporary_), old = model_files(path_);
      std::vector<std::string> gone;
      for (const std::string& file : old) {
        if (!error) std::filesystem::remove(path_ / file, error);
        if (std::find(files.begin(), files.end(), file) == files.end()) gone.push_back(file);
      }
      std::error_code filled;
      std::filesystem::remove(path_ / kTemplatesFolder, filled);  // if nothing of the user's is in it
      for (auto file = files.rbegin(); file != files.rend(); ++file) {
        if (!error) std::filesystem::create_directories((path_ / *file).parent_path(), error);
        if (!error) std::filesystem::rename(temporary_ / *file, path_ / *file, error);
      }
      if (whole >= 0) close(whole);
      if (!gone.empty() && !error)
        progress.note(fmt::format("the folder's older model had {} too: removed", fmt::join(gone, ", ")));
    }
    if (error) throw Error(ErrorKind::io, "the folder cannot be put in its place", path_.string(), error.message());
  }

 private:
  std::filesystem::path path_, temporary_;
  std::deque<Remembered> remembered_;
  int lock_ = -1;
  bool overwrite_ = false;
};

// Rows of the tensor as the folder has them, a few at a time.
void write_rows(const Model& model, const Family& family, const ModelTensor& tensor, ThreadPool& pool,
                Progress& progress, const std::function<void(std::span<const float>)>& sink) {
  const uint64_t head = model.spec.head_size;  // rows change places inside a head only
  const bool less_one = family.norms_less_one && tensor.name.ends_with("norm.weight");
  for (const TensorView& part : tensor.parts) {
    const uint64_t cols = part.shape().cols;
    for (uint64_t begin = 0; begin < part.rows;) {
      const uint64_t count = std::min(rows_at_a_time(part, head), part.rows - begin);
      std::vector<float> rows = unpack_by_all(part, begin, count, pool);
      if (tensor.is_vector()) {
        std::vector<float> values(rows.size());
        for (uint64_t i = 0; i < cols; ++i)
          values[i] = rows[gguf_row_of_folder_row(model.spec, tensor.name, i)] - (less_one ? 1.0f : 0.0f);
        sink(values);
      } else {
        for (uint64_t r = 0; r < count; ++r) {
          const uint64_t row = gguf_row_of_folder_row(model.spec, tensor.name, begin + r) - begin;
          sink(std::span(rows).subspan(row * cols, cols));
        }
      }
      progress.advance(static_cast<double>(count * cols));
      progress.check_interrupt();
      begin += count;
    }
  }
}

SafetensorsOutput output_of(const Model& model, const Family& family, const ModelTensor& tensor,
                            const std::string& name, const DtypeRow& dtype, ThreadPool& pool, Progress& progress) {
  SafetensorsOutput output;
  output.name = name;
  output.dtype = dtype.type;
  const Shape shape = tensor.shape();
  output.shape = tensor.is_vector() ? std::vector<uint64_t>{shape.cols} : std::vector<uint64_t>{shape.rows, shape.cols};
  if (!family.transposed || tensor.is_vector() || !tensor.name.starts_with("blk.")) {
    output.write = [&model, &family, tensor, &pool, &progress](const auto& sink) {
      write_rows(model, family, tensor, pool, progress, sink);
    };
    return output;
  }
  std::swap(output.shape[0], output.shape[1]);
  output.write = [&model, &family, tensor, shape, &pool, &progress](const auto& sink) {
    std::vector<float> rows;
    write_rows(model, family, tensor, pool, progress,
               [&](std::span<const float> row) { rows.insert(rows.end(), row.begin(), row.end()); });
    std::vector<float> column(shape.rows);
    for (uint64_t c = 0; c < shape.cols; ++c) {
      for (uint64_t r = 0; r < shape.rows; ++r) column[r] = rows[r * shape.cols + c];
      sink(column);
    }
  };
  return output;
}

}  // namespace

Converted write_folder(const Model& model, const ConvertOptions& options, ThreadPool& pool, Progress& progress) {
  const DtypeRow& dtype = choose_dtype(model, options.type);
  std::filesystem::path path = options.output;
  if (path.filename().empty()) path = path.parent_path();  // "folder/"
  const std::map<std::string, std::string> texts = text_files(model, dtype, progress);

  Converted converted;
  std::vector<SafetensorsOutput> tensors;
  std::vector<uint64_t> bytes;
  double weights = 0;
  const Family& family = folder_family(model);
  for (const ModelTensor& tensor : model_tensors(model, joined_tensors(model.spec, family, true))) {
    if (tensor.name.starts_with("rope_f")) continue;  // said in config.json
    const std::string name = gguf_to_folder_name(family, tensor.name);
    if (name.empty())
      throw Error(ErrorKind::input, "a tensor has no name in a folder",
                  model.path.string() + ": tensor " + tensor.name);
    tensors.push_back(output_of(model, family, tensor, name, dtype, pool, progress));
    bytes.push_back(safetensors_bytes(tensors.back()));
    weights += static_cast<double>(tensor.shape().count());
    if (!tensor.is_vector()) converted.types.push_back(dtype.type);
  }
  const std::vector<size_t> starts = shard_starts(bytes, options);

  NewFolder folder(path, options.force);
  nlohmann::json map = nlohmann::json::object();
  uint64_t total = 0;
  progress.begin("convert", weights);
  for (size_t i = 0; i < starts.size(); ++i) {
    const size_t end = i + 1 < starts.size() ? starts[i + 1] : tensors.size();
    const std::string name = starts.size() == 1 ? "model.safetensors"
                                                : fmt::format("model-{:05}-of-{:05}.safetensors", i + 1, starts.size());
    const std::span<const SafetensorsOutput> part(tensors.data() + starts[i], end - starts[i]);
    AtomicFile file(folder.file(name), false);
    write_safetensors(file, part, {{"format", "pt"}});
    converted.bytes += file.size();
    file.commit();
    converted.files.push_back(path / name);
    for (size_t t = starts[i]; t < end; ++t) {
      map[tensors[t].name] = name;
      total += bytes[t];
    }
  }
  progress.end();
  if (starts.size() > 1) {
    const nlohmann::json index = {{"metadata", {{"total_size", total}}}, {"weight_map", map}};
    write_file(folder.file("model.safetensors.index.json"), index.dump(2) + "\n", false);
  }
  for (const auto& [name, text] : texts) write_file(folder.file(name), text, false);
  write_file(folder.file(kFolderChecksums), folder_checksums(folder.temporary(), files_below(folder.temporary())),
             false);
  folder.commit(progress);
  return converted;
}

}  // namespace whit
