// What a conversation needs of a GGUF file's tokenizer: chat templates, and the special tokens that they read by name.
#pragma once

#include <cstdint>

#include "base/keyvalue.h"
#include "data/tokenizer_parts.h"

namespace whit {

void read_chat(const KeyValues& metadata, TokenizerParts& parts);  // the ids of `parts` are read by now
void write_chat(const TokenizerParts& parts, KeyValues& metadata);

// An id under a key of the tokenizer; -1: there is none.
int32_t token_id(const KeyValues& metadata, const char* key);
// The id of the token with this text, -1: there is none.
int32_t id_of_token(const TokenizerParts& parts, const std::string& text);

}  // namespace whit
