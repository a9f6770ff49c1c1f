// A loaded model: description, stored tensors (memory-mapped), metadata. Immutable and shared.
#pragma once

#include <filesystem>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "base/keyvalue.h"
#include "base/progress.h"
#include "format/tensor.h"
#include "model/spec/spec.h"

namespace whit {

struct Model {
  ModelSpec spec;
  std::vector<StoredTensor> tensors;  // in file order; stacks of our formats are one tensor with members
  // GGUF keys in GGUF meaning (for a folder: made from config.json), tokenizer keys unpacked and included for GGUF
  // files.
  KeyValues metadata;
  // Text of tokenizer.json, tokenizer_config.json, generation_config.json, chat_template.jinja, config.json and
  // additional_chat_templates/*.jinja of a folder; empty for GGUF.
  std::map<std::string, std::string> tokenizer_files;
  std::filesystem::path path;
  std::string weights;       // for people: "gguf Q4_1", "safetensors F32", "whit"
  uint64_t file_bytes = 0;   // file, or sum of the folder's weight files
  std::string integrity;     // "ok", "absent", or "not verified"
  std::string content_hash;  // hex; over header and data (folder: config and weight files)
  std::string basis;         // names what basis.h did to the original; empty: nothing
  // What a reader settled where the files say one thing and hold another, a sentence each: said once when the model is
  // opened.
  std::vector<std::string> notes;

  // Of what is derived from the weights as they are seen; content_hash is of the function that they compute.
  std::string weights_hash() const { return content_hash + basis; }

  // A tensor or member by its GGUF name; a false view when absent.
  TensorView find(std::string_view name) const noexcept;
  // The same, ErrorKind::input naming model and tensor when absent or of another shape.
  TensorView need(std::string_view name, Shape shape) const;
  TensorView output() const { return need(spec.output_name(), {spec.vocabulary, spec.embedded()}); }
  // A vector (norm gain, bias) as floats.
  std::vector<float> vector(std::string_view name, uint64_t count) const;
};

using ModelPtr = std::shared_ptr<const Model>;

struct LoadOptions {
  bool verify = true;  // checksums of our files
};

// GGUF file or Hugging Face folder. Everything unknown (family, tensor type, rope scaling) is ErrorKind::input that
// names what was found. Weights stay in the mapped file.
ModelPtr load_model(const std::filesystem::path& path, const LoadOptions& options = {});
// The same, and says the model's notes.
ModelPtr load_model(const std::filesystem::path& path, const LoadOptions& options, Progress& progress);

}  // namespace whit
