// A model as the files of a Hugging Face folder say it.
#pragma once

#include <nlohmann/json.hpp>
#include <string>

#include "model/spec/model.h"

namespace whit {

// config.json. `dtype` is that of the weights: "float32", "float16", "bfloat16". For a model from a folder: its own
// config.json with that dtype and without quantization_config. ErrorKind::input for what no key can say (divisors of
// rotary frequencies that are not those of `llama3`).
nlohmann::json folder_config(const Model& model, const std::string& dtype);

// The rows of `view` in the order of a folder: row r of the result is row folder_row(...) of the view in GGUF order.
// Query and key of a family that rotates neighbouring elements are stored half-split there.
uint64_t gguf_row_of_folder_row(const ModelSpec& spec, const std::string& gguf_name, uint64_t row);

}  // namespace whit
