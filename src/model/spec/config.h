// config.json of a Hugging Face folder, said in GGUF keys.
#pragma once

#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "base/keyvalue.h"

namespace whit {

struct FolderConfig {
  KeyValues metadata;  // general.*, llama.*; vocab_size is left to the embedding's rows
  // The divisors of rotary scaling `llama3`, [head_size / 2], as llama.cpp's tensor rope_freqs.weight has them; or
  // empty.
  std::vector<float> rope_freqs;
  uint64_t head_size = 0;
};

// The divisors of rotary scaling `llama3` with the parameters in `scaling`, [dimensions / 2].
std::vector<float> llama3_divisors(const nlohmann::json& scaling, double theta, uint64_t dimensions);

// Both spellings of transformers (4: rope_theta, rope_scaling; 5: rope_parameters). Another family, activation, bias
// or rotary scaling is ErrorKind::input that names what was found. `where` stands for the file.
FolderConfig read_config(const nlohmann::json& config, const std::string& where, const std::string& name);

}  // namespace whit
