// What a file says of its tensors, held against those that are there: a tensor's presence alone means nothing. Used by
// the readers before describe().
#pragma once

#include <optional>

#include "model/spec/config.h"
#include "model/spec/model.h"

namespace whit {

// Embedding and output: one matrix or two. `tied` is config.json's word; a GGUF file has none. A pair of the same
// weights becomes one matrix, and of a tied pair either name will do. ErrorKind::input where a matrix of its own was
// said and is not there.
void settle_output(Model& model, std::optional<bool> tied);

// Biases that config.json does not speak of, and norms' weights where it says that norms have none: left out where they
// change nothing, else ErrorKind::input. Biases that it speaks of and that no block has are zeros.
void settle_vectors(Model& model, const FolderConfig& config);

// Keys of a described model that say something and are not read: llama.cpp reads those of a family alone too. A factor of 1
// says nothing.
void note_unread_keys(Model& model);

}  // namespace whit
