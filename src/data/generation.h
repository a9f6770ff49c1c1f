// How a model wants its answers drawn: generation_config.json of a folder, general.sampling.* of a GGUF file.
#pragma once

#include <cstdint>
#include <map>
#include <nlohmann/json_fwd.hpp>
#include <optional>
#include <string>
#include <vector>

#include "base/keyvalue.h"

namespace whit {

// What the files say; the rest is the program's.
struct Sampling {
  std::optional<double> temperature, top_p, min_p, repeat_penalty;  // temperature 0: always the likeliest token
  std::optional<int32_t> top_k;                                     // 0: off

  friend bool operator==(const Sampling&, const Sampling&) = default;
};

// Values that no sampler can follow are ErrorKind::input. `notes` gets what else the files ask of answers, which is not
// done.
Sampling read_sampling(const std::map<std::string, std::string>& files, std::vector<std::string>* notes = nullptr);
Sampling read_sampling(const KeyValues& metadata, std::vector<std::string>* notes = nullptr);
// The GGUF keys, and the members of generation_config.json.
void write_sampling(const Sampling& sampling, KeyValues& metadata);
void write_sampling(const Sampling& sampling, nlohmann::json& generation);

}  // namespace whit
