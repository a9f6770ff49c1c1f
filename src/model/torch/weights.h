// Inside model/torch: stored tensors as floats, unpacked over the room's pool.
#pragma once

#include <string_view>

#include "model/spec/model.h"
#include "model/torch/matrix.h"

namespace whit::torch_room {

// Rows [begin, begin + count) of a view.
void unpack(const TensorView& view, uint64_t begin, uint64_t count, float* out);
// A whole tensor or member of the given shape.
Matrix unpack(const Model& model, std::string_view name, Shape shape);

}  // namespace whit::torch_room
