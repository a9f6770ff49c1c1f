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
  std::vector<std::string_view> biases;  // linears that have one, by their names in GGUF: "attn_q"
  bool tied = false;                     // the output matrix is the embedding
  uint64_t vocabulary = 0;               // rows of the embedding; 0: not told
  std::vector<std::string> notes;        // Model::notes
};

// The divisors of rotary scaling `llama3` with the parameters in `scaling`, [dimensions / 2].
std::vector<float> llama3_divisors(const nlohmann::json& scaling, double theta, uint64_t dimensions);

// What scaling `yarn` multiplies cos and sin by where nothing is said (2309.00071); `scale` is config.json's mscale.
double yarn_attention_factor(double factor, double scale = 1);

// Both spellings of transformers (4: rope_theta, rope_scaling; 5: rope_parameters), and what transformers 5 makes of files
// that have both. Another family, activation or rotary scaling, keys that contradict each other, and whatever a family's
// table refuses, is ErrorKind::input that names what was found; a key that says something and is not read is noted. `where`
// stands for the file.
FolderConfig read_config(const nlohmann::json& config, const std::string& where, const std::string& name);

}  // namespace whit
