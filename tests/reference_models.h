// The models of tests/data that come with what Hugging Face transformers computed from them, by the names of their folders.
#pragma once

#include <algorithm>
#include <filesystem>
#include <string>
#include <vector>

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

// The references of these two were computed after the model had been cast to bfloat16 and back, buffers included: their
// inverse frequencies have 8 bits. Loading does not round them: that would be wrong for every real file.
inline bool has_bfloat16_frequencies(const std::string& name) { return name == "llama31_rope" || name == "qwen2_bias"; }

}  // namespace whit
