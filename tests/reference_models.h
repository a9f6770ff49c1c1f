// The models of tests/data that come with what Hugging Face transformers computed from them, by the names of their folders.
#pragma once

#include <algorithm>
#include <cmath>
#include <filesystem>
#include <string>
#include <vector>

#include "base/half.h"
#include "model/spec/model.h"

namespace whit {

inline std::vector<std::string> reference_models() {
  std::vector<std::string> names;
  for (const auto& entry : std::filesystem::directory_iterator(std::filesystem::path(WHIT_TESTS_DIR) / "data"))
    if (std::filesystem::exists(entry.path() / "reference.safetensors") &&
        std::filesystem::exists(entry.path() / "model.safetensors"))
      names.push_back(entry.path().filename().string());
  std::sort(names.begin(), names.end());
  return names;
}

// The references of two of them were computed after the model had been cast to bfloat16 and back, buffers included: their
// inverse frequencies have 8 bits (from the formula they differ by up to 4e-3). Loading does not round them: that would be
// wrong for every real file.
inline ModelPtr load_reference_model(const std::string& name) {
  const ModelPtr loaded = load_model(std::filesystem::path(WHIT_TESTS_DIR) / "data" / name);
  if (name != "llama31_rope" && name != "qwen2_bias") return loaded;
  auto copy = std::make_shared<Model>(*loaded);
  RotarySpec& rotary = copy->spec.rotaries[0];
  const std::vector<double> exact = rotary.inverse_frequencies();
  rotary.frequency_divisors.clear();
  const std::vector<double> base = rotary.inverse_frequencies();
  for (size_t i = 0; i < exact.size(); ++i)
    rotary.frequency_divisors.push_back(
        static_cast<float>(base[i] / bfloat16_to_float(float_to_bfloat16(static_cast<float>(exact[i])))));
  return copy;
}

}  // namespace whit
