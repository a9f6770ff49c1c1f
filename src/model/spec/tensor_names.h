// What a tensor is called in a Hugging Face folder and in GGUF.
#pragma once

#include <string>
#include <string_view>

namespace whit {

// "model.layers.3.mlp.up_proj.weight" -> "blk.3.ffn_up.weight"; "" for a name that is not known.
std::string folder_to_gguf_name(std::string_view name);
// The other way; "" for a name that folders do not have (rope_freqs.weight).
std::string gguf_to_folder_name(std::string_view name);

}  // namespace whit
