// The reference models of tests/data that have a tokenizer, and their files.
#pragma once

#include <filesystem>
#include <map>
#include <string>

#include "base/file.h"

namespace whit::test {

inline const char* const kFolders[] = {"llama_gqa",
                                       "llama31_rope",
                                       "llama_tied_smollm",
                                       "llama2_sentencepiece",
                                       "mistral_sliding",
                                       "qwen2_bias",
                                       "qwen3_qknorm",
                                       "opt_post",
                                       "gpt2"};

inline std::filesystem::path data_path(const std::string& name) {
  return std::filesystem::path(WHIT_TESTS_DIR) / "data" / name;
}

inline std::map<std::string, std::string> tokenizer_files(const std::string& folder) {
  std::map<std::string, std::string> files;
  for (const char* name : {"tokenizer.json", "tokenizer_config.json", "config.json", "generation_config.json"})
    if (std::filesystem::exists(data_path(folder) / name)) files[name] = read_file(data_path(folder) / name);
  return files;
}

}  // namespace whit::test
