// A model as the files of a Hugging Face folder say it.
#pragma once

#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "model/spec/family.h"
#include "model/spec/model.h"

namespace whit {

// config.json. `dtype` is that of the weights: "float32", "float16", "bfloat16". For a model from a folder: its own
// config.json with that dtype and without quantization_config. ErrorKind::input for what no key can say (divisors of
// rotary frequencies that are not those of `llama3`).
nlohmann::json folder_config(const Model& model, const std::string& dtype);

// That what is about to be written says what `model` says when it is read: `again` has its metadata and its tensors (names,
// shapes, divisors of frequencies). ErrorKind::input naming what is refused or another one.
void check_read_back(const Model& model, Model again);
// The same for a folder's config.json.
void check_read_back(const Model& model, const nlohmann::json& config);

// The family that the model's folder is of: its own config.json's, or the one that says what the model is.
const Family& folder_family(const Model& model);

// Where row `row` of a folder's tensor is in GGUF order, for the matrix or bias `gguf_name`. Query and key of a family that
// rotates neighbouring elements are stored half-split there.
uint64_t gguf_row_of_folder_row(const ModelSpec& spec, const std::string& gguf_name, uint64_t row);

// A tensor of an output that holds several of the model's, one under the other (vectors: one after the other).
struct JoinedTensor {
  std::string name;
  std::vector<std::string> parts;
};
// What the family's GGUF files, or its folders (`folder`: by their GGUF names), join; empty for most families.
std::vector<JoinedTensor> joined_tensors(const ModelSpec& spec, const Family& family, bool folder);

}  // namespace whit
