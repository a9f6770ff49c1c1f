// An ordinary GGUF that llama.cpp reads: rows of query and key in its order, vectors as F32, the tokenizer's keys.
#include <fmt/format.h>

#include <algorithm>

#include "base/error.h"
#include "base/names.h"
#include "base/output.h"
#include "cli/convert.h"
#include "data/tokenizer.h"
#include "format/container.h"

namespace whit {
namespace {

// The types that were asked for, in order; empty: as stored.
std::vector<FormatPtr> read_types(const std::string& text) {
  std::vector<FormatPtr> types;
  for (size_t at = 0; at < text.size();) {
    const size_t end = std::min(text.find(',', at), text.size());
    const std::string name = small_letters(text.substr(at, end - at));
    const FormatPtr format = make_format(name);
    if (!format->is_ggml() || !rounds_alone(format))
      throw Error(ErrorKind::usage, "this type cannot be written by rounding weights", "--type", name,
                  format->is_ggml() ? "it is only read" : "whit compress writes our own formats");
    types.push_back(format);
    at = end + 1;
  }
  return types;
}

FormatPtr choose_type(const ModelTensor& tensor, const std::vector<FormatPtr>& types) {
  if (tensor.is_vector()) return make_format("f32");
  const FormatPtr& stored = tensor.parts[0].tensor->format;
  const bool alike = std::all_of(tensor.parts.begin(), tensor.parts.end(), [&](const TensorView& part) {
    return part.tensor->format->label() == stored->label();
  });
  if (types.empty()) {
    // Turned back, weights do not lie on their levels any more.
    const bool turned = std::any_of(tensor.parts.begin(), tensor.parts.end(),
                                    [](const TensorView& part) { return part.tensor->rotation || part.tensor->inner; });
    const bool as_stored =
        stored->is_ggml() && alike && (!turned || stored->name() == "f32" || stored->name() == "bf16");
    return as_stored ? stored : make_format("f16");
  }
  for (size_t i = 0;; ++i) {
    try {
      types[i]->check_shape(tensor.shape(), tensor.name);
      return types[i];
    } catch (const Error& error) {
      if (i + 1 < types.size()) continue;
      throw Error(
          ErrorKind::usage, error.message(), error.where(), error.found(),
          fmt::format("give another type for such rows: --type {},Q8_0 or {},F16", types[i]->name(), types[i]->name()));
    }
  }
}

// The bytes of one part, row by row.
std::vector<std::byte> round_part(const TensorView& view, const FormatPtr& format, ThreadPool& pool,
                                  Progress& progress) {
  const uint64_t cols = view.shape().cols;
  progress.check_interrupt();
  if (view.tensor->format->label() == format->label() && !view.tensor->rotation && !view.tensor->inner) {
    progress.advance(static_cast<double>(view.shape().count()));
    return copy_packed(view).parts.at(0);
  }
  std::vector<std::byte> bytes(format->bytes(view.shape()));
  const uint64_t row_bytes = format->parts(view.shape())[0].row_bytes;
  for (uint64_t begin = 0; begin < view.rows;) {
    const uint64_t count = std::min(rows_at_a_time(view, 1), view.rows - begin);
    const std::vector<float> rows = unpack_by_all(view, begin, count, pool);
    pool.parallel_for(count, 1, [&](size_t first, size_t last, int) {
      for (size_t r = first; r < last; ++r) {  // row by row: what is packed twice stays in the cache
        const Packed row = pack_rounded(format, {1, cols}, std::span(rows).subspan(r * cols, cols));
        std::copy(row.parts[0].begin(), row.parts[0].end(),
                  bytes.begin() + static_cast<std::ptrdiff_t>((begin + r) * row_bytes));
        progress.advance(static_cast<double>(cols));
      }
    });
    progress.check_interrupt();
    begin += count;
  }
  return bytes;
}

std::shared_ptr<const Packed> round_tensor(const ModelTensor& tensor, const FormatPtr& format, ThreadPool& pool,
                                           Progress& progress) {
  auto packed = std::make_shared<Packed>(Packed{format, tensor.shape(), {{}}});
  try {
    for (const TensorView& part : tensor.parts) {
      const std::vector<std::byte> bytes = round_part(part, format, pool, progress);
      packed->parts[0].insert(packed->parts[0].end(), bytes.begin(), bytes.end());
    }
  } catch (const Error& error) {
    if (!error.where().empty()) throw;
    throw Error(error.kind(), error.message(), "tensor " + tensor.name, error.found(), error.hint());
  }
  return packed;
}

KeyValues gguf_metadata(const Model& model, Progress& progress) {
  KeyValues metadata = model.metadata;
  if (metadata.has("tokenizer.ggml.model")) return metadata;
  if (!model.tokenizer_files.contains("tokenizer.json")) {
    progress.note("the model has no tokenizer that is read here: the file gets none, and takes token ids only");
    return metadata;
  }
  std::vector<std::string> notes;
  const KeyValues keys = tokenizer_metadata(model.tokenizer_files, model.spec.vocabulary, &notes);
  for (const std::string& note : notes) progress.note(note);
  for (const KeyValue& item : keys.all()) metadata.append(item.key, item.value);
  return metadata;
}

std::filesystem::path shard_name(const std::filesystem::path& output, size_t number, size_t count) {
  if (count == 1) return output;
  return output.parent_path() /
         fmt::format("{}-{:05}-of-{:05}.gguf", output.stem().string(), number + 1, count);  // as readers want it
}

}  // namespace

Converted write_gguf_model(const Model& model, const ConvertOptions& options, ThreadPool& pool, Progress& progress) {
  const std::vector<FormatPtr> types = read_types(options.type);
  const KeyValues metadata = gguf_metadata(model, progress);
  Model again;
  again.path = model.path;
  again.metadata = metadata;
  again.tensors = model.tensors;
  check_read_back(model, std::move(again));
  const Json manifest = {{"whit", 1}, {"convert", {{"model", model.content_hash}, {"type", options.type}}}};

  Converted converted;
  std::vector<OutputTensor> tensors;
  std::vector<uint64_t> bytes;
  double weights = 0;
  const std::vector<JoinedTensor> joined = joined_tensors(model.spec, folder_family(model), false);
  for (const ModelTensor& tensor : model_tensors(model, joined)) {
    OutputTensor output;
    output.name = tensor.name;
    output.shape = tensor.shape();
    output.dimensions = tensor.is_vector() ? 1 : 2;
    output.format = choose_type(tensor, types);
    output.load = [tensor, format = output.format, &pool, &progress] {
      return round_tensor(tensor, format, pool, progress);
    };
    bytes.push_back(output.format->bytes(output.shape));
    weights += static_cast<double>(output.shape.count());
    if (!tensor.is_vector()) converted.types.push_back(output.format->name());
    tensors.push_back(std::move(output));
  }

  const std::vector<size_t> starts = shard_starts(bytes, options);
  std::vector<std::unique_ptr<AtomicFile>> files;  // all of them are there before any weight is rounded
  for (size_t i = 0; i < starts.size(); ++i) {
    converted.files.push_back(shard_name(options.output, i, starts.size()));
    check_not_an_input(converted.files[i], std::span(&model.path, 1));
    files.push_back(std::make_unique<AtomicFile>(converted.files[i], options.force));
  }
  progress.begin("convert", weights);
  for (size_t i = 0; i < starts.size(); ++i) {
    const size_t end = i + 1 < starts.size() ? starts[i + 1] : tensors.size();
    ModelOutput output;
    output.manifest = manifest.dump();
    if (i == 0) output.metadata = metadata;
    if (starts.size() > 1) {
      output.metadata.append("split.no", static_cast<uint16_t>(i));
      output.metadata.append("split.count", static_cast<uint16_t>(starts.size()));
      output.metadata.append("split.tensors.count", static_cast<int32_t>(tensors.size()));
    }
    output.tensors.assign(tensors.begin() + static_cast<std::ptrdiff_t>(starts[i]),
                          tensors.begin() + static_cast<std::ptrdiff_t>(end));
    write_model_file(*files[i], output);
    converted.bytes += files[i]->size();
  }
  progress.end();
  for (size_t i = files.size(); i-- > 0;) files[i]->commit();  // the first one, which is what is opened, last
  return converted;
}

}  // namespace whit
