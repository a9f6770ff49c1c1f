// What the files of a Hugging Face folder say of single tokens: which are added and special, their names (EOS ...),
// what ends an answer.
#pragma once

#include <map>
#include <string>

#include "data/tokenizer_json.h"
#include "data/tokenizer_parts.h"

namespace whit {

// `top` is tokenizer.json, `parts` has the vocabulary of its model. Afterwards it has all tokens, as transformers 5
// would have them, with added, types, bos, eos, padding, ends, stop_strings.
void read_tokens(const nlohmann::json& top, const std::map<std::string, std::string>& files, TokenizerParts& parts);

}  // namespace whit
