// A model file as whit writes it (docs/design/container.md): an ordinary GGUF when ggml types are enough, else
// general.architecture = whit with our parts, units, packed tokenizer. Always with checksums and a manifest.
#pragma once

#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "base/file.h"
#include "base/keyvalue.h"
#include "format/format.h"
#include "format/gguf.h"

namespace whit {

struct OutputTensor {
  std::string name;  // unit or tensor: "blk.0.attn_qkv.weight", "output_norm.weight"
  Shape shape;
  int dimensions = 2;           // 1: vector
  std::vector<Member> members;  // a stack in one of our formats, or rotated; empty otherwise
  FormatPtr format;
  std::function<std::shared_ptr<const Packed>()> load;  // called once, while writing, in order
  UnitRotation rotation{};                              // that of what load() gives
  // Described in whit.units, which no other program reads.
  bool is_ours() const { return !format->is_ggml() || rotation; }
};

// The tokenizer.* keys as they stand in a file of ours: zstd of their records.
struct PackedTokenizer {
  uint64_t raw_bytes = 0;  // 0: the metadata has no tokenizer keys
  std::string compressed;
};
PackedTokenizer pack_tokenizer(const KeyValues& metadata);

struct ModelOutput {
  // Base architecture's keys and tokenizer.* keys, as an ordinary GGUF has them. whit.* keys in it are left out, and
  // general.file_type and general.quantization_version are set by what the tensors are.
  KeyValues metadata;
  std::string manifest;  // JSON text, stored as whit.manifest
  std::vector<OutputTensor> tensors;
  RotationPtr stream;  // the residual stream stands in this basis (ModelSpec::stream_rotation); null: none
  // pack_tokenizer(metadata), where somebody who asks for model_file_bytes often made it already (it takes a second).
  std::shared_ptr<const PackedTokenizer> tokenizer;
  // True when any tensor is in a format of ours or rotated, or the stream is; then the tokenizer is packed and the
  // architecture is "whit".
  bool is_ours() const;
};

// What an opened file holds, as stored tensors in file order: a tensor of a ggml type by itself, the parts of one of
// our formats together as whit.units says. Throws ErrorKind::input that names the tensor for a type without a format,
// an unknown format, parts that are missing or of another size.
std::vector<StoredTensor> stored_tensors(const GgufFile& gguf);

// The rotation of the residual stream, or null. ErrorKind::input for a damaged table.
RotationPtr stored_stream(const GgufFile& gguf);

// Whether general.architecture is "whit".
bool is_whit_file(const GgufFile& gguf);
// Its metadata as an ordinary GGUF of the base architecture has it: true architecture, tokenizer keys unpacked, and of
// the whit.* keys only whit.manifest. Checksums are verified before, or the caller does without.
KeyValues model_metadata(const GgufFile& gguf);

// The exact bytes that write_model_file makes, without reading any weight.
uint64_t model_file_bytes(const ModelOutput& output);
void write_model_file(AtomicFile& file, const ModelOutput& output);

}  // namespace whit
