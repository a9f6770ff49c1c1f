// Models that nobody trained: any family, sizes and options drawn, and files of ours made of them whose units hold drawn
// members in drawn formats. All are legal; few are ordinary.
#pragma once

#include <filesystem>

#include "base/rng.h"
#include "format/container.h"
#include "model/spec/model.h"

namespace whit::tests {

// GGUF keys and F32 tensors of a drawn decoder.
ModelOutput drawn_model(Rng& rng);
// The same model in drawn formats and stacks, units and residual stream rotated or not.
ModelOutput in_drawn_formats(const ModelOutput& model, Rng& rng);
void write_output(const ModelOutput& output, const std::filesystem::path& path);

}  // namespace whit::tests
