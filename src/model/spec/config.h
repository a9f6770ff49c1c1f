// config.json of a Hugging Face folder, said in GGUF keys.
#pragma once

#include <map>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "base/keyvalue.h"
#include "model/spec/family.h"

namespace whit {

struct FolderConfig {
  const Family* family = nullptr;
  KeyValues metadata;  // general.*, FAMILY.*; vocab_size is left to the embedding's rows
  // Divisors of rotary frequencies as llama.cpp's tensors have them, [dimensions / 2]: rope_freqs.weight (scaling llama3),
  // rope_factors_short.weight and rope_factors_long.weight (longrope).
  std::map<std::string, std::vector<float>> divisors;
  uint64_t head_size = 0;
};

// The divisors of rotary scaling `llama3` with the parameters in `scaling`, [dimensions / 2].
std::vector<float> llama3_divisors(const nlohmann::json& scaling, double theta, uint64_t dimensions);

// What scaling `yarn` multiplies cos and sin by where nothing is said (2309.00071); `scale` is config.json's mscale.
double yarn_attention_factor(double factor, double scale = 1);

// Both spellings of transformers (4: rope_theta, rope_scaling; 5: rope_parameters). Another family, activation or rotary
// scaling, and whatever a family's table refuses, is ErrorKind::input that names what was found. `where` stands for the
// file.
FolderConfig read_config(const nlohmann::json& config, const std::string& where, const std::string& name);

}  // namespace whit
