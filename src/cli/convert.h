// What `whit convert` writes: an ordinary GGUF or a Hugging Face folder, in one piece or in shards.
#pragma once

#include <cstdint>
#include <filesystem>
#include <string>
#include <vector>

#include "base/progress.h"
#include "base/threads.h"
#include "format/format.h"
#include "model/spec/export.h"
#include "model/spec/model.h"

namespace whit {

struct ConvertOptions {
  std::filesystem::path output;
  std::string type;          // "Q4_K", or several: the first whose blocks divide a row; "": as stored
  uint64_t shards = 1;       // files of weights
  uint64_t shard_bytes = 0;  // 0: no limit; else as many shards as that takes
  bool force = false;
};

struct Converted {
  std::vector<std::filesystem::path> files;  // of weights
  uint64_t bytes = 0;                        // of these
  std::vector<std::string> types;            // of each matrix
};

// A matrix or vector of the output under its GGUF name: the parts one under the other, of a vector one after the other.
struct ModelTensor {
  std::string name;
  std::vector<TensorView> parts;
  bool is_vector() const;
  Shape shape() const;
};
// Members of stacks one by one, in the order of the file, but joined where outputs of the family have them joined.
std::vector<ModelTensor> model_tensors(const Model& model, const std::vector<JoinedTensor>& joined);

// Cuts tensors of these sizes into consecutive shards; returns the first tensor of each. ErrorKind::usage where there
// are more shards than tensors, or one tensor is larger than a shard may be.
std::vector<size_t> shard_starts(const std::vector<uint64_t>& bytes, const ConvertOptions& options);

// Rows [begin, begin + count) as floats, by all threads.
std::vector<float> unpack_by_all(const TensorView& view, uint64_t begin, uint64_t count, ThreadPool& pool);
// Rows that are worked on at a time: some 32 MB of floats, a multiple of `multiple`; all rows where outputs are
// rotated.
uint64_t rows_at_a_time(const TensorView& view, uint64_t multiple);

// Both write everything or nothing. Progress is counted in weights.
Converted write_gguf_model(const Model& model, const ConvertOptions& options, ThreadPool& pool, Progress& progress);
Converted write_folder(const Model& model, const ConvertOptions& options, ThreadPool& pool, Progress& progress);

}  // namespace whit
