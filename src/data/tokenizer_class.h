// The class that tokenizer_config.json or config.json names. transformers 5 builds some of them anew from the
// vocabulary alone and leaves the steps of tokenizer.json aside.
#pragma once

#include <map>
#include <string>

#include "data/tokenizer_json.h"
#include "data/tokenizer_parts.h"

namespace whit {

// A sentence that names both, where the class has other steps than `top` (tokenizer.json), which `parts` was read from;
// "" where they agree.
std::string class_disagrees(const nlohmann::json& top, const std::map<std::string, std::string>& files,
                            const TokenizerParts& parts);

}  // namespace whit
